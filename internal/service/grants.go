package service

import (
	"container/list"
	"slices"
	"sync"

	"github.com/unibus/unibus/internal/crypto"
)

// Grants that are remembered: 2 kB each, at most. Of one user more than it can have connections, so that one who
// logs in and out without end makes the service forget its own and nobody else's.
const (
	maxGrants    = 32 << 10
	grantsOfUser = maxConnections + 64
)

// grants remembers in which rooms the connections that this service let in have rights, until they go.
type grants struct {
	mu    sync.Mutex
	conns map[connID]grant
	users map[crypto.PublicKey]*granted // of whoever has a connection in conns
	order *list.List                    // *granted, of the same, as they came first
}

// granted are the connections of a user that are remembered, as they came, and the user's place in the order.
type granted struct {
	conns []connID
	at    *list.Element
}

// grant is what a connection was let in for.
type grant struct {
	user  crypto.PublicKey
	rooms []crypto.ID
}

// newGrants remembers nothing yet.
func newGrants() *grants {
	return &grants{conns: map[connID]grant{}, users: map[crypto.PublicKey]*granted{}, order: list.New()}
}

// put remembers a connection. Beyond what may be remembered the user's own oldest goes, or that of whoever has been
// here longest.
func (g *grants) put(user crypto.PublicKey, conn connID, rooms []crypto.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch own := g.users[user]; {
	case own != nil && len(own.conns) >= grantsOfUser:
		g.forget(own.conns[0])
	case len(g.conns) >= maxGrants:
		g.forget(g.order.Front().Value.(*granted).conns[0])
	}
	own := g.users[user]
	if own == nil {
		own = new(granted)
		own.at = g.order.PushBack(own)
		g.users[user] = own
	}
	own.conns = append(own.conns, conn)
	g.conns[conn] = grant{user, rooms}
}

// gone forgets a connection that has ended.
func (g *grants) gone(conn connID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(conn)
}

// forget is gone for whoever holds the lock.
func (g *grants) forget(conn connID) {
	was, ok := g.conns[conn]
	if !ok {
		return
	}
	delete(g.conns, conn)
	own := g.users[was.user]
	own.conns = slices.DeleteFunc(own.conns, func(c connID) bool { return c == conn })
	if len(own.conns) == 0 {
		delete(g.users, was.user)
		g.order.Remove(own.at)
	}
}

// of returns the rooms of a connection, and whether it is remembered.
func (g *grants) of(conn connID) (rooms []crypto.ID, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was, known := g.conns[conn]
	return was.rooms, known
}
