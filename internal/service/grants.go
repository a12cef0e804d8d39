package service

import (
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
	users map[crypto.PublicKey][]connID // as they came, of those in conns
	order []crypto.PublicKey            // of users, as they came first
}

// grant is what a connection was let in for.
type grant struct {
	user  crypto.PublicKey
	rooms []crypto.ID
}

// newGrants remembers nothing yet.
func newGrants() *grants {
	return &grants{conns: map[connID]grant{}, users: map[crypto.PublicKey][]connID{}}
}

// put remembers a connection. Beyond what may be remembered the user's own oldest goes, or that of whoever has been
// here longest.
func (g *grants) put(user crypto.PublicKey, conn connID, rooms []crypto.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch own := g.users[user]; {
	case len(own) >= grantsOfUser:
		g.forget(own[0])
	case len(g.conns) >= maxGrants:
		g.forget(g.users[g.order[0]][0])
	}
	if len(g.users[user]) == 0 {
		g.order = append(g.order, user)
	}
	g.conns[conn] = grant{user, rooms}
	g.users[user] = append(g.users[user], conn)
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
	user := was.user
	delete(g.conns, conn)
	left := slices.DeleteFunc(g.users[user], func(c connID) bool { return c == conn })
	if g.users[user] = left; len(left) == 0 {
		delete(g.users, user)
		i := slices.Index(g.order, user)
		g.order = slices.Delete(g.order, i, i+1)
	}
}

// of returns the rooms of a connection, and whether it is remembered.
func (g *grants) of(conn connID) (rooms []crypto.ID, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was, known := g.conns[conn]
	return was.rooms, known
}
