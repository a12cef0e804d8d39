package unibus

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// NewUser is someone to add to the allowlist.
type NewUser struct {
	Key     PublicKey
	Name    string // empty: one made from the key
	Admin   bool
	Expires time.Time // zero: never
	Card    []byte    // self-signed; nil: published by the user at its first connection

	opened crypto.Card // what Card says, once its signature is verified; zero: it was not
}

// usersPerEntry keeps an entry of the bus log far under the largest statement.
const usersPerEntry = 2000

// ParseUser reads what an admin is given by someone to be added: a key, or a card as whoami --card
// prints it.
func ParseUser(s string) (NewUser, error) {
	s = strings.TrimSpace(s)
	if len(s) > 200 {
		raw, err := base64.StdEncoding.DecodeString(s)
		if err == nil {
			var card crypto.Card
			if card, err = crypto.OpenCard(raw, PublicKey{}); err == nil {
				return NewUser{Key: card.Key, Card: raw, opened: card}, nil
			}
		}
		return NewUser{}, fmt.Errorf("card: %w: %w", ErrInvalid, err)
	}
	key, err := ParseKey(s)
	return NewUser{Key: key}, err
}

// name is what the user is to be called.
func (u *NewUser) name() string {
	if u.Name == "" {
		return strings.ToLower(u.Key.String()[:12])
	}
	return u.Name
}

// check refuses what the ledger would, before anything is asked of the store.
func (u *NewUser) check() error {
	if err := ledger.ValidName(u.Name); err != nil {
		return fmt.Errorf("user %q: %w: %w", u.Name, ErrInvalid, err)
	}
	if crypto.LooksLikeKey(u.Name) {
		return fmt.Errorf("user %s: %w: a name must not look like a key", u.Name, ErrInvalid)
	}
	return nil
}

// entry is the user as an entry of the bus log adds it. ErrExists when its key or name is taken there.
func (u *NewUser) entry(on *ledger.Bus) (ledger.NewUser, error) {
	if old := on.User(u.Key); old != nil && old.Active {
		return ledger.NewUser{}, present(old)
	}
	if old := on.ByName(u.Name); old != nil {
		return ledger.NewUser{}, nameTaken(old)
	}
	entry := ledger.NewUser{Key: u.Key, Name: u.Name, Role: RoleUser}
	if u.Admin {
		entry.Role = RoleAdmin
	}
	if !u.Expires.IsZero() {
		ms := crypto.Number(u.Expires.UnixMilli())
		entry.Expires = &ms
	}
	return entry, nil
}

// present is the ErrExists of a user who is on the allowlist already, perhaps only to have their time extended.
func present(u *ledger.User) error {
	if u.ActiveAt(time.Now()) {
		return fmt.Errorf("user %s: %w: on the allowlist as %s", u.Key, ErrExists, u.Name)
	}
	err := fmt.Errorf("user %s: %w: on the allowlist as %s, expired at %s", u.Key, ErrExists, u.Name, u.Expires.UTC().Format(time.RFC3339))
	return remedy.With(err, remedy.Remedy{Kind: remedy.Extend, User: u.Name})
}

// nameTaken is the ErrExists of a user whose name is another's.
func nameTaken(by *ledger.User) error {
	err := fmt.Errorf("user %s: %w: the name is that of %s", by.Name, ErrExists, by.Key)
	return remedy.With(err, remedy.Remedy{Kind: remedy.NameOtherwise, User: by.Name, Key: by.Key})
}

