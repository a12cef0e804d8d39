package ledger

import (
	"github.com/unibus/unibus/internal/crypto"
)

// MemberRole changes a member's role.
type MemberRole struct {
	Key  crypto.PublicKey `cbor:"key" json:"key"`
	Role Role             `cbor:"role" json:"role"`
}

// check: an owner changes roles, also its own while there is another owner. A role may be set to what it is.
func (m *MemberRole) check(s *State, by crypto.PublicKey) error {
	switch {
	case s.Room.Role(by) != RoleOwner:
		return denied("only an owner changes roles")
	case !m.Role.inRoom():
		return breaks("a member's role is owner, admin, member or reader")
	case s.Room.Role(m.Key) == "":
		return breaks("%s is not a member", m.Key)
	case m.Role != RoleOwner && s.Room.Role(m.Key) == RoleOwner && s.Room.owners == 1:
		return lastOwner("must stay one")
	}
	return nil
}

// apply changes the role from this entry on; frames made before are judged by the one before.
func (m *MemberRole) apply(s *State, e *Entry) { s.Room.set(m.Key, m.Role, e.Seq) }

func (*MemberRole) op() string { return "role" }

func (m *MemberRole) touches(crypto.PublicKey) []crypto.PublicKey { return []crypto.PublicKey{m.Key} }

func (m *MemberRole) narrows(s *State, _ *Entry) []crypto.PublicKey { return s.Room.silent(m.Key) }

func (m *MemberRole) words(w wording) string {
	return w.name(m.Key) + " is now " + string(m.Role)
}
