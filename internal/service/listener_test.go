package service

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/unibus/unibus/internal/host"
)

// TestBoundedConnections: connections are closed at once that are too many from one address, or altogether, until others
// end. There is room for a share of the descriptors only.
func TestBoundedConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := newBounded(l, func() (host.Descriptors, error) { return host.Descriptors{Limit: 64}, nil })
	accepted := make(chan net.Conn, 64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := b.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte{1}) // who is not there any more need not be told
			accepted <- c
		}
	}()
	dial := func(from int) bool {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(fmt.Sprintf("127.0.0.%d", from))}}
		c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, err = io.ReadFull(c, make([]byte, 1))
		return err == nil
	}
	for from := 1; from <= 3; from++ { // 16 in all, 8 each
		for i := range 9 {
			if got, want := dial(from), i < 8 && from < 3; got != want {
				t.Errorf("connection %d from address %d: let in %v", i+1, from, got)
			}
		}
	}
	first := <-accepted
	for range 2 { // closing twice makes room once
		_ = first.Close()
	}
	if !dial(1) || dial(1) || dial(3) {
		t.Error("one ended: there is no room for one, or for two")
	}
	_ = l.Close()
	<-done
	for len(accepted) > 0 {
		_ = (<-accepted).Close()
	}
	if b.n != 0 || len(b.open) != 0 {
		t.Errorf("%d are open, %v", b.n, b.open)
	}
}

// TestNetwork: one customer's IPv6 addresses are one network, an IPv4 address is one by itself however it is written, and
// what has no address shares one.
func TestNetwork(t *testing.T) {
	of := func(ip string) netip.Prefix { return network(&net.TCPAddr{IP: net.ParseIP(ip), Port: 7}) }
	for _, c := range []struct {
		a, b net.Addr
		same bool
	}{
		{&net.TCPAddr{IP: net.ParseIP("10.0.0.1"), Port: 1}, &net.TCPAddr{IP: net.ParseIP("10.0.0.1"), Port: 2}, true},
		{&net.TCPAddr{IP: net.ParseIP("10.0.0.1")}, &net.TCPAddr{IP: net.ParseIP("10.0.0.2")}, false},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1")}, &net.TCPAddr{IP: net.ParseIP("2001:db8::2:0:0:1")}, true},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1")}, &net.TCPAddr{IP: net.ParseIP("2001:db8:0:1::1")}, false},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "a"}, &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "b"}, true},
		{&net.UnixAddr{Name: "a"}, &net.UnixAddr{Name: "b"}, true},
	} {
		if got := network(c.a) == network(c.b); got != c.same {
			t.Errorf("%v and %v are one network: %v", c.a, c.b, got)
		}
	}
	if got := of("::ffff:10.0.0.1"); got != of("10.0.0.1") || got.Bits() != 32 {
		t.Errorf("an IPv4 address is in %v", got)
	}
}
