package ledger

import (
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// When a room's key is to be renewed, and whom to remove by that. These are hints for those who manage the room, for which
// time counts; no entry is judged by them.

// Ended is when a user's access ended; zero while it has not. now decides about expiry only.
func (u *User) Ended(now time.Time) time.Time {
	switch {
	case u.ActiveAt(now):
		return time.Time{}
	case !u.Active:
		return u.Revoked
	}
	return u.Expires
}

// Stale reports whether somebody who holds the current epoch's key no longer should: someone who
// left since the epoch began, or a member whose access to the bus ended since then (SPEC.md §4).
// It compares what entries say of their own time, so it is a hint to rekey and no rule.
func Stale(r *Room, b *Bus, now time.Time) bool {
	if !r.Policy.Encrypted() || r.Archived != 0 {
		return false
	}
	if r.Left {
		return true
	}
	// Whom the bus does not know, as while its log is not here yet, is not held against the room.
	for key := range r.members {
		if u := b.users[key]; u != nil && !u.ActiveAt(now) && !u.Ended(now).Before(r.Epoch().Time) {
			return true
		}
	}
	return false
}

// NextExpiry is when the access of one of a room's members next ends by itself, after now; zero for never.
func NextExpiry(r *Room, b *Bus, now time.Time) (next time.Time) {
	for key := range r.members {
		u := b.users[key]
		if u == nil || !u.ActiveAt(now) || u.Expires.IsZero() {
			continue
		}
		if next.IsZero() || u.Expires.Before(next) {
			next = u.Expires
		}
	}
	return next
}

// Age is how far an epoch has come in its policy's limits.
type Age int

// Ages of an epoch.
const (
	Fresh   Age = iota
	Due         // the next owner or admin who writes renews the key
	Overdue     // a quarter beyond: nobody writes under it any more
)

// Ageing says whether the current epoch's key is to be renewed (SPEC.md §6): by its age, as the entry that began it
// claims, and by how many messages of it the caller has sent or read.
func (r *Room) Ageing(now time.Time, messages uint64) Age {
	if !r.Policy.Encrypted() || r.Archived != 0 {
		return Fresh
	}
	after := r.Policy.RekeyAfter
	old := aged(uint64(max(now.Sub(r.Epoch().Time), 0)/time.Second), uint64(after.Age))
	return max(old, aged(messages, uint64(after.Messages)))
}

// aged compares with a limit, of which 0 is none.
func aged(n, limit uint64) Age {
	switch {
	case limit == 0 || n <= limit:
		return Fresh
	case n <= limit+limit/4:
		return Due
	}
	return Overdue
}

// Removable lists the members whose access to the bus has ended and whom by may remove, in no
// order; never all owners, since only an owner removes owners, and it stays.
func Removable(r *Room, b *Bus, by crypto.PublicKey, now time.Time) []crypto.PublicKey {
	role := r.members[by]
	if !role.Manages() {
		return nil
	}
	var out []crypto.PublicKey
	for key, has := range r.members {
		if key == by || b.users[key].ActiveAt(now) || has.Manages() && role != RoleOwner {
			continue
		}
		out = append(out, key)
	}
	return out
}
