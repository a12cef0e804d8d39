package room

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// Changes changes a room's log, one entry a call: each method decides what the entry says from the log as it is when the
// entry is made, and is asked again when another entry came in between. Each is ErrDenied for who may not, ErrUnavailable when nobody knows
// whether it stands, and ErrConflict when others were quicker all the time.
type Changes struct{ *Room }

// change appends an entry to the room's log, with the bus log up to date.
func (r Changes) change(ctx context.Context, next mirror.Next) error {
	if err := r.Bus.Sync(ctx); err != nil {
		return err
	}
	if !r.Active(r.Key()) {
		return r.Excluded()
	}
	if err := r.Log.Append(ctx, next); errors.Is(err, mirror.ErrRolledBack) { // which names the room
		return err
	} else if err != nil {
		return r.helped(fmt.Errorf("room %s: %w", r.Subject(), err))
	}
	return nil
}

// helped adds to a refusal what would help.
func (r Changes) helped(err error) error {
	switch {
	case !errors.Is(err, store.ErrDenied) || remedy.Of(err).Kind != remedy.None:
		return err
	case r.Ledger().Archived != 0:
		return remedy.With(err, r.Remedy(remedy.MakeOther))
	case errors.Is(err, ledger.ErrNotAllowed):
		return remedy.With(err, r.Remedy(remedy.AskOwner))
	case errors.Is(err, ledger.ErrLastOwner):
		return remedy.With(err, r.Remedy(remedy.NameOwner))
	}
	return err
}

// manages refuses what only an owner or admin may do, before keys are made for it.
func (r Changes) manages(s *ledger.State) error {
	if role := s.Room.Role(r.Key()); !role.Manages() {
		help := r.Remedy(remedy.AskOwner)
		if role == "" {
			role = "not a member"
			help.Kind, help.User = remedy.LetIn, r.NameOf(r.Key())
		}
		return remedy.With(fmt.Errorf("%w: only an owner or admin may, and you are %s", store.ErrDenied, article(role)), help)
	}
	return nil
}

// article puts "a" or "an" before a role.
func article(role ledger.Role) string {
	switch role {
	case ledger.RoleOwner, ledger.RoleAdmin:
		return "an " + string(role)
	case ledger.RoleMember, ledger.RoleReader:
		return "a " + string(role)
	}
	return string(role)
}

// Freshen rekeys the room if it is stale and the caller may, removing revoked members in the same
// entry where its role allows. It reports whether there was anything to do.
func (r Changes) Freshen(ctx context.Context) (bool, error) {
	if !r.needsRekey() {
		return false, nil
	}
	did := false
	var gone []crypto.PublicKey
	err := r.change(ctx, func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		did, gone = false, nil
		var stale bool
		stale, gone = r.stale(s)
		if !stale && len(gone) == 0 || !s.Room.Role(r.Key()).Manages() {
			return nil, nil
		}
		did = true
		return r.rekeyWithout(ctx, s, gone)
	})
	if !did || err != nil {
		return false, err
	}
	r.tellEnded(gone)
	return true, nil
}

// tellEnded tells people whom a new key has left out, and removed, though nobody named them.
func (r Changes) tellEnded(gone []crypto.PublicKey) {
	if len(gone) == 0 {
		return
	}
	names := make([]string, len(gone))
	for i, key := range gone {
		names[i] = r.NameOf(key)
	}
	slices.Sort(names)
	r.Tell("%s has a new key, and is without %s, whose access has ended: whoever gets it back has to be invited again", r.Subject(), strings.Join(names, ", "))
}

// needsRekey reports whether Freshen would find something to do.
func (r Changes) needsRekey() bool {
	s := r.State()
	stale, gone := r.stale(s)
	return (stale || len(gone) > 0) && s.Room.Role(r.Key()).Manages()
}

// stale says whether a room is stale, and which revoked members the caller may remove.
func (r Changes) stale(s *ledger.State) (stale bool, gone []crypto.PublicKey) {
	if !s.Room.Policy.Encrypted() || s.Room.Archived != 0 {
		return false, nil
	}
	now, bus := time.Now(), r.Allowlist()
	return ledger.Stale(s.Room, bus, now), ledger.Removable(s.Room, bus, r.Key(), now)
}

