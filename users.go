package unibus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
)

// askAdmin says whom to ask for what only a bus admin may do.
func askAdmin(err error) error {
	if errors.Is(err, ledger.ErrNotAllowed) {
		return remedy.With(err, remedy.Remedy{Kind: remedy.AskAdmin})
	}
	return err
}

// changeAllowlist makes an entry of the bus log as an admin: who is none learns that first, and not what else is against it.
func changeAllowlist(ctx context.Context, c *Client, next mirror.Next) error {
	return askAdmin(c.self.Bus.Append(ctx, func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		if err := needAdmin(s.Bus, c.Key()); err != nil {
			return nil, err
		}
		return next(ctx, s)
	}))
}

// needAdmin is the ErrDenied of whoever is no admin.
func needAdmin(on *ledger.Bus, key PublicKey) error {
	if u := on.User(key); u != nil && u.Active && u.Role == RoleAdmin {
		return nil
	}
	return remedy.With(fmt.Errorf("%w: only an admin of the bus changes its allowlist", ErrDenied), remedy.Remedy{Kind: remedy.AskAdmin})
}

// revokedPerEntry keeps an entry of the bus log under the largest statement.
const revokedPerEntry = 20_000

// RevokeUsers takes users off the allowlist, as many as one likes, 20,000 to an entry. ErrNotFound when one is not on it, ErrDenied
// for the last admin whose access does not end by itself: then none of the entry they were to be in is revoked.
func (c *Client) RevokeUsers(ctx context.Context, reason string, keys ...PublicKey) error {
	for batch := range slices.Chunk(keys, revokedPerEntry) {
		if err := changeAllowlist(ctx, c, revoking(reason, batch)); err != nil {
			return err
		}
	}
	return nil
}

// revoking makes the entry of the bus log that revokes users.
func revoking(reason string, keys []PublicKey) mirror.Next {
	return func(_ context.Context, s *ledger.State) (*mirror.Proposal, error) {
		for _, key := range keys {
			if u := s.Bus.User(key); u == nil || !u.Active {
				return nil, fmt.Errorf("user %s: %w: not on the allowlist", key, ErrNotFound)
			}
		}
		if err := keepsAdmin(s.Bus.Users, without(s.Bus.Users, keys)); err != nil {
			return nil, err
		}
		revoke := &ledger.Revoke{Keys: keys}
		if reason != "" {
			revoke.Reason = &reason
		}
		return &mirror.Proposal{Body: revoke}, nil
	}
}

// Users lists everyone the allowlist speaks of, by name.
func (c *Client) Users() []User {
	var out []User
	for u := range c.self.Allowlist().Users {
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b User) int {
		if d := strings.Compare(a.Name, b.Name); d != 0 {
			return d
		}
		return strings.Compare(a.Key.String(), b.Key.String())
	})
	return out
}

// minKeyPrefix is how many characters of a user's key name it at least, the U that all begin with among them.
const minKeyPrefix = 8

// User finds a user by key, in any case, by the name of someone active, or by a prefix of at least 8 characters of a key
// that no other user's begins with. ErrIntegrity when the name meant another key before.
func (c *Client) User(ctx context.Context, name string) (User, error) {
	bus := c.self.Allowlist()
	key, err := crypto.ParsePublicKey(name)
	switch {
	case err == nil:
		u := bus.User(key)
		if u == nil {
			return User{}, remedy.With(fmt.Errorf("user %s: %w: not on the allowlist", key, ErrNotFound), remedy.Remedy{Kind: remedy.AllowUser, Key: key})
		}
		return *u, nil
	case errors.Is(err, crypto.ErrSeed), crypto.LooksLikeKey(name):
		return User{}, fmt.Errorf("user: %w: %w", ErrInvalid, err)
	case ledger.ValidName(name) != nil:
		return User{}, fmt.Errorf("user %q: %w: it is neither a key nor a name", name, ErrInvalid)
	}
	u := bus.ByName(name)
	begun, err := byKeyPrefix(bus, name)
	switch {
	case err != nil:
		return User{}, err
	case u != nil && begun != nil && u != begun: // a name may be chosen so that it looks like the beginning of a key
		return User{}, fmt.Errorf("user %s: %w: it is the name of one user, and the key of another begins so", name, ErrInvalid)
	case u == nil && begun != nil:
		return *begun, nil
	case u == nil:
		return User{}, noUser(bus, name)
	}
	pin := c.pins.Names.Pin
	if c.o.Confirm {
		pin = c.pins.Names.Replace
	}
	err = pin(ctx, c.Bus(), name, u.Key)
	if errors.Is(err, pins.ErrContradiction) {
		err = remedy.With(fmt.Errorf("user %s: %w: the name meant another key before, and now means %s", name, ErrIntegrity, u.Key), remedy.Remedy{Kind: remedy.ConfirmName, User: name})
	}
	return *u, err
}

// noUser is the ErrNotFound of a name that nobody has; it tells of whoever was revoked last and had it.
func noUser(bus *ledger.Bus, name string) error {
	var former *User
	for u := range bus.Users {
		if u.Name == name && !u.Active && (former == nil || u.Revoked.After(former.Revoked)) {
			former = u
		}
	}
	if former == nil {
		return remedy.With(fmt.Errorf("user %s: %w", name, ErrNotFound), remedy.Remedy{Kind: remedy.ListUsers, User: name})
	}
	return revoked(name, former)
}

// revoked is the ErrNotFound of a user who was revoked, as they are called.
func revoked(called string, u *ledger.User) error {
	err := fmt.Errorf("user %s: %w: revoked at %s", called, ErrNotFound, u.Revoked.UTC().Format(time.RFC3339))
	return remedy.With(err, remedy.Remedy{Kind: remedy.AllowFormer, Key: u.Key, User: u.Name})
}

// byKeyPrefix finds the user whose key begins so, also one who was revoked; nil for none. ErrInvalid when several do.
func byKeyPrefix(bus *ledger.Bus, prefix string) (found *User, err error) {
	prefix = strings.ToUpper(prefix)
	if len(prefix) < minKeyPrefix || prefix[0] != 'U' {
		return nil, nil
	}
	matches := 0
	for u := range bus.Users {
		if strings.HasPrefix(u.Key.String(), prefix) {
			found, matches = u, matches+1
		}
	}
	if matches > 1 {
		return nil, fmt.Errorf("user %s: %w: the keys of %d users begin so", prefix, ErrInvalid, matches)
	}
	return found, nil
}
