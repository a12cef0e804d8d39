package service

import (
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// TestGrants: whoever logs in without end makes the service forget its own connections, and nobody else's; what
// has ended is forgotten; and there is an end to what is remembered.
func TestGrants(t *testing.T) {
	g := newGrants()
	user := func(n int) crypto.PublicKey { return crypto.PublicKey{byte(n), byte(n >> 8)} }
	conn := func(n int) connID { return connID{"S", uint64(n)} }
	g.put(user(1), conn(1), []crypto.ID{{7}})
	for n := range 10 * grantsOfUser {
		g.put(user(2), conn(1000+n), nil)
	}
	if rooms, ok := g.of(conn(1)); !ok || len(rooms) != 1 {
		t.Error("another's logins had a connection forgotten")
	}
	if len(g.conns) != grantsOfUser+1 {
		t.Errorf("%d connections are remembered", len(g.conns))
	}
	if _, ok := g.of(conn(1000)); ok {
		t.Error("one's own oldest is remembered")
	}
	g.gone(conn(1))
	g.gone(conn(1))
	if _, ok := g.of(conn(1)); ok {
		t.Error("what has ended is remembered")
	}
	for n := range maxGrants + 10 {
		g.put(user(10+n), conn(1_000_000+n), nil)
	}
	if len(g.conns) != maxGrants || g.order.Len() != len(g.users) {
		t.Errorf("%d connections are remembered, of %d users", len(g.conns), len(g.users))
	}
	for n := range maxGrants + 10 {
		g.gone(conn(1_000_000 + n))
	}
	if len(g.conns)+len(g.users)+g.order.Len() != 0 {
		t.Errorf("%d connections are left", len(g.conns))
	}
}
