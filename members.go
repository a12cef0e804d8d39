package unibus

import (
	"context"
)

// Invite adds members, all in one entry. In a room whose history is joined, and in a stale one,
// the same entry rekeys. ErrExists when one is a member already, ErrNotFound when one's card is
// not known yet, ErrDenied when one is not on the allowlist.
func (r *Room) Invite(ctx context.Context, role Role, keys ...PublicKey) error {
	return r.changes.Invite(ctx, role, keys...)
}

// Kick removes members and rekeys in the same entry, so that they can read nothing from then on.
// ErrNotFound when one is no member.
func (r *Room) Kick(ctx context.Context, keys ...PublicKey) error {
	return r.changes.Kick(ctx, keys...)
}

// Leave ends the caller's own membership.
func (r *Room) Leave(ctx context.Context) error { return r.changes.Leave(ctx) }

// SetRole changes a member's role. ErrNotFound when it is no member.
func (r *Room) SetRole(ctx context.Context, key PublicKey, role Role) error {
	return r.changes.SetRole(ctx, key, role)
}

// Rekey begins a new epoch for the present members, without the revoked ones where the caller may
// remove them.
func (r *Room) Rekey(ctx context.Context) error { return r.changes.Rekey(ctx) }

// SetPolicy replaces the room's policy; edit changes a copy of the present one.
func (r *Room) SetPolicy(ctx context.Context, edit func(p *Policy)) error {
	return r.changes.SetPolicy(ctx, edit)
}

// BeginAnew says for everyone, as an owner may, that what the room had stored is gone, and that this was meant: the
// messages of a bus that was restored or migrated do not come with it. The policy is changed as with SetPolicy.
func (r *Room) BeginAnew(ctx context.Context, edit func(p *Policy)) error {
	return r.changes.BeginAnew(ctx, edit)
}

// Archive ends the room for good: what is stored can be read until it expires.
func (r *Room) Archive(ctx context.Context) error { return r.changes.Archive(ctx) }

// AcceptHistory goes on, in a room of which two histories are proven, with the one that this client has verified:
// hash is that of its entry at which they part, or how it begins, in hexadecimal. Frames of the other are refused.
// ErrNotFound when no fork is known there, ErrInvalid when the hash is the other's. It does nothing in a room whose log
// ends with that hash, as one does that went back and was accepted (Options.Accept).
func (r *Room) AcceptHistory(ctx context.Context, hash string) error {
	return r.r.AcceptHistory(ctx, hash)
}
