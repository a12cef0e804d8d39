package ledger

import (
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// SetUsers changes what people are called, and when their access ends by itself.
type SetUsers struct {
	Users []UserChange `cbor:"users" json:"users"`
}

// UserChange is what changes of one user; nil stays as it is. Expires is Unix ms, 0 for never.
type UserChange struct {
	Key     crypto.PublicKey `cbor:"key" json:"key"`
	Name    *string          `cbor:"name,omitempty" json:"name,omitempty"`
	Expires *crypto.Number   `cbor:"expires,omitempty" json:"expires,omitempty"`
}

// check: an admin changes people who were added and not revoked since, be their time over or not; their new names are
// nobody's.
func (u *SetUsers) check(s *State, by crypto.PublicKey) error {
	if !s.Bus.isAdmin(by) {
		return denied("only an admin changes users")
	}
	if len(u.Users) == 0 {
		return breaks("it changes nobody")
	}
	keys, names := map[crypto.PublicKey]bool{}, map[string]bool{}
	for _, c := range u.Users {
		switch {
		case c.Name == nil && c.Expires == nil:
			return breaks("it changes nothing of %s", c.Key)
		case keys[c.Key]:
			return breaks("%s stands twice in it", c.Key)
		case !s.Bus.isActive(c.Key):
			return breaks("%s is not on the allowlist", c.Key)
		}
		keys[c.Key] = true
		if c.Name == nil {
			continue
		}
		if err := ValidName(*c.Name); err != nil {
			return err
		}
		// A name that the same entry gives up is not free yet: two who swap theirs would be taken for each other by whoever
		// reads one change and not the other.
		if names[*c.Name] || s.Bus.ByName(*c.Name) != nil {
			return breaks("the name %s is already taken", *c.Name)
		}
		names[*c.Name] = true
	}
	return nil
}

// apply changes the records.
func (u *SetUsers) apply(s *State, _ *Entry) {
	for _, c := range u.Users {
		s.Bus.change(c.Key, func(user *User) {
			if c.Name != nil {
				user.Name = *c.Name
			}
			if c.Expires != nil {
				user.Expires = expiry(*c.Expires)
			}
		})
	}
}

// expiry is a time of an entry, in which 0 is never.
func expiry(ms crypto.Number) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return crypto.Millis(uint64(ms))
}

func (*SetUsers) op() string { return "set" }

func (u *SetUsers) touches(crypto.PublicKey) []crypto.PublicKey {
	keys := make([]crypto.PublicKey, len(u.Users))
	for i, c := range u.Users {
		keys[i] = c.Key
	}
	return keys
}

// narrows: a connection lasts until the end that it was made with, so whoever has another one begins a new one.
func (u *SetUsers) narrows(s *State, _ *Entry) (keys []crypto.PublicKey) {
	for _, c := range u.Users {
		if c.Expires != nil && !s.Bus.User(c.Key).Expires.IsZero() {
			keys = append(keys, c.Key)
		}
	}
	return keys
}

func (u *SetUsers) words(w wording) string {
	out := make([]string, len(u.Users))
	for i, c := range u.Users {
		var is []string
		if c.Name != nil {
			is = append(is, "is called "+*c.Name)
		}
		if c.Expires != nil {
			until := "has no end"
			if end := expiry(*c.Expires); !end.IsZero() {
				until = "may connect until " + end.UTC().Format(time.RFC3339)
			}
			is = append(is, until)
		}
		out[i] = w.name(c.Key) + " " + strings.Join(is, " and ")
	}
	return w.list(out)
}

func (u *SetUsers) names(is func(crypto.PublicKey, string)) {
	for _, c := range u.Users {
		if c.Name != nil {
			is(c.Key, *c.Name)
		}
	}
}
