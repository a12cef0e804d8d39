package ledger

import (
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

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
	for key := range r.members {
		if u := b.users[key]; u != nil && !u.ActiveAt(now) && !u.Ended(now).Before(r.Epoch().Time) {
			return true
		}
	}
	return false
}

// Removable lists the members whose access to the bus has ended and whom by may remove, in no
// order; never all owners.
func Removable(r *Room, b *Bus, by crypto.PublicKey, now time.Time) []crypto.PublicKey {
	role, owners := r.members[by], r.owners
	if !role.Manages() {
		return nil
	}
	var out []crypto.PublicKey
	for key, has := range r.members {
		if key == by || b.users[key].ActiveAt(now) || has.Manages() && role != RoleOwner {
			continue
		}
		if has == RoleOwner {
			if owners == 1 {
				continue
			}
			owners--
		}
		out = append(out, key)
	}
	return out
}
