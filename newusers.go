package unibus

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
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

// Check says, before anything is asked of the store, what the log would refuse of the user by itself: ErrInvalid for a name that
// cannot be. No name is one that is made from the key.
func (u NewUser) Check() error {
	if u.Name == "" {
		return nil
	}
	return checkName(u.Name)
}

// checkName is the ErrInvalid of a name that cannot be, or is mistaken for a key.
func checkName(name string) error {
	if err := ledger.ValidName(name); err != nil {
		return fmt.Errorf("user %q: %w: %w", name, ErrInvalid, err)
	}
	if strings.HasPrefix(name, "-") {
		return fmt.Errorf("user %s: %w: a name must not begin with -, as flags do", name, ErrInvalid)
	}
	if crypto.LooksLikeKey(name) {
		return fmt.Errorf("user %s: %w: a name must not look like a key", name, ErrInvalid)
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

// AddUsers puts users on the allowlist, as many as one likes, 2,000 to an entry, and publishes their cards before it. ErrInvalid
// when one cannot be, with nothing done; ErrExists when a key or a name is taken: then none of the entry they were to be in is added.
func (c *Client) AddUsers(ctx context.Context, users ...NewUser) error {
	users = slices.Clone(users)
	for i := range users {
		users[i].Name = users[i].name()
		if err := users[i].Check(); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(users, usersPerEntry) {
		if err := changeAllowlist(ctx, c, adding(c, batch)); err != nil {
			return err
		}
		names := map[string]PublicKey{}
		for _, u := range batch {
			names[u.Name] = u.Key
		}
		if err := c.pins.Names.ReplaceAll(ctx, c.Bus(), names); err != nil {
			return err
		}
	}
	return nil
}

// PublishCards publishes those cards of users that a client does not know, for an admin: of who was put on the allowlist without
// one. For anybody else it does nothing.
func PublishCards(ctx context.Context, c *Client, users ...NewUser) error {
	if needAdmin(c.self.Allowlist(), c.Key()) != nil {
		return nil
	}
	users = slices.DeleteFunc(slices.Clone(users), func(u NewUser) bool { return u.Card == nil })
	keys := make([]PublicKey, len(users))
	for i, u := range users {
		keys[i] = u.Key
	}
	known, err := c.pins.Cards.Known(ctx, keys)
	if err != nil {
		return err
	}
	return publishCards(ctx, c, slices.DeleteFunc(users, func(u NewUser) bool { _, is := known[u.Key]; return is }))
}

// publishCards publishes the cards of users, if there are any. Those that were verified are remembered: whoever invites them need
// not be given these again.
func publishCards(ctx context.Context, c *Client, users []NewUser) error {
	var cards []store.Card
	var opened []crypto.Card
	for _, u := range users {
		if u.Card != nil {
			cards = append(cards, store.Card{Endpoint: u.Key, Statement: u.Card})
		}
		if u.opened.Key == u.Key {
			opened = append(opened, u.opened)
		}
	}
	if len(cards) == 0 {
		return nil
	}
	var remembered error
	var beside tasks.Group // one is work here, the other there
	beside.Go(func() { remembered = c.pins.Cards.Remember(ctx, opened) })
	err := c.link.store.PutCards(ctx, cards...)
	beside.Wait()
	if err != nil {
		err = fmt.Errorf("publish the cards of users: %w", err)
	}
	return errors.Join(err, remembered)
}

// adding makes the entry of the bus log that adds users. Their cards are published before it, as keys are handed out before the
// entry that needs them: whoever is added with a card can be invited, wherever this is ended.
func adding(c *Client, users []NewUser) mirror.Next {
	published := false
	return func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		add := &ledger.Add{}
		for i := range users {
			entry, err := users[i].entry(s.Bus)
			if err != nil {
				return nil, err
			}
			add.Users = append(add.Users, entry)
		}
		if !published {
			if err := publishCards(ctx, c, users); err != nil {
				return nil, err
			}
			published = true
		}
		return &mirror.Proposal{Body: add}, nil
	}
}