// AddUsers puts users on the allowlist, as many as one likes, 2,000 to an entry. ErrInvalid when one cannot be, with
// nothing done; ErrExists when a key or a name is taken: then none of the entry they were to be in is added.
func (c *Client) AddUsers(ctx context.Context, users ...NewUser) error {
	users = slices.Clone(users)
	for i := range users {
		users[i].Name = users[i].name()
		if err := users[i].check(); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(users, usersPerEntry) {
		if err := c.self.Bus.Append(ctx, adding(batch)); err != nil {
			return askAdmin(err)
		}
		// One is work here, the other there.
		after := []func() error{
			func() error { return rememberAdded(ctx, c, batch) },
			func() error { return publishCards(ctx, c, batch) },
		}
		if err := tasks.ForEach(ctx, len(after), len(after), func(i int) error { return after[i]() }); err != nil {
			return err
		}
	}
	return nil
}

// rememberAdded remembers how users who were added are called here, and those of their cards that were verified: whoever
// invites them need not be given these again.
func rememberAdded(ctx context.Context, c *Client, added []NewUser) error {
	names := map[string]PublicKey{}
	var cards []crypto.Card
	for _, u := range added {
		names[u.Name] = u.Key
		if u.opened.Key == u.Key {
			cards = append(cards, u.opened)
		}
	}
	if err := c.pins.Names.ReplaceAll(ctx, c.Bus(), names); err != nil || len(cards) == 0 {
		return err
	}
	return c.pins.Cards.Remember(ctx, cards)
}

// publishCards publishes the cards of users who were added, if there are any.
func publishCards(ctx context.Context, c *Client, added []NewUser) error {
	var cards []store.Card
	for _, u := range added {
		if u.Card != nil {
			cards = append(cards, store.Card{Endpoint: u.Key, Statement: u.Card})
		}
	}
	if len(cards) == 0 {
		return nil
	}
	if err := c.link.store.PutCards(ctx, cards...); err != nil {
		return fmt.Errorf("publish the cards of who was added: %w", err)
	}
	return nil
}

// adding makes the entry of the bus log that adds users.
func adding(users []NewUser) mirror.Next {
	return func(_ context.Context, s *ledger.State) (*mirror.Proposal, error) {
		add := &ledger.Add{}
		for i := range users {
			entry, err := users[i].entry(s.Bus)
			if err != nil {
				return nil, err
			}
			add.Users = append(add.Users, entry)
		}
		return &mirror.Proposal{Body: add}, nil
	}
}

// askAdmin says whom to ask for what only a bus admin may do.
func askAdmin(err error) error {
	if errors.Is(err, ledger.ErrNotAllowed) {
		return remedy.With(err, remedy.Remedy{Kind: remedy.AskAdmin})
	}
	return err
}

// RevokeUsers takes users off the allowlist, all in one entry. ErrNotFound when one is not on it.
func (c *Client) RevokeUsers(ctx context.Context, reason string, keys ...PublicKey) error {
	err := c.self.Bus.Append(ctx, func(_ context.Context, s *ledger.State) (*mirror.Proposal, error) {
		for _, key := range keys {
			if u := s.Bus.User(key); u == nil || !u.Active {
				return nil, fmt.Errorf("user %s: %w: not on the allowlist", key, ErrNotFound)
			}
		}
		if leavesNone(presentAdmins(s.Bus.Users), keys) {
			return nil, errLastAdmin
		}
		revoke := &ledger.Revoke{Keys: keys}
		if reason != "" {
			revoke.Reason = &reason
		}
		return &mirror.Proposal{Body: revoke}, nil
	})
	return askAdmin(err)
}

// errLastAdmin refuses what nobody could mend. The ledger counts admins whose time is over as well, since it knows no clock.
var errLastAdmin = fmt.Errorf("%w: the last admin cannot be revoked", ErrDenied)

// presentAdmins are the admins among users who may connect now.
func presentAdmins(users iter.Seq[*User]) (admins []PublicKey) {
	now := time.Now()
	for u := range users {
		if u.Role == RoleAdmin && u.ActiveAt(now) {
			admins = append(admins, u.Key)
		}
	}
	return admins
}

// leavesNone reports whether none of the admins there are would be left without some users.
func leavesNone(admins, without []PublicKey) bool {
	stays := func(key PublicKey) bool { return !slices.Contains(without, key) }
	return len(admins) > 0 && !slices.ContainsFunc(admins, stays)
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
