package unibus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
)

// change appends an entry to the room's log, with the bus log up to date.
func (r *Room) change(ctx context.Context, next mirror.Next) error {
	if err := r.c.bus.sync(ctx); err != nil {
		return err
	}
	if !r.c.active(r.c.id.Key()) {
		return r.c.explain(ErrDenied)
	}
	if err := r.append(ctx, next); errors.Is(err, ErrLogRolledBack) { // which names the room
		return err
	} else if err != nil {
		return fmt.Errorf("room %s: %w", r.Subject(), err)
	}
	return nil
}

// manages refuses what only an owner or admin may do, before keys are made for it.
func (r *Room) manages(s *ledger.State) error {
	if role := s.Room.Role(r.c.id.Key()); !role.Manages() {
		if role == "" {
			role = "not a member"
		}
		return fmt.Errorf("%w: only an owner or admin may, and you are %s", ErrDenied, article(role))
	}
	return nil
}

func article(role Role) string {
	switch role {
	case RoleOwner, RoleAdmin:
		return "an " + string(role)
	case RoleMember, RoleReader:
		return "a " + string(role)
	}
	return string(role)
}

// Freshen rekeys the room if it is stale and the caller may, removing revoked members in the same
// entry where its role allows. It reports whether there was anything to do.
func (r *Room) Freshen(ctx context.Context) (bool, error) {
	if !r.outdated() {
		return false, nil
	}
	did := false
	err := r.change(ctx, func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		did = false
		stale, gone := r.stale(s)
		if !stale && len(gone) == 0 || !s.Room.Role(r.c.id.Key()).Manages() {
			return nil, nil
		}
		did = true
		return r.rekeyWithout(ctx, s, gone)
	})
	return did && err == nil, err
}

// outdated reports whether Freshen would find something to do.
func (r *Room) outdated() bool {
	s := r.state()
	stale, gone := r.stale(s)
	return (stale || len(gone) > 0) && s.Room.Role(r.c.id.Key()).Manages()
}

// stale says whether a room is stale, and which revoked members the caller may remove.
func (r *Room) stale(s *ledger.State) (stale bool, gone []PublicKey) {
	if !s.Room.Policy.Encrypted() || s.Room.Archived != 0 {
		return false, nil
	}
	now, bus := time.Now(), r.c.bus.state().Bus
	return ledger.Stale(s.Room, bus, now), ledger.Removable(s.Room, bus, r.c.id.Key(), now)
}

// strangers is ErrExists when some are members.
func (r *Room) strangers(s *ledger.State, keys []PublicKey) error {
	var there []string
	for _, key := range keys {
		if s.Room.Role(key) != "" {
			there = append(there, r.c.nameOf(key))
		}
	}
	switch {
	case len(there) == 0:
		return nil
	case len(there) < len(keys):
		return withHint(fmt.Errorf("%s: %w: in the room already; nobody was invited", strings.Join(there, ", "), ErrExists), "leave them out")
	}
	return fmt.Errorf("%s: %w: in the room already", strings.Join(there, ", "), ErrExists)
}

// Invite adds members, all in one entry. In a room whose history is joined, and in a stale one,
// the same entry rekeys. ErrExists when one is a member already, ErrNotFound when one's card is
// not known yet, ErrDenied when one is not on the allowlist.
func (r *Room) Invite(ctx context.Context, role Role, keys ...PublicKey) error {
	if _, err := r.Freshen(ctx); err != nil { // else the newcomers' role would wait behind the old ones' removal
		return err
	}
	return r.change(ctx, func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		if err := r.manages(s); err != nil {
			return nil, err
		}
		if err := r.strangers(s, keys); err != nil {
			return nil, err
		}
		invite := &ledger.Invite{}
		for _, key := range keys {
			if !r.c.active(key) {
				return nil, withHint(fmt.Errorf("%s: %w: not on the allowlist", key, ErrDenied), "an admin allows it: unibus user add %s", key)
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
		p.Key.Key, err = r.keys.get(ctx, s.Room.Epochs, p.Key.Epoch)
		return p, err
	})
}

// Kick removes members and rekeys in the same entry, so that they can read nothing from then on.
// ErrNotFound when one is no member.
func (r *Room) Kick(ctx context.Context, keys ...PublicKey) error {
	return r.change(ctx, func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		if err := r.manages(s); err != nil {
			return nil, err
		}
		for _, key := range keys {
			if s.Room.Role(key) == "" {
				return nil, fmt.Errorf("%s: %w: not a member", r.c.nameOf(key), ErrNotFound)
			}
		}
		remove := &ledger.Remove{Keys: keys}
		if _, gone := r.stale(s); len(gone) > 0 {
			for _, key := range gone {
				if !slices.Contains(remove.Keys, key) {
					remove.Keys = append(slices.Clone(remove.Keys), key)
				}
			}
		}
		p := &mirror.Proposal{Body: remove}
		if !s.Room.Policy.Encrypted() {
			return p, nil
		}
		var err error
		remove.Rekey, p.Key, err = r.rekey(ctx, s, s.Room.Policy.History)
		return p, err
	})
}

