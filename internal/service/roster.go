package service

import (
	"sync"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// roster is who may use the bus as far as the service has read its log: at hand without asking the store, and
// perhaps a moment old. It says whose turn a request takes, and lets nobody in: for that the store is asked.
type roster struct {
	mu    sync.RWMutex
	users map[crypto.PublicKey]time.Time // who is active, and until when; zero: for good
}

// has reports whether a key is a user's who may connect at a time.
func (r *roster) has(key crypto.PublicKey, now time.Time) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	until, ok := r.users[key]
	return ok && (until.IsZero() || now.Before(until))
}

// note takes over what an entry that was just applied says of users; nothing if its log is a room's.
func (r *roster) note(s *ledger.State, e *ledger.Entry) {
	if s.Bus == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range ledger.Touched(e) {
		if u := s.Bus.User(key); u.Active {
			r.users[key] = u.Expires
		} else {
			delete(r.users, key)
		}
	}
}
