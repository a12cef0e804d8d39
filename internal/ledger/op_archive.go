package ledger

import (
	"github.com/unibus/unibus/internal/crypto"
)

// Archive ends a room for good.
type Archive struct{}

// check: an owner ends a room.
func (*Archive) check(s *State, by crypto.PublicKey) error {
	if s.Room.Role(by) != RoleOwner {
		return denied("only an owner archives the room")
	}
	return nil
}

// apply ends it: checkNext lets nothing follow, and frames made at the entry or later are refused.
func (*Archive) apply(s *State, e *Entry) { s.Room.Archived = e.Seq }

func (*Archive) op() string { return "archive" }

func (*Archive) touches(crypto.PublicKey) []crypto.PublicKey { return nil }

func (*Archive) narrows(s *State, _ *Entry) []crypto.PublicKey { return s.Room.writers() }

func (*Archive) words(wording) string { return "" }
