package service

import (
	"sync"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// The roster is who is on the bus, at hand: whose turn something takes is asked thousands of times a second.

// roster is who may use the bus as far as the service has read its log: at hand without asking the store, and
// perhaps a moment old. It says whose turn a request takes, and lets nobody in alone: for that the store is asked too.
type roster struct {
	mu    sync.RWMutex
	users map[crypto.PublicKey]standing
}

// standing is what the bus log says of somebody who is active.
type standing struct {
	until time.Time // zero: for good
	admin bool
}

// has reports whether a key is a user's who may connect at a time.
func (r *roster) has(key crypto.PublicKey, now time.Time) bool {
	_, ok := r.get(key, now)
	return ok
}

// get returns what the log says of a user who may connect at a time.
func (r *roster) get(key crypto.PublicKey, now time.Time) (standing, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	u, ok := r.users[key]
	return u, ok && (u.until.IsZero() || now.Before(u.until))
}

// count is how many users may connect at a time.
func (r *roster) count(now time.Time) (n int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, u := range r.users {
		if u.until.IsZero() || now.Before(u.until) {
			n++
		}
	}
	return n
}

// update takes over what the bus log says of users whom it has touched since; nothing if the log is a room's.
func (r *roster) update(s *ledger.State, touched []crypto.PublicKey) {
	if s.Bus == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range touched {
		if u := s.Bus.User(key); u.Active {
			r.users[key] = standing{u.Expires, u.Role == ledger.RoleAdmin}
		} else {
			delete(r.users, key)
		}
	}
}
