package ledger

import (
	"maps"
	"slices"

	"github.com/unibus/unibus/internal/crypto"
)

// MaxMembers is the most members a room may have.
const MaxMembers = 10_000

// inRoom reports whether it is a role that a member may have.
func (r Role) inRoom() bool { return r.Writes() || r == RoleReader }

// Writes reports whether a member of this role may publish.
func (r Role) Writes() bool { return r == RoleOwner || r == RoleAdmin || r == RoleMember }

// Manages reports whether a member of this role may invite, remove and rekey.
func (r Role) Manages() bool { return r == RoleOwner || r == RoleAdmin }

// roster is who is and was in a room. A role is asked for as it is now, to judge the next entry, and as it was at an
// entry, to judge a frame that was made then.
type roster struct {
	members map[crypto.PublicKey]Role   // the present ones
	owners  int                         // how many of them are
	history map[crypto.PublicKey][]span // of everyone who ever was one, in the order of entries
}

// span says that from an entry on somebody had a role; empty: none.
type span struct {
	Seq  uint64
	Role Role
}

// newRoster is that of a room with nobody in it.
func newRoster() roster {
	return roster{members: map[crypto.PublicKey]Role{}, history: map[crypto.PublicKey][]span{}}
}

// Role is a key's present role; empty for someone who is no member.
func (r *roster) Role(key crypto.PublicKey) Role { return r.members[key] }

// RoleAt is a key's role at a seq that the log reaches.
func (r *roster) RoleAt(key crypto.PublicKey, seq uint64) Role {
	spans := r.history[key]
	for i := len(spans) - 1; i >= 0; i-- {
		if spans[i].Seq <= seq {
			return spans[i].Role
		}
	}
	return ""
}

// Known reports whether a key is or was a member.
func (r *roster) Known(key crypto.PublicKey) bool { return len(r.history[key]) > 0 }

// Members returns the present members and their roles.
func (r *roster) Members() map[crypto.PublicKey]Role { return maps.Clone(r.members) }

// OutSince reports whether somebody was no member at some time after an entry, or is none.
func (r *roster) OutSince(key crypto.PublicKey, seq uint64) bool {
	return r.Role(key) == "" || slices.ContainsFunc(r.history[key], func(sp span) bool { return sp.Seq > seq && sp.Role == "" })
}

// copy returns a roster that may be changed; of what was there before it changes nothing.
func (r *roster) copy() roster {
	next := roster{members: maps.Clone(r.members), owners: r.owners, history: maps.Clone(r.history)}
	for key, spans := range next.history {
		next.history[key] = slices.Clip(spans)
	}
	return next
}

// set gives a key a role; empty: none.
func (r *roster) set(key crypto.PublicKey, role Role, seq uint64) {
	if r.members[key] == RoleOwner {
		r.owners--
	}
	if role == RoleOwner {
		r.owners++
	}
	if role == "" {
		delete(r.members, key)
	} else {
		r.members[key] = role
	}
	r.history[key] = append(r.history[key], span{seq, role})
}
