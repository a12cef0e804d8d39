package service

import (
	"net"
	"net/netip"
	"sync"

	"github.com/unibus/unibus/internal/host"
)

// Bounds of connections to the API over TCP. Strangers may make them, and each takes a descriptor, which logins and
// streams need as well.
const (
	maxConns    = 1024
	connShare   = 4         // of the descriptors that there may be, connections take one in so many
	addrShare   = 2         // and those from one address one of them in so many
	writeBuffer = 128 << 10 // bytes that the system keeps for a reader who does not read
)

// bounded is a listener that closes connections at once which are too many, of all or from one address: to wait for
// their turn would be to wait for whoever keeps theirs.
type bounded struct {
	net.Listener
	all, each int

	mu   sync.Mutex
	open map[netip.Prefix]int
	n    int
}

// newBounded bounds the connections of a listener by what there are of descriptors when it begins.
func newBounded(l net.Listener, files func() (host.Descriptors, error)) *bounded {
	all := maxConns
	if d, err := files(); err == nil {
		all = min(all, max(int(d.Limit/connShare), 2*addrShare))
	}
	return &bounded{Listener: l, all: all, each: all / addrShare, open: map[netip.Prefix]int{}}
}

// Accept waits for a connection that there is room for.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := network(c.RemoteAddr())
		if !b.enter(from) {
			_ = c.Close() // it is of no use to anybody
			continue
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetWriteBuffer(writeBuffer) // without it the system keeps more
		}
		return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { b.leave(from) })}, nil
	}
}

// enter counts a connection from a network; false when there are as many as may be, and then it is not counted.
func (b *bounded) enter(from netip.Prefix) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n >= b.all || b.open[from] >= b.each {
		return false
	}
	b.n++
	b.open[from]++
	return true
}

// leave counts one of them no more.
func (b *bounded) leave(from netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n--
	if b.open[from]--; b.open[from] == 0 {
		delete(b.open, from)
	}
}

// network is what counts as one address: of IPv6 what one customer is given.
func network(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap()
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.WithZone("").Prefix(bits) // there are as many bits
	return p
}

// boundedConn makes room when it is closed.
type boundedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection.
func (c *boundedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
