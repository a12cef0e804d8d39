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

// This file is store.Allowlist: a copy of unibus_users in memory, brought up to a barrier before each answer, so that an
// answer costs no more than the barrier, which checks share.

// allowlist is store.Allowlist.
type allowlist struct {
	*conn
	*buckets
	copy usersCopy
}

// newAllowlist reads nothing yet.
func newAllowlist(c *conn, b *buckets) *allowlist {
	return &allowlist{conn: c, buckets: b, copy: usersCopy{users: map[crypto.PublicKey]ledger.User{}}}
}

// usersCopy holds what unibus_users said up to a place: about 300 bytes a user. It only goes on.
type usersCopy struct {
	mu      sync.RWMutex
	users   map[crypto.PublicKey]ledger.User
	read    uint64 // where reading goes on
	current uint64 // everything up to here is in it
}

// reaches reports whether everything up to a place is in the copy.
func (c *usersCopy) reaches(seq uint64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.current >= seq
}

// user is what the copy says of a key.
func (c *usersCopy) user(key crypto.PublicKey) (ledger.User, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	u, ok := c.users[key]
	return u, ok
}

// keys are those of all users, in any order.
func (c *usersCopy) keys() []crypto.PublicKey {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Collect(maps.Keys(c.users))
}

// hasAdmin reports whether one of the users is an admin who may connect at a time.
func (c *usersCopy) hasAdmin(now time.Time) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, u := range c.users {
		if u.Role == ledger.RoleAdmin && u.ActiveAt(now) {
			return true
		}
	}
	return false
}

// readOn reads what was written since the copy, up to seq at least. Who asks the copy meanwhile waits.
func (c *usersCopy) readOn(ctx context.Context, from *bucket, seq uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for all := c.current >= seq; !all; {
		var a answer
		var err error
		if a, all, err = from.page(ctx, c.read, seq); err != nil {
			return err
		}
		if err := c.take(a.records); err != nil {
			return err
		}
		c.read, seq = a.last, 0
	}
	c.current = max(c.current, c.read)
	return nil
}

// take puts records into the copy. Its lock is held.
func (c *usersCopy) take(records []record) error {
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

// now is the copy as of the call or later.
func (a *allowlist) now(ctx context.Context) (*usersCopy, error) {
	seq, err := a.users.index(ctx)
	if err == nil && !a.copy.reaches(seq) {
		err = a.copy.readOn(ctx, a.users, seq)
	}
	return &a.copy, err
}

// everyone is the keys of all users, in any order, as of the call or later.
func (a *allowlist) everyone(ctx context.Context) ([]crypto.PublicKey, error) {
	c, err := a.now(ctx)
	if err != nil {
		return nil, err
	}
	return c.keys(), nil
}

// User returns what the allowlist says of a key.
func (a *allowlist) User(ctx context.Context, endpoint crypto.PublicKey) (ledger.User, error) {
	ctx, cancel := a.op(ctx)
	defer cancel()
	c, err := a.now(ctx)
	if err != nil {
		return ledger.User{}, fmt.Errorf("user %s: %w", endpoint, failure(err))
	}
	u, ok := c.user(endpoint)
	if !ok {
		return u, fmt.Errorf("user %s: %w", endpoint, store.ErrNotFound)
	}
	return u, nil
}

// Users yields the users after a key, by key, as of the call.
func (a *allowlist) Users(ctx context.Context, after crypto.PublicKey) iter.Seq2[ledger.User, error] {
	return func(yield func(ledger.User, error) bool) {
		op, cancel := a.op(ctx)
		defer cancel()
		keys, err := a.everyone(op)
		if err != nil {
			yield(ledger.User{}, fmt.Errorf("users: %w", failure(err)))
			return
		}
		keys = slices.DeleteFunc(keys, func(k crypto.PublicKey) bool { return bytes.Compare(k[:], after[:]) <= 0 })
		slices.SortFunc(keys, func(a, b crypto.PublicKey) int { return bytes.Compare(a[:], b[:]) })
		for _, key := range keys {
			if u, ok := a.copy.user(key); ok && !yield(u, nil) {
				return
			}
		}
	}
}

// IsAuthorized reports whether an endpoint may connect now.
func (a *allowlist) IsAuthorized(ctx context.Context, endpoint crypto.PublicKey) (bool, error) {
	ctx, cancel := a.op(ctx)
	defer cancel()
	c, err := a.now(ctx)
	if err != nil {
		return false, fmt.Errorf("allowlist: %w", failure(err))
	}
	u, ok := c.user(endpoint)
	return ok && u.ActiveAt(time.Now()), nil
}

// HasAdmin reports whether the bus has an active admin.
func (a *allowlist) HasAdmin(ctx context.Context) (bool, error) {
	ctx, cancel := a.op(ctx)
	defer cancel()
	c, err := a.now(ctx)
	if err != nil {
		return false, fmt.Errorf("allowlist: %w", failure(err))
	}
	return c.hasAdmin(time.Now()), nil
}