// noMembers is store.ErrExists when some of those to be invited are members already.
func (r Changes) noMembers(s *ledger.State, keys []crypto.PublicKey) error {
	var there []string
	for _, key := range keys {
		if s.Room.Role(key) != "" {
			there = append(there, r.NameOf(key))
		}
	}
	switch {
	case len(there) == 0:
		return nil
	case len(there) < len(keys):
		return remedy.With(fmt.Errorf("%s: %w: in the room already; nobody was invited", strings.Join(there, ", "), store.ErrExists), r.Remedy(remedy.LeaveOut))
	}
	return fmt.Errorf("%s: %w: in the room already", strings.Join(there, ", "), store.ErrExists)
}

// Invite adds members, all in one entry, which rekeys a room whose history is joined; one that is stale is freshened before, by an
// entry of its own. store.ErrExists when one is a member already, store.ErrNotFound when one's card is
// not known yet, store.ErrDenied when one is not on the allowlist.
func (r Changes) Invite(ctx context.Context, role ledger.Role, keys ...crypto.PublicKey) error {
	if _, err := r.Freshen(ctx); err != nil { // else the newcomers' role would wait behind the old ones' removal
		return err
	}
	return r.change(ctx, func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		if err := r.manages(s); err != nil {
			return nil, err
		}
		if err := r.noMembers(s, keys); err != nil {
			return nil, err
		}
		invite := &ledger.Invite{}
		for _, key := range keys {
			if err := r.mayCome(key); err != nil {
				return nil, err
			}
			invite.Members = append(invite.Members, ledger.NewMember{Key: key, Role: role})
		}
		p := &mirror.Proposal{Body: invite}
		if !s.Room.Policy.Encrypted() {
			return p, nil
		}
		var err error
		if s.Room.Policy.History == ledger.HistoryJoined {
			invite.Rekey, p.Key, err = r.rekey(ctx, s, ledger.HistoryJoined)
			return p, err
		}
		p.Key = &mirror.Key{Epoch: s.Room.Epoch().Number}
		p.Key.Key, err = r.Keys.Get(ctx, s.Room.Epochs, p.Key.Epoch)
		return p, err
	})
}

// mayCome refuses who may not connect, and would wait for a key in vain.
func (r Changes) mayCome(key crypto.PublicKey) error {
	switch u := r.Allowlist().User(key); {
	case u.ActiveAt(time.Now()):
		return nil
	case u != nil && u.Active:
		return remedy.With(fmt.Errorf("%s: %w: their access expired at %s", u.Name, store.ErrDenied, u.Expires.UTC().Format(time.RFC3339)), remedy.Remedy{Kind: remedy.Extend, User: u.Name})
	case u != nil:
		return remedy.With(fmt.Errorf("%s: %w: revoked at %s", u.Name, store.ErrDenied, u.Revoked.UTC().Format(time.RFC3339)), remedy.Remedy{Kind: remedy.AllowFormer, Key: key, User: u.Name})
	}
	return remedy.With(fmt.Errorf("%s: %w: not on the allowlist", key, store.ErrDenied), remedy.Remedy{Kind: remedy.AllowUser, Key: key})
}

// Kick removes members and rekeys in the same entry, so that they can read nothing from then on; revoked members, too, where
// the caller's role allows. store.ErrNotFound when one is no member.
func (r Changes) Kick(ctx context.Context, keys ...crypto.PublicKey) error {
	var ended []crypto.PublicKey // who is removed beside them
	err := r.change(ctx, func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		if err := r.manages(s); err != nil {
			return nil, err
		}
		for _, key := range keys {
			if s.Room.Role(key) == "" {
				return nil, notMember(s, r.NameOf(key))
			}
		}
		_, ended = r.stale(s)
		ended = slices.DeleteFunc(ended, func(key crypto.PublicKey) bool { return slices.Contains(keys, key) })
		remove := &ledger.Remove{Keys: slices.Concat(keys, ended)}
		p := &mirror.Proposal{Body: remove}
		if !s.Room.Policy.Encrypted() {
			return p, nil
		}
		var err error
		remove.Rekey, p.Key, err = r.rekey(ctx, s, s.Room.Policy.History)
		return p, err
	})
	if err == nil {
		r.tellEnded(ended)
	}
	return err
}

