package unibus

import (
	"context"

	"github.com/unibus/unibus/internal/room"
)

// Invite adds members, all in one entry. In a room whose history is joined, and in a stale one,
// the same entry rekeys. ErrExists when one is a member already, ErrNotFound when one's card is
// not known yet, ErrDenied when one is not on the allowlist.
func (r *Room) Invite(ctx context.Context, role Role, keys ...PublicKey) error {
	return r.changes.Invite(ctx, role, keys...)
}

// Kick removes members and rekeys in the same entry, so that they can read nothing from then on; and, as Rekey, those whose
// access to the bus has ended. ErrNotFound when one is no member.
func (r *Room) Kick(ctx context.Context, keys ...PublicKey) error {
	return r.changes.Kick(ctx, keys...)
}

// Leave ends the caller's own membership.
func (r *Room) Leave(ctx context.Context) error { return r.changes.Leave(ctx) }

// SetRole changes a member's role. ErrNotFound when it is no member.
func (r *Room) SetRole(ctx context.Context, key PublicKey, role Role) error {
	return r.changes.SetRole(ctx, key, role)
}

// Rekey begins a new epoch for the present members, without those whose access to the bus has ended, where the caller may
// remove them: Options.Notice is told of these, and whoever gets access back has to be invited again.
func (r *Room) Rekey(ctx context.Context) error { return r.changes.Rekey(ctx) }

// PolicyChange is what SetPolicy changes.
// The embedded Policy is what it becomes, Anew that what the room had stored is gone, and that this was meant.
type PolicyChange = room.PolicyChange

// SetPolicy replaces the room's policy, and says, if that is wanted, that what it had stored is gone: edit changes a copy
// of the present policy. ErrDenied for who is no owner.
func (r *Room) SetPolicy(ctx context.Context, edit func(p *PolicyChange)) error {
	return r.changes.SetPolicy(ctx, edit)
}

// Archive ends the room for good: what is stored can be read until it expires.
func (r *Room) Archive(ctx context.Context) error { return r.changes.Archive(ctx) }
