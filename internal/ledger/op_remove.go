package ledger

import (
	"github.com/unibus/unibus/internal/crypto"
)

// Remove ends memberships.
type Remove struct {
	Keys  []crypto.PublicKey `cbor:"keys" json:"keys"`
	Rekey *Rekey             `cbor:"rekey,omitempty" json:"rekey,omitempty"`
}

// check: owners remove anyone, admins those who do not manage the room, both only members, and never all owners. The
// entry renews the key, so that there is no time in which the removed may still read.
func (m *Remove) check(s *State, by crypto.PublicKey) error {
	role := s.Room.Role(by)
	if !role.Manages() {
		return denied("only an owner or admin removes members")
	}
	if err := distinct(m.Keys); err != nil {
		return err
	}
	owners := s.Room.owners
	for _, key := range m.Keys {
		target := s.Room.Role(key)
		if target == "" {
			return breaks("%s is not a member", key)
		}
		if target.Manages() && role != RoleOwner {
			return denied("only an owner removes an %s", target)
		}
		if target == RoleOwner {
			owners--
		}
	}
	if owners == 0 {
		return lastOwner("cannot be removed")
	}
	return mustRekey(s.Room, m.Rekey, s.Room.Policy.History, "a removal")
}

// apply ends the memberships before the epoch begins, which they are no part of.
func (m *Remove) apply(s *State, e *Entry) {
	for _, key := range m.Keys {
		s.Room.set(key, "", e.Seq)
	}
	applyRekey(s, e, m.Rekey)
}

func (*Remove) op() string { return "remove" }

func (m *Remove) touches(crypto.PublicKey) []crypto.PublicKey { return m.Keys }

func (m *Remove) narrows(s *State, _ *Entry) []crypto.PublicKey { return s.Room.silent(m.Keys...) }

func (m *Remove) words(w wording) string {
	return w.keys(m.Keys) + m.Rekey.also()
}

func (m *Remove) rekey() *Rekey { return m.Rekey }

func (m *Remove) bare() any { return Remove{Keys: m.Keys} }
