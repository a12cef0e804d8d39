package ledger

import (
	"cmp"

	"github.com/unibus/unibus/internal/crypto"
)

// What follows does not judge entries: it says what a room's log means for the keys and messages of a member, at an entry or
// since one. A reader asks it whether somebody has withheld what is missing (internal/inbox), a client whose copies of a key
// count.

// Owes reports whether the log owes somebody the key of an epoch: a member during it, or during a later one from
// which shared history leads back to it. In a room without encryption there is nothing to owe, and nobody goes
// without.
func (r *Room) Owes(key crypto.PublicKey, epoch uint32) bool {
	if !r.Policy.Encrypted() {
		return true
	}
	if epoch < 1 || int(epoch) > len(r.Epochs) {
		return false
	}
	for i := int(epoch) - 1; i < len(r.Epochs); i++ {
		if i >= int(epoch) && r.Epochs[i].Previous == nil {
			return false // the chain of previous keys ends before it comes to the epoch
		}
		if r.memberDuring(key, i) {
			return true
		}
	}
	return false
}

// memberDuring reports whether somebody was a member at any time of the epoch r.Epochs[i].
func (r *Room) memberDuring(key crypto.PublicKey, i int) bool { return r.during(key, i, Role.inRoom) }

// during reports whether somebody had a role of a kind at any time of the epoch r.Epochs[i].
func (r *Room) during(key crypto.PublicKey, i int, kind func(Role) bool) bool {
	begin := r.Epochs[i].Seq
	if kind(r.RoleAt(key, begin)) {
		return true
	}
	for _, sp := range r.history[key] {
		if kind(sp.Role) && sp.Seq >= begin && (i+1 == len(r.Epochs) || sp.Seq < r.Epochs[i+1].Seq) {
			return true
		}
	}
	return false
}

// MaySeal reports whether a copy of an epoch's key counts that somebody sealed for a member: the member itself, the
// author of the epoch, and whoever was an owner or admin at some time of it. Whoever lost that role since has
// handed out the key all the same.
func (r *Room) MaySeal(sealer, member crypto.PublicKey, epoch uint32) bool {
	if !r.Policy.Encrypted() || epoch < 1 || int(epoch) > len(r.Epochs) {
		return false
	}
	i := int(epoch) - 1
	return sealer == member || sealer == r.Epochs[i].By || r.during(sealer, i, Role.Manages)
}

// StoredSince reports whether all messages made at an entry, or at any until another one, were to be stored, and
// to stay: no policy in force meanwhile says that nothing is, and no entry that what was stored is gone. Both are
// entries that the log reaches.
func (r *Room) StoredSince(from, to uint64) bool {
	if from < r.Anew && r.Anew <= to {
		return false
	}
	for i, t := range r.Terms {
		over := i+1 < len(r.Terms) && r.Terms[i+1].Seq <= from
		if !over && t.Seq <= to && !t.Policy.Stored() {
			return false
		}
	}
	return true
}

// Kept is what the policies in force at an entry, or since, leave of a room's messages.
type Kept struct {
	Age     crypto.Number // for how long the strictest keeps them, in seconds; 0: no limit
	Trimmed bool          // one of them limits the bytes
	Left    uint64        // bytes that a room holds at least when it was trimmed to its limit
}

// largest is what a stream counts for the largest frame at most.
const largest = crypto.MaxFrame + 1<<10

// Kept says what was kept of messages that were made at an entry. No message is larger than half of what its room keeps,
// so that half is left; but of messages that were there when the limit became stricter, one may be as large as the
// largest frame.
func (r *Room) Kept(since uint64) (k Kept) {
	for i, t := range r.Terms {
		if i+1 < len(r.Terms) && r.Terms[i+1].Seq <= since || t.Policy.Retain == nil {
			continue
		}
		k.Age = tighter(k.Age, t.Policy.Retain.Age)
		limit := uint64(t.Policy.Retain.Bytes)
		if limit == 0 {
			continue
		}
		left := limit / 2
		if t.Seq > since && i > 0 && r.Terms[i-1].Policy.looser(limit) {
			left = min(left, limit-min(limit, largest))
		}
		if !k.Trimmed || left < k.Left {
			k.Trimmed, k.Left = true, left
		}
	}
	return k
}

// looser reports whether a policy stores messages, and more bytes of them than a limit.
func (p Policy) looser(limit uint64) bool {
	return p.Retain != nil && (p.Retain.Bytes == 0 || uint64(p.Retain.Bytes) > limit)
}

// tighter is the stricter of two limits, of which 0 is none.
func tighter(a, b crypto.Number) crypto.Number {
	if a == 0 || b == 0 {
		return cmp.Or(a, b)
	}
	return min(a, b)
}