// Leave ends the caller's own membership.
func (r *Room) Leave(ctx context.Context) error {
	return r.change(ctx, func(_ context.Context, s *ledger.State) (*mirror.Proposal, error) {
		if s.Room.Role(r.c.id.Key()) == "" {
			return nil, fmt.Errorf("%w: you are not a member", ErrNotFound)
		}
		return &mirror.Proposal{Body: &ledger.Leave{}}, nil
	})
}

// SetRole changes a member's role. ErrNotFound when it is no member.
func (r *Room) SetRole(ctx context.Context, key PublicKey, role Role) error {
	return r.change(ctx, func(_ context.Context, s *ledger.State) (*mirror.Proposal, error) {
		switch s.Room.Role(key) {
		case "":
			return nil, fmt.Errorf("%s: %w: not a member", r.c.nameOf(key), ErrNotFound)
		case role:
			return nil, nil
		}
		return &mirror.Proposal{Body: &ledger.MemberRole{Key: key, Role: role}}, nil
	})
}

// Rekey begins a new epoch for the present members, without the revoked ones where the caller may
// remove them.
func (r *Room) Rekey(ctx context.Context) error {
	return r.change(ctx, func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		if err := r.manages(s); err != nil {
			return nil, err
		}
		if !s.Room.Policy.Encrypted() {
			return nil, fmt.Errorf("%w: a room without encryption has no key", ErrInvalid)
		}
		_, gone := r.stale(s)
		return r.rekeyWithout(ctx, s, gone)
	})
}

// SetPolicy replaces the room's policy; edit changes a copy of the present one.
func (r *Room) SetPolicy(ctx context.Context, edit func(p *Policy)) error {
	return r.setPolicy(ctx, edit, false)
}

// BeginAnew says for everyone, as an owner may, that what the room had stored is gone, and that this was meant: the
// messages of a bus that was restored or migrated do not come with it. The policy is changed as with SetPolicy.
func (r *Room) BeginAnew(ctx context.Context, edit func(p *Policy)) error {
	return r.setPolicy(ctx, edit, true)
}

func (r *Room) setPolicy(ctx context.Context, edit func(p *Policy), anew bool) error {
	return r.change(ctx, func(ctx context.Context, s *ledger.State) (*mirror.Proposal, error) {
		p := s.Room.Policy
		edit(&p)
		set := &ledger.SetPolicy{Policy: p, Anew: anew}
		proposal := &mirror.Proposal{Body: set}
		if s.Room.Role(r.c.id.Key()) != RoleOwner {
			return nil, fmt.Errorf("%w: only an owner changes the policy", ErrDenied)
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
func (r *Room) Archive(ctx context.Context) error {
	return r.change(ctx, func(_ context.Context, s *ledger.State) (*mirror.Proposal, error) {
		if s.Room.Archived != 0 {
			return nil, fmt.Errorf("%w: archived", ErrExists)
		}
		return &mirror.Proposal{Body: &ledger.Archive{}}, nil
	})
}

// LogEntry is one verified entry of a log, for people and audits.
type LogEntry struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"` // as its author claims
	By   PublicKey `json:"by"`
	Name string    `json:"name"`
	Op   string    `json:"op"`
	Body any       `json:"body"`
	Hash string    `json:"hash"`

	Statement []byte `json:"-"` // as it was signed
	Summary   string `json:"-"` // what it did in a few words, for people; empty where Op says it all
}

// Log fetches a room's whole log from the store and verifies it from its first entry.
func (r *Room) Log(ctx context.Context) ([]LogEntry, error) { return r.audit(ctx) }

// BusLog fetches the whole bus log from the store and verifies it from its first entry.
func (c *Client) BusLog(ctx context.Context) ([]LogEntry, error) {
	if c.bus.id.IsZero() {
		return nil, fmt.Errorf("bus log: %w: the store is empty", ErrNotFound)
	}
	return c.bus.audit(ctx)
}

// audit verifies the store's log afresh.
func (l *chain) audit(ctx context.Context) ([]LogEntry, error) {
	entries, err := l.log.Audit(ctx)
	err = l.named(err)
	out := make([]LogEntry, len(entries))
	for i, e := range entries {
		out[i] = l.c.logEntry(e)
	}
	return out, err
}

func (c *Client) logEntry(e *ledger.Entry) LogEntry {
	return LogEntry{Seq: e.Seq, Time: e.Time, By: e.By, Name: c.nameOf(e.By), Op: e.Op, Body: e.Body, Hash: e.Hash.String(), Statement: e.Statement, Summary: e.Words(c.nameOf)}
}
