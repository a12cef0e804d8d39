package unibus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
)

// A room is named by its subject, or by how its id begins. Whoever makes a room gives it any subject, also one that begins the
// id of another room, and with some work has its id begin with what is the subject of another. So a name that may be either is
// refused where rooms of both kinds are known; but a subject that ids may be made for goes on meaning its room to who has used it.

// How many characters of a room's id name it at least, if the caller has made it, or somebody else: to make a room whose id begins
// with as many that are given is too much work.
const (
	PrefixOfOwn    = 6
	PrefixOfOthers = 12
)

// asSubject is the setting of a name that was used as a subject when it could be nothing else.
const asSubject = "subject"

func namedBefore(bus ID, name string) string { return "named " + bus.String() + " " + name }

// isPrefix reports whether a name may be how an id begins.
func isPrefix(name string) bool {
	return len(name) >= PrefixOfOwn && len(name) < len(crypto.ID{}.String()) && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// subjectOrPrefix opens the room of a name that may be a subject, and how an id begins.
func subjectOrPrefix(ctx context.Context, o *rooms, name string, pinned ID) (*Room, error) {
	how, err := o.c.pins.Settings.Get(ctx, namedBefore(o.c.Bus(), name))
	if err != nil {
		return nil, err
	}
	used := how == asSubject
	if used && len(name) < PrefixOfOthers { // somebody could have an id begin so
		return bySubject(ctx, o, name, pinned)
	}
	begun, err := beginning(ctx, o, name)
	if err == nil && !used { // else no room that begins so was there, and none came
		begun, err = othersBeginning(ctx, o, name, begun)
	}
	if err != nil {
		return nil, err
	}
	r, err := bySubject(ctx, o, name, pinned)
	switch {
	case err == nil && slices.ContainsFunc(begun, func(id ID) bool { return id != r.r.ID }):
		return nil, fmt.Errorf("room %s: %w: it is the subject of the room %s, and the id of another begins so: give the id of the one that is meant", name, ErrInvalid, r.r.ID)
	case err == nil && !used:
		return r, o.c.pins.Settings.Set(ctx, namedBefore(o.c.Bus(), name), asSubject)
	case errors.Is(err, ErrNotFound) && pinned.IsZero():
		return byPrefix(ctx, o, name, begun)
	}
	return r, err
}

// begins reports whether a room's id begins with a name.
func begins(id ID, name string) bool { return strings.HasPrefix(id.String(), strings.ToLower(name)) }

// beginning are the rooms whose ids begin with a name, of those of the caller: verified, also if they were left, or listed.
func beginning(ctx context.Context, o *rooms, name string) (found []ID, err error) {
	err = o.pinnedLogs(ctx, func(id ID) bool { return !begins(id, name) }, func(s *ledger.State) error {
		gone, err := o.lost.has(ctx, s)
		if err == nil && !gone {
			found = append(found, s.ID)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	refs, err := o.c.link.store.ListRoomsForEndpoint(ctx, o.c.Key())
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		if begins(ref.ID, name) && !slices.Contains(found, ref.ID) {
			found = append(found, ref.ID)
		}
	}
	return found, nil
}

// othersBeginning adds to the rooms whose ids begin with a name all others that do, for a bus admin, who may name them.
func othersBeginning(ctx context.Context, o *rooms, name string, found []ID) ([]ID, error) {
	if needAdmin(o.c.self.Allowlist(), o.c.Key()) != nil {
		return found, nil
	}
	for r, err := range o.c.link.store.Rooms(ctx, ID{}) {
		if err != nil {
			return nil, err
		}
		if begins(r.ID, name) && !slices.Contains(found, r.ID) {
			found = append(found, r.ID)
		}
	}
	return found, nil
}

// maySee reports whether a room is one of the caller's, or the caller an admin of the bus.
func maySee(c *Client, r *Room) bool {
	return r.r.Ledger().Role(c.Key()) != "" || needAdmin(c.self.Allowlist(), c.Key()) == nil
}

// byPrefix opens the one room that a name which begins its id names, of those whose ids begin so.
func byPrefix(ctx context.Context, o *rooms, name string, begun []ID) (*Room, error) {
	var meant []*Room
	others := false // have made one, which takes more of its id to name it
	for _, id := range begun {
		r, err := o.byID(ctx, id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		switch {
		case err != nil || !maySee(o.c, r):
		case len(name) >= PrefixOfOthers, r.Info().Creator == o.c.Key():
			meant = append(meant, r)
		default:
			others = true
		}
	}
	switch len(meant) {
	case 0:
		if others {
			err := fmt.Errorf("room %s: %w: how an id begins names a room that others have made from %d characters on", name, ErrNotFound, PrefixOfOthers)
			return nil, remedy.With(err, remedy.Remedy{Kind: remedy.ListRooms})
		}
		return nil, noRoom(name)
	case 1:
		return meant[0], nil
	}
	return nil, fmt.Errorf("room %s: %w: the ids of %d rooms begin so", name, ErrInvalid, len(meant))
}
