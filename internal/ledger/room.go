package ledger

import (
	"maps"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// MaxMembers is the most members a room may have.
const MaxMembers = 10_000

func (r Role) inRoom() bool { return r.Writes() || r == RoleReader }

// Writes reports whether a member of this role may publish.
func (r Role) Writes() bool { return r == RoleOwner || r == RoleAdmin || r == RoleMember }

// Manages reports whether a member of this role may invite, remove and rekey.
func (r Role) Manages() bool { return r == RoleOwner || r == RoleAdmin }

// Room is what a room log folds to.
type Room struct {
	Bus      crypto.ID
	Subject  string
	Policy   Policy    // in force now
	Terms    []Term    // of all policies, in their order
	Archived uint64    // the seq that archived it; 0: open
	Left     bool      // someone left since the epoch began: stale
	Anew     uint64    // the entry with which what is stored begins: the first, or the last that says so
	AnewTime time.Time // that this entry claims; zero for the first
	Epochs   []Epoch
	members  map[crypto.PublicKey]Role
	owners   int
	history  map[crypto.PublicKey][]span
}

// Epoch is the reign of one room key. The first is Epochs[0], number 1.
type Epoch struct {
	Number   uint32
	Seq      uint64      // the entry that began it
	Commit   crypto.Hash // zero in a room without encryption
	Previous []byte      // the key before, under this one; nil where history is not shared
	By       crypto.PublicKey
	Time     time.Time
}

// Term says that from an entry on a policy is in force, until the next term begins.
type Term struct {
	Seq    uint64
	Policy Policy
}

// span says that from an entry on somebody had a role; empty: none.
type span struct {
	Seq  uint64
	Role Role
}

// Creator is the author of the room's first entry, member or not.
func (r *Room) Creator() crypto.PublicKey { return r.Epochs[0].By }

// Epoch is the current epoch.
func (r *Room) Epoch() Epoch { return r.Epochs[len(r.Epochs)-1] }

// EpochAt is the epoch at a seq that the log reaches.
func (r *Room) EpochAt(seq uint64) Epoch {
	i := len(r.Epochs) - 1
	for i > 0 && r.Epochs[i].Seq > seq {
		i--
	}
	return r.Epochs[i]
}

// PolicyAt is the policy in force at a seq that the log reaches, from 1 on.
func (r *Room) PolicyAt(seq uint64) Policy {
	i := len(r.Terms) - 1
	for i > 0 && r.Terms[i].Seq > seq {
		i--
	}
	return r.Terms[i].Policy
}

func (r *Room) setPolicy(p Policy, seq uint64) {
	r.Policy = p
	r.Terms = append(r.Terms, Term{seq, p})
}

// Role is a key's present role; empty for someone who is no member.
func (r *Room) Role(key crypto.PublicKey) Role { return r.members[key] }

// RoleAt is a key's role at a seq that the log reaches.
func (r *Room) RoleAt(key crypto.PublicKey, seq uint64) Role {
	spans := r.history[key]
	for i := len(spans) - 1; i >= 0; i-- {
		if spans[i].Seq <= seq {
			return spans[i].Role
		}
	}
	return ""
}

// Joined is the entry by which a key first became a member, and when that was at the earliest: when the last epoch
// had begun by then. Zero for someone who never was one.
func (r *Room) Joined(key crypto.PublicKey) (seq uint64, when time.Time) {
	spans := r.history[key]
	if len(spans) == 0 {
		return 0, time.Time{}
	}
	return spans[0].Seq, r.EpochAt(spans[0].Seq).Time
}

// Known reports whether a key is or was a member.
func (r *Room) Known(key crypto.PublicKey) bool { return len(r.history[key]) > 0 }

// Members returns the present members and their roles.
func (r *Room) Members() map[crypto.PublicKey]Role { return maps.Clone(r.members) }

// copy returns a room that may be changed, but for what was there before: that is only added to.
func (r *Room) copy() *Room {
	next := *r
	next.Terms, next.Epochs = slices.Clip(r.Terms), slices.Clip(r.Epochs)
	next.members, next.history = maps.Clone(r.members), maps.Clone(r.history)
	for key, spans := range next.history {
		next.history[key] = slices.Clip(spans)
	}
	return &next
}

// set gives a key a role; empty: none.
func (r *Room) set(key crypto.PublicKey, role Role, seq uint64) {
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
