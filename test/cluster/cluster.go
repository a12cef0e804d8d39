package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/test/run"
)

const (
	size      = 3
	patience  = 2 * time.Minute // for what must happen at some time; it only matters when it does not
	stopLimit = 5 * time.Second // from SIGTERM to the end of a process
	keep      = "100GiB"        // of a room's messages: all of them
)

// cluster is three servers that are one bus.
type cluster struct {
	dir      string
	identity string // the founder's file
	keys     string // the service's file
	nodes    [size]*node
}

// node is one server, which may be running.
type node struct {
	c            *cluster
	name         string
	listen, peer string // addresses for clients, and for the other servers
	args         []string
	process      *process // the last one
}

// process is one run of a server.
type process struct {
	cmd   *exec.Cmd
	ready chan error    // receives one
	gone  chan struct{} // closed when the process has ended
}

// newCluster prepares three servers; none is running yet.
func newCluster(dir string) (*cluster, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, identity: filepath.Join(dir, "founder.nk"), keys: filepath.Join(dir, "service.nk")}
	id, err := unibus.NewIdentity()
	if err != nil {
		return nil, err
	}
	if err := unibus.SaveIdentity(c.identity, id, "founder"); err != nil {
		return nil, err
	}
	if _, _, err := bus.LoadOrMakeKeys(c.keys); err != nil {
		return nil, err
	}
	var routes []string
	for i := range c.nodes {
		c.nodes[i] = &node{c: c, name: fmt.Sprintf("n%d", i+1), listen: freeport.Local(), peer: freeport.Local()}
		routes = append(routes, c.nodes[i].peer)
	}
	for _, n := range c.nodes {
		n.args = []string{"serve", "--store", "jetstream", "--keys", c.keys, "--data", filepath.Join(dir, n.name), "--server-name", n.name,
			"--listen", n.listen, "--cluster-name", "c", "--cluster-listen", n.peer, "--routes", strings.Join(routes, ",")}
	}
	return c, nil
}

// up starts all servers and waits until they are ready.
func (c *cluster) up(ctx context.Context) error {
	for _, n := range c.nodes {
		if n.running() {
			continue
		}
		if err := n.start(); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := n.isReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// down stops all servers.
func (c *cluster) down() error {
	var failed []error
	for _, n := range c.nodes {
		if n.running() {
			_, err := n.stop()
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// complaints are what no process may say, whatever happens to it.
func (c *cluster) complaints() error {
	files, err := filepath.Glob(filepath.Join(c.dir, "*.log"))
	if err != nil {
		return err
	}
	var failed []error
	for _, file := range files {
		said, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, bad := range []string{"DATA RACE", "panic: ", "fatal error: "} {
			if i := bytes.Index(said, []byte(bad)); i >= 0 {
				failed = append(failed, fmt.Errorf("%s: %s", filepath.Base(file), said[i:min(len(said), i+6000)]))
			}
		}
	}
	return errors.Join(failed...)
}

// servers are the addresses of all nodes.
func (c *cluster) servers() string {
	var list []string
	for _, n := range c.nodes {
		list = append(list, n.url())
	}
	return strings.Join(list, ",")
}

// command is unibus run by the founder, with what it says on stderr in a file.
func (c *cluster) command(ctx context.Context, servers string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, *binary, args...)
	cmd.Env = append(os.Environ(), "UNIBUS_IDENTITY="+c.identity, "UNIBUS_STATE="+filepath.Join(c.dir, "state"), "UNIBUS_SERVER="+servers,
		"UNIBUS_QUIET=true", "XDG_CONFIG_HOME="+c.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	return cmd
}

// unibus runs one command, which has to succeed.
func (c *cluster) unibus(ctx context.Context, args ...string) (string, error) {
	cmd := c.command(ctx, c.servers(), append([]string{"--timeout", "20s"}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(&said, c.log("clients"))
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("unibus %s: %w: %s", strings.Join(args, " "), err, said.Bytes())
	}
	return strings.TrimSpace(string(out)), err
}

// room makes a stored room.
func (c *cluster) room(ctx context.Context, subject string) (crypto.ID, error) {
	out, err := c.unibus(ctx, "room", "create", subject, "--max-bytes", keep)
	if err != nil {
		return crypto.ID{}, err
	}
	return crypto.ParseID(out)
}

// operator connects by way of a node with the service's keys.
func (c *cluster) operator(n *node) (*nats.Conn, error) {
	keys, err := bus.LoadKeys(c.keys)
	if err != nil {
		return nil, err
	}
	return bus.Operator(bus.DialOptions{Servers: n.url(), Keys: keys, Timeout: 10 * time.Second})
}

// appender writes to the end of a file, opened for each write: few are made.
type appender string

func (a appender) Write(p []byte) (int, error) {
	f, err := os.OpenFile(string(a), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Write(p)
}

// log is where processes say what goes on.
func (c *cluster) log(name string) io.Writer { return appender(filepath.Join(c.dir, name+".log")) }

func (n *node) url() string { return "nats://" + n.listen }

func (n *node) running() bool {
	if n.process == nil {
		return false
	}
	select {
	case <-n.process.gone:
		return false
	default:
		return true
	}
}

// start starts the server; it need not be ready when start returns.
func (n *node) start() error {
	cmd := n.c.command(context.Background(), "", n.args...)
	cmd.Stderr = n.c.log(n.name)
	ready, err := run.Serve(cmd)
	if err != nil {
		return err
	}
	p := &process{cmd: cmd, ready: make(chan error, 1), gone: make(chan struct{})}
	n.process = p
	go func() { // ends with the process
		_, err := ready()
		p.ready <- err
		_ = cmd.Wait() // how a server ends that was told to does not matter
		close(p.gone)
	}()
	return nil
}

// isReady waits until the server says that it is ready.
func (n *node) isReady(ctx context.Context) error {
	select {
	case err := <-n.process.ready:
		n.process.ready <- err
		if err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return fmt.Errorf("%s is not ready after %v", n.name, patience)
	}
}

// stop tells the server to stop and says how long it took. One that does not end in time says what it is
// doing, and is killed.
func (n *node) stop() (time.Duration, error) {
	began := time.Now()
	if err := n.process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, nil // it has ended already
	}
	select {
	case <-n.process.gone:
	case <-time.After(stopLimit):
		_ = n.process.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-n.process.gone:
		case <-time.After(stopLimit):
			_ = n.process.cmd.Process.Kill()
			<-n.process.gone
		}
		return time.Since(began), fmt.Errorf("%s did not end within %v of SIGTERM", n.name, stopLimit)
	}
	took := time.Since(began)
	tell("%s stopped in %v", n.name, took.Round(time.Millisecond))
	return took, nil
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// eventually tries until f succeeds.
func eventually(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if pause(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("not after %v: %w", patience, err)
		}
	}
}
