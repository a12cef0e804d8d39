package ledger

import (
	"github.com/unibus/unibus/internal/crypto"
)

// Leave ends its author's own membership.
type Leave struct{}

// check: a member goes by itself, and needs nobody for it, but that a room has an owner.
func (*Leave) check(s *State, by crypto.PublicKey) error {
	role := s.Room.Role(by)
	if role == "" {
		return denied("only a member leaves")
	}
	if role == RoleOwner && s.Room.owners == 1 {
		return lastOwner("cannot leave")
	}
	return nil
}

// apply ends the membership. Whoever leaves cannot hand out a new key that it does not get to know, so in an encrypted
// room the key is stale until somebody renews it.
func (*Leave) apply(s *State, e *Entry) {
	s.Room.set(e.By, "", e.Seq)
	s.Room.Left = s.Room.Policy.Encrypted()
}

func (*Leave) op() string { return "leave" }

func (*Leave) touches(by crypto.PublicKey) []crypto.PublicKey { return []crypto.PublicKey{by} }

func (*Leave) narrows(s *State, e *Entry) []crypto.PublicKey { return s.Room.silent(e.By) }

func (*Leave) words(wording) string { return "" }
