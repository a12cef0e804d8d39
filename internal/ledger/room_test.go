package ledger

import (
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// TestSameChange: the keys that an entry hands out are no part of what it changes; all else is.
func TestSameChange(t *testing.T) {
	alice, bob := crypto.PublicKey{1}, crypto.PublicKey{2}
	rekey := func(n byte) *Rekey { return &Rekey{Epoch: 2, Commit: crypto.Hash{n}} }
	shared, joined := DefaultPolicy(), DefaultPolicy()
	joined.History = HistoryJoined
	bodies := []struct {
		change string
		body   Body
	}{
		{"remove alice", &Remove{Keys: []crypto.PublicKey{alice}, Rekey: rekey(1)}},
		{"remove alice", &Remove{Keys: []crypto.PublicKey{alice}, Rekey: rekey(2)}},
		{"remove bob", &Remove{Keys: []crypto.PublicKey{bob}, Rekey: rekey(1)}},
		{"invite bob", &Invite{Members: []NewMember{{Key: bob, Role: RoleMember}}, Rekey: rekey(1)}},
		{"invite bob", &Invite{Members: []NewMember{{Key: bob, Role: RoleMember}}}},
		{"invite bob to read", &Invite{Members: []NewMember{{Key: bob, Role: RoleReader}}}},
		{"rekey", rekey(1)},
		{"rekey", rekey(2)},
		{"leave", &Leave{}},
		{"archive", &Archive{}},
		{"shared", &SetPolicy{Policy: shared, Rekey: rekey(1)}},
		{"shared", &SetPolicy{Policy: shared}},
		{"joined", &SetPolicy{Policy: joined}},
		{"role of alice", &MemberRole{Key: alice, Role: RoleAdmin}},
		{"role of bob", &MemberRole{Key: bob, Role: RoleAdmin}},
	}
	for _, a := range bodies {
		for _, b := range bodies {
			if same := SameChange(a.body, b.body); same != (a.change == b.change) {
				t.Errorf("%s and %s: %v", a.change, b.change, same)
			}
		}
	}
}
