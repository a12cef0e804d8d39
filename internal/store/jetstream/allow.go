package jetstream

import (
	"bytes"
	"context"
	"errors"
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
	rev   uint64 // everything up to here is in it
}

// batch is how many records of the bucket are fetched at once.
const batch = 1024

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
	for wait := retryWait; c.rev < seq; {
		found := map[string]record{}
		request := map[string]any{"seq": c.rev + 1, "next_by_subj": s.users.prefix + ">", "batch": batch}
		reached, err := s.users.ask(ctx, found, request, seq)
		if err != nil && !passing(err) {
			return err
		}
		if err == nil {
			if err := c.take(found); err != nil {
				return err
			}
		}
		switch {
		case err == nil && reached:
			c.rev = max(c.rev, seq)
			continue
		case err == nil && len(found) > 0:
			continue
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(wait):
			wait = min(2*wait, maxWait)
		}
	}
	return nil
}

// take puts records into the copy.
func (c *copied) take(found map[string]record) error {
	for key, r := range found {
		c.rev = max(c.rev, r.rev)
		if key == headKey {
			continue
		}
		if len(r.value) == 0 { // Rebuild found it to be nobody's
			if k, err := crypto.ParsePublicKey(key); err == nil {
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