// Leave ends the caller's own membership.
func (r Changes) Leave(ctx context.Context) error {
	return r.change(ctx, func(_ context.Context, s *ledger.State) (*mirror.Proposal, error) {
		if s.Room.Role(r.Key()) == "" {
			return nil, fmt.Errorf("%w: you are not a member", store.ErrNotFound)
		}
		return &mirror.Proposal{Body: &ledger.Leave{}}, nil
	})
}

// notMember is the ErrNotFound of somebody who is no member.
func notMember(room *ledger.State, called string) error {
	err := fmt.Errorf("%s: %w: not a member", called, store.ErrNotFound)
	return remedy.With(err, remedy.Remedy{Kind: remedy.ListMembers, Room: room.Room.Subject})
}

// SetRole changes a member's role. store.ErrNotFound when it is no member.
func (r Changes) SetRole(ctx context.Context, key crypto.PublicKey, role ledger.Role) error {
	return r.change(ctx, func(_ context.Context, s *ledger.State) (*mirror.Proposal, error) {
		switch s.Room.Role(key) {
		case "":
			return nil, notMember(s, r.NameOf(key))
		case role:
			return nil, nil
		}
		return &mirror.Proposal{Body: &ledger.MemberRole{Key: key, Role: role}}, nil
	})
}

// Rekey begins a new epoch for the present members, without those whose access to the bus has ended, where the caller may
// remove them: these are told of.
func (r Changes) Rekey(ctx context.Context) error {
	var gone []crypto.PublicKey
	err := r.change(ctx, func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		if err := r.manages(s); err != nil {
			return nil, err
		}
		if !s.Room.Policy.Encrypted() {
			return nil, fmt.Errorf("%w: a room without encryption has no key", store.ErrInvalid)
		}
		_, gone = r.stale(s)
		return r.rekeyWithout(ctx, s, gone)
	})
	if err == nil {
		r.tellEnded(gone)
	}
	return err
}

// PolicyChange is what a room's owner changes at once.
type PolicyChange struct {
	ledger.Policy
	// Anew says for everyone that what the room had stored is gone, and that this was meant: the messages of a bus that
	// was restored or migrated do not come with it (SPEC.md §6).
	Anew bool
}

// SetPolicy replaces the room's policy; edit changes a copy of the present one.
func (r Changes) SetPolicy(ctx context.Context, edit func(p *PolicyChange)) error {
	return r.change(ctx, func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		p := PolicyChange{Policy: s.Room.Policy.Copy()}
		edit(&p)
		set := &ledger.SetPolicy{Policy: p.Policy, Anew: p.Anew}
		proposal := &mirror.Proposal{Body: set}
		if s.Room.Role(r.Key()) != ledger.RoleOwner {
			return nil, remedy.With(fmt.Errorf("%w: only an owner changes the policy", store.ErrDenied), r.Remedy(remedy.AskOwner))
		}
		if !p.Anew && reflect.DeepEqual(p.Policy, s.Room.Policy) {
			return nil, nil
		}
		if p.Encrypted() && p.History != s.Room.Policy.History {
			var err error
			set.Rekey, proposal.Key, err = r.rekey(ctx, s, p.History)
			return proposal, err
		}
		return proposal, nil
	})
}

// Archive ends the room for good: what is stored can be read until it expires.
func (r Changes) Archive(ctx context.Context) error {
	return r.change(ctx, func(_ context.Context, s *ledger.State) (*mirror.Proposal, error) {
		if s.Room.Archived != 0 {
			return nil, fmt.Errorf("%w: archived", store.ErrExists)
		}
		return &mirror.Proposal{Body: &ledger.Archive{}}, nil
	})
}
