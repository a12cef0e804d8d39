package ledger

import (
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// Room is what a room log folds to: who is in it, and what its epochs and policies were and are.
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

	roster
}

// Epoch is the time of one room key. The first is Epochs[0], number 1.
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

// setPolicy begins a term with an entry.
func (r *Room) setPolicy(p Policy, seq uint64) {
	r.Policy = p
	r.Terms = append(r.Terms, Term{seq, p})
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

// copy returns a room that may be changed, but for what was there before: that is only added to.
func (r *Room) copy() *Room {
	next := *r
	next.Terms, next.Epochs = slices.Clip(r.Terms), slices.Clip(r.Epochs)
	next.roster = r.roster.copy()
	return &next
}

// writers lists who may publish.
func (r *Room) writers() (list []crypto.PublicKey) {
	for key, role := range r.Members() {
		if role.Writes() {
			list = append(list, key)
		}
	}
	return list
}

// silent lists those of some keys that may not publish.
func (r *Room) silent(keys ...crypto.PublicKey) []crypto.PublicKey {
	return slices.DeleteFunc(slices.Clone(keys), func(key crypto.PublicKey) bool { return r.Role(key).Writes() })
}
