package ledger

import (
	"github.com/unibus/unibus/internal/crypto"
)

// UserRole makes an active user an admin or a plain user.
type UserRole struct {
	Key  crypto.PublicKey `cbor:"key" json:"key"`
	Role Role             `cbor:"role" json:"role"`
}

// check: an admin changes the role of whoever is active, also its own while there is another admin.
func (r *UserRole) check(s *State, by crypto.PublicKey) error {
	switch {
	case !s.Bus.isAdmin(by):
		return denied("only an admin changes roles")
	case !r.Role.onBus():
		return breaks("a user's role is admin or user")
	case !s.Bus.isActive(r.Key):
		return breaks("%s is not on the allowlist", r.Key)
	case r.Role == RoleUser && s.Bus.admins == 1 && s.Bus.isAdmin(r.Key):
		return breaks("the last admin cannot become a user")
	}
	return nil
}

// apply changes the role, and with it how many admins there are.
func (r *UserRole) apply(s *State, _ *Entry) {
	s.Bus.change(r.Key, func(u *User) { u.Role = r.Role })
}

func (*UserRole) op() string { return "role" }

func (r *UserRole) touches(crypto.PublicKey) []crypto.PublicKey { return []crypto.PublicKey{r.Key} }

func (*UserRole) narrows(*State, *Entry) []crypto.PublicKey { return nil }

func (r *UserRole) words(w wording) string {
	return w.name(r.Key) + " is now " + string(r.Role)
}
