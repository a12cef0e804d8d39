package ledger

import (
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// Add allows users to connect.
type Add struct {
	Users []NewUser `cbor:"users" json:"users"`
}

// NewUser is one user of an Add. Expires is Unix ms.
type NewUser struct {
	Key     crypto.PublicKey `cbor:"key" json:"key"`
	Name    string           `cbor:"name" json:"name"`
	Role    Role             `cbor:"role" json:"role"`
	Expires *crypto.Number   `cbor:"expires,omitempty" json:"expires,omitempty"`
}

// check: an admin adds people, none of whom is active already, under names that nobody active has.
func (a *Add) check(s *State, by crypto.PublicKey) error {
	if !s.Bus.isAdmin(by) {
		return denied("only an admin adds users")
	}
	if len(a.Users) == 0 {
		return breaks("it adds nobody")
	}
	// What the list itself adds counts as well: nobody, and no name, stands in it twice.
	keys, names := map[crypto.PublicKey]bool{}, map[string]bool{}
	for _, u := range a.Users {
		if !u.Role.onBus() {
			return breaks("a user's role is admin or user")
		}
		if err := ValidName(u.Name); err != nil {
			return err
		}
		if keys[u.Key] || s.Bus.isActive(u.Key) {
			return breaks("%s is already on the allowlist", u.Key)
		}
		if names[u.Name] || s.Bus.ByName(u.Name) != nil {
			return breaks("the name %s is already taken", u.Name)
		}
		keys[u.Key], names[u.Name] = true, true
	}
	return nil
}

// apply makes them active; whoever was revoked once is active again, and that it was is remembered.
func (a *Add) apply(s *State, e *Entry) {
	for _, u := range a.Users {
		user := User{Key: u.Key, Name: u.Name, Role: u.Role, AddedBy: e.By, Added: e.Time}
		if u.Expires != nil {
			user.Expires = crypto.Millis(uint64(*u.Expires))
		}
		s.Bus.add(user)
	}
}

func (*Add) op() string { return "add" }

func (a *Add) touches(crypto.PublicKey) []crypto.PublicKey {
	keys := make([]crypto.PublicKey, len(a.Users))
	for i, u := range a.Users {
		keys[i] = u.Key
	}
	return keys
}

func (*Add) narrows(*State, *Entry) []crypto.PublicKey { return nil }

func (a *Add) words(w wording) string {
	out := make([]string, len(a.Users))
	for i, u := range a.Users {
		until := ""
		if u.Expires != nil {
			until = ", until " + crypto.Millis(uint64(*u.Expires)).Format(time.RFC3339)
		}
		out[i] = u.Name + " (" + string(u.Role) + until + ")"
	}
	return w.list(out)
}

func (a *Add) names(is func(crypto.PublicKey, string)) {
	for _, u := range a.Users {
		is(u.Key, u.Name)
	}
}
