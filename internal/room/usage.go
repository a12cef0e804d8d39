package room

import (
	"context"
	"fmt"
	"sync"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// Renew rekeys a room whose epoch has outlived its policy, if this client may; if not it warns, once an epoch, and
// refuses past a quarter more (SPEC.md §6).
func (r Changes) Renew(ctx context.Context) error {
	room := r.Ledger()
	epoch := room.Epoch().Number
	age, manages := room.Ageing(r.Now(), r.Used.Of(epoch)), room.Role(r.Key()).Manages()
	switch {
	case age == ledger.Fresh:
		return nil
	case manages:
		return r.Rekey(ctx)
	case age == ledger.Overdue:
		return remedy.With(fmt.Errorf("room %s: %w: its key is older, or was used more, than the room's policy allows", r.Subject(), store.ErrDenied),
			r.Remedy(remedy.RenewKey))
	case r.Used.warn(epoch):
		r.Tell("the key of %s is due to be renewed by an owner or admin of it", r.Subject())
	}
	return nil
}

// Usage counts the messages of a room's newest epoch that this process has sent or read, by which its key grows old where
// the policy says so. The zero value is ready, and safe for concurrent use.
type Usage struct {
	mu       sync.Mutex
	epoch    uint32
	messages uint64
	warned   uint32
}

// Add counts messages of an epoch.
func (u *Usage) Add(epoch uint32, messages int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if epoch > u.epoch {
		u.epoch, u.messages = epoch, 0
	}
	if epoch == u.epoch {
		u.messages += uint64(messages)
	}
}

// Of returns how many there were of an epoch.
func (u *Usage) Of(epoch uint32) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if epoch != u.epoch {
		return 0
	}
	return u.messages
}

// warn reports whether people are to be told that an epoch's key is due to be renewed: once for each epoch.
func (u *Usage) warn(epoch uint32) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	first := u.warned != epoch
	u.warned = epoch
	return first
}
