package ledger

import (
	"github.com/unibus/unibus/internal/crypto"
)

// Invite adds members.
type Invite struct {
	Members []NewMember `cbor:"members" json:"members"`
	Rekey   *Rekey      `cbor:"rekey,omitempty" json:"rekey,omitempty"`
}

// NewMember is one member of an Invite.
type NewMember struct {
	Key  crypto.PublicKey `cbor:"key" json:"key"`
	Role Role             `cbor:"role" json:"role"`
}

// check: owners invite anyone, admins those who do not manage the room; nobody is invited who is a member. Where history
// is joined, newcomers begin with a key of their own, so that they cannot read what was before.
func (i *Invite) check(s *State, by crypto.PublicKey) error {
	role := s.Room.Role(by)
	if !role.Manages() {
		return denied("only an owner or admin invites")
	}
	keys := make([]crypto.PublicKey, len(i.Members))
	for n, m := range i.Members {
		keys[n] = m.Key
		if !m.Role.inRoom() {
			return breaks("a member's role is owner, admin, member or reader")
		}
		if m.Role.Manages() && role != RoleOwner {
			return denied("only an owner invites an %s", m.Role)
		}
		if s.Room.Role(m.Key) != "" {
			return breaks("%s is already a member", m.Key)
		}
	}
	if err := distinct(keys); err != nil {
		return err
	}
	if len(s.Room.members)+len(keys) > MaxMembers {
		return breaks("a room has at most %d members", MaxMembers)
	}
	history := s.Room.Policy.History
	if history == HistoryJoined {
		return mustRekey(s.Room, i.Rekey, history, "an invitation where history is joined")
	}
	return mayRekey(s.Room, i.Rekey, history)
}

// apply gives them their roles from this entry on.
func (i *Invite) apply(s *State, e *Entry) {
	for _, m := range i.Members {
		s.Room.set(m.Key, m.Role, e.Seq)
	}
	applyRekey(s, e, i.Rekey)
}

func (*Invite) op() string { return "invite" }

func (i *Invite) touches(crypto.PublicKey) []crypto.PublicKey {
	keys := make([]crypto.PublicKey, len(i.Members))
	for n, m := range i.Members {
		keys[n] = m.Key
	}
	return keys
}

func (*Invite) narrows(*State, *Entry) []crypto.PublicKey { return nil }

func (i *Invite) words(w wording) string {
	out := make([]string, len(i.Members))
	for n, m := range i.Members {
		out[n] = w.name(m.Key) + " (" + string(m.Role) + ")"
	}
	return w.list(out) + i.Rekey.also()
}

func (i *Invite) rekey() *Rekey { return i.Rekey }

func (i *Invite) bare() any { return Invite{Members: i.Members} }
