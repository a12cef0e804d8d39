package jetstream

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/freeport"
)

// cluster is some real NATS servers in this process, whose routes go through pipes that can be cut.
type cluster struct {
	t       testing.TB
	configs []*server.Options
	servers []*server.Server
	pipes   [][]*pipe // [from][to]
}

// nowhere is an address at which nothing listens.
const nowhere = "127.0.0.1:1"

// newCluster starts n servers with JetStream, and waits until they are one.
func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	c := &cluster{t: t, servers: make([]*server.Server, n)}
	ports := make([]int, n)
	for i := range n {
		ports[i] = freeport.Port()
	}
	for i := range n {
		var row []*pipe
		o := &server.Options{
			ServerName: fmt.Sprintf("s%d", i), Host: "127.0.0.1", Port: freeport.Port(), JetStream: true, StoreDir: t.TempDir(),
			NoSigs: true, SyncAlways: true,
		}
		for a := range 32 { // each test has an account to itself
			acc := server.NewAccount(fmt.Sprintf("A%d", a))
			o.Accounts = append(o.Accounts, acc)
			o.Users = append(o.Users, &server.User{Username: acc.Name, Password: "x", Account: acc})
		}
		if n > 1 {
			// Servers tell one another where others listen, and connect there too. It has to lead nowhere: such a route
			// would go past the pipes, and a cut would part nobody.
			o.Cluster = server.ClusterOpts{
				Name: "C", Host: "127.0.0.1", Port: ports[i], NoAdvertise: true, Advertise: nowhere, PoolSize: -1,
			}
			for j := range n {
				if j == i {
					row = append(row, nil)
					continue
				}
				p := newPipe(t, ports[j])
				row = append(row, p)
				o.Routes = append(o.Routes, server.RoutesFromStr("nats://"+p.listener.Addr().String())...)
			}
		}
		c.pipes = append(c.pipes, row)
		c.configs = append(c.configs, o)
	}
	for i := range n {
		c.start(i)
	}
	t.Cleanup(func() {
		for i := range n {
			c.stop(i)
		}
	})
	return c
}

func (c *cluster) start(i int) {
	c.t.Helper()
	o := c.configs[i].Clone()
	s, err := server.NewServer(o)
	if err != nil {
		c.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		c.t.Fatal("a server does not start")
	}
	c.servers[i] = s
	for a := range o.Accounts {
		acc, err := s.LookupAccount(fmt.Sprintf("A%d", a))
		if err == nil {
			err = acc.EnableJetStream(nil, nil)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) stop(i int) {
	if s := c.servers[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.servers[i] = nil
	}
}

// cut parts one server from the others, or joins it to them again.
func (c *cluster) cut(i int, off bool) {
	for j := range c.pipes {
		if j != i {
			c.pipes[i][j].set(off)
			c.pipes[j][i].set(off)
		}
	}
}

// connect connects to one server, or to all of them in turn for i < 0, in an account.
func (c *cluster) connect(i, account int) *nats.Conn {
	c.t.Helper()
	url := ""
	for j, s := range c.servers {
		if s != nil && (i < 0 || i == j) {
			url += "," + s.ClientURL()
		}
	}
	nc, err := nats.Connect(url[1:], nats.UserInfo(fmt.Sprintf("A%d", account), "x"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	return nc
}

// pipe forwards TCP connections to a port until it is cut.
type pipe struct {
	listener net.Listener
	to       int

	mu    sync.Mutex
	off   bool
	conns map[net.Conn]bool
}

func newPipe(t testing.TB, to int) *pipe {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pipe{listener: l, to: to, conns: map[net.Conn]bool{}}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
			if err != nil || !p.hold(in, out) {
				in.Close()
				if out != nil {
					out.Close()
				}
				continue
			}
			for _, ends := range [][2]net.Conn{{in, out}, {out, in}} {
				wait.Go(func() {
					_, _ = io.Copy(ends[0], ends[1]) // it ends when either side does
					ends[0].Close()
					ends[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() { p.set(true); l.Close(); wait.Wait() })
	return p
}

func (p *pipe) hold(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return !p.off
}

func (p *pipe) set(off bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off = off
	if off {
		for c := range p.conns {
			c.Close()
		}
		clear(p.conns)
	}
}
