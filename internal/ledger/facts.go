package ledger

import (
	"cmp"
	"slices"

	"github.com/unibus/unibus/internal/crypto"
)

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

// OutSince reports whether somebody was no member at some time after an entry, or is none.
func (r *Room) OutSince(key crypto.PublicKey, seq uint64) bool {
	return r.Role(key) == "" || slices.ContainsFunc(r.history[key], func(sp span) bool { return sp.Seq > seq && sp.Role == "" })
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

// LeastRetained is the least that any policy in force at an entry or since keeps, by age and by bytes, each by
// itself; 0 is no limit.
func (r *Room) LeastRetained(since uint64) Retain {
	var least Retain
	for i, t := range r.Terms {
		if i+1 < len(r.Terms) && r.Terms[i+1].Seq <= since || t.Policy.Retain == nil {
			continue
		}
		least.Age = tighter(least.Age, t.Policy.Retain.Age)
		least.Bytes = tighter(least.Bytes, t.Policy.Retain.Bytes)
	}
	return least
}

// tighter is the stricter of two limits, of which 0 is none.
func tighter(a, b crypto.Number) crypto.Number {
	if a == 0 || b == 0 {
		return cmp.Or(a, b)
	}
	return min(a, b)
}
