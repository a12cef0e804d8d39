package jetstream

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// copied is a copy of unibus_users, brought up to a barrier before each use: about 300 bytes a user.
type copied struct {
	sync.RWMutex
	users map[crypto.PublicKey]ledger.User
	read  uint64 // where reading goes on
	rev   uint64 // everything up to here is in it
}

// allowlist returns the copy as of the call or later, locked for reading.
func (s *Store) allowlist(ctx context.Context) (*copied, error) {
	seq, err := s.users.index(ctx)
	if err != nil {
		return nil, err
	}
	c := &s.allowed
	c.RLock()
	if c.rev >= seq {
		return c, nil
	}
	c.RUnlock()
	if err := s.refresh(ctx, seq); err != nil {
		return nil, err
	}
	c.RLock()
	return c, nil
}

// refresh reads what was written since the copy, up to seq at least.
func (s *Store) refresh(ctx context.Context, seq uint64) error {
	c := &s.allowed
	c.Lock()
	defer c.Unlock()
	for all := c.rev >= seq; !all; {
		var a answer
		var err error
		if a, all, err = s.users.page(ctx, c.read, seq); err != nil {
			return err
		}
		if err := c.take(a.records); err != nil {
			return err
		}
		c.read, seq = a.last, 0
	}
	c.rev = max(c.rev, c.read)
	return nil
}

// take puts records into the copy.
func (c *copied) take(records []record) error {
	for _, r := range records {
		if r.key == headKey {
			continue
		}
		if len(r.value) == 0 { // Rebuild found it to be nobody's
			if k, err := crypto.ParsePublicKey(r.key); err == nil {
				delete(c.users, k)
			}
			continue
		}
		var v userRecord
		if err := decode(r, &v); err != nil {
			return err
		}
		c.users[v.Key] = v.User()
	}
	return nil
}

// User returns what the allowlist says of a key.
func (s *Store) User(ctx context.Context, endpoint crypto.PublicKey) (ledger.User, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	c, err := s.allowlist(ctx)
	if err != nil {
		return ledger.User{}, fmt.Errorf("user %s: %w", endpoint, failure(err))
	}
	defer c.RUnlock()
	u, ok := c.users[endpoint]
	if !ok {
		return u, fmt.Errorf("user %s: %w", endpoint, store.ErrNotFound)
	}
	return u, nil
}

// Users yields the users after a key, by key, as of the call.
func (s *Store) Users(ctx context.Context, after crypto.PublicKey) iter.Seq2[ledger.User, error] {
	return func(yield func(ledger.User, error) bool) {
		op, cancel := s.op(ctx)
		defer cancel()
		c, err := s.allowlist(op)
		if err != nil {
			yield(ledger.User{}, fmt.Errorf("users: %w", failure(err)))
			return
		}
		keys := slices.Collect(maps.Keys(c.users))
		c.RUnlock()
		keys = slices.DeleteFunc(keys, func(k crypto.PublicKey) bool { return bytes.Compare(k[:], after[:]) <= 0 })
		slices.SortFunc(keys, func(a, b crypto.PublicKey) int { return bytes.Compare(a[:], b[:]) })
		for _, key := range keys {
			c.RLock()
			u := c.users[key]
			c.RUnlock()
			if !yield(u, nil) {
				return
			}
		}
	}
}

// IsAuthorized reports whether an endpoint may connect now.
func (s *Store) IsAuthorized(ctx context.Context, endpoint crypto.PublicKey) (bool, error) {
	return s.any(ctx, func(c *copied, now time.Time) bool {
		u, ok := c.users[endpoint]
		return ok && u.ActiveAt(now)
	})
}

// HasAdmin reports whether the bus has an active admin.
func (s *Store) HasAdmin(ctx context.Context) (bool, error) {
	return s.any(ctx, func(c *copied, now time.Time) bool {
		for _, u := range c.users {
			if u.Role == ledger.RoleAdmin && u.ActiveAt(now) {
				return true
			}
		}
		return false
	})
}

func (s *Store) any(ctx context.Context, f func(c *copied, now time.Time) bool) (bool, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	c, err := s.allowlist(ctx)
	if err != nil {
		return false, fmt.Errorf("allowlist: %w", failure(err))
	}
	defer c.RUnlock()
	return f(c, time.Now()), nil
}
