package unibus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/reader"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/tasks"
)

// stillNamed is the room that a subject means: the pinned one, which it has to mean in the store as well; or the one there, when a
// person says so.
func (o *rooms) stillNamed(ctx context.Context, subject string, pinned ID) (ID, error) {
	now, err := o.c.link.store.RoomBySubject(ctx, subject)
	if errors.Is(err, ErrNotFound) {
		return pinned, nil // a room that is gone shows at its log, and one that was left is not shown
	}
	if err != nil || now.ID == pinned {
		return pinned, err
	}
	if o.c.o.Confirm {
		return now.ID, o.c.pins.Subjects.Replace(ctx, o.c.Bus(), subject, now.ID)
	}
	err = fmt.Errorf("room %s: %w: the subject meant the room %s and now means %s", subject, ErrIntegrity, pinned, now.ID)
	return pinned, remedy.With(err, remedy.Remedy{Kind: remedy.ConfirmSubject, Room: subject})
}

// noRoom is the ErrNotFound of a name that no room has.
func noRoom(name string) error {
	return remedy.With(fmt.Errorf("room %s: %w", name, ErrNotFound), remedy.Remedy{Kind: remedy.ListRooms, Room: name})
}

// newSubject opens the room of a subject of which nothing was verified.
func (o *rooms) newSubject(ctx context.Context, name string) (*Room, error) {
	found, err := o.c.link.store.RoomBySubject(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return nil, noRoom(name)
	}
	if err != nil {
		return nil, err
	}
	r, err := o.byID(ctx, found.ID)
	if err != nil {
		return nil, unverified(name, err) // else its subject would be pinned
	}
	if r.Subject() != name {
		return nil, fmt.Errorf("room %s: %w: the store gave the room %s instead", name, ErrIntegrity, r.Subject())
	}
	return r, o.c.pins.Subjects.Pin(ctx, o.c.Bus(), name, r.r.ID)
}

// bySubject opens the room of a subject, which is pinned to a room, or to none.
func bySubject(ctx context.Context, o *rooms, name string, pinned ID) (*Room, error) {
	if pinned.IsZero() {
		return o.newSubject(ctx, name)
	}
	// The store is asked all the same, beside the work: it must not say anything else now.
	var beside tasks.Group
	var means ID
	var unnamed error
	beside.Go(func() { means, unnamed = o.stillNamed(ctx, name, pinned) })
	r, err := o.byID(ctx, pinned)
	beside.Wait()
	switch {
	case unnamed != nil:
		return nil, unnamed
	case means != pinned:
		return o.byID(ctx, means)
	}
	return r, err
}

// Room opens a room by subject, by id, or by how its id begins: at least PrefixOfOwn characters for one that the caller has
// made, PrefixOfOthers for another of the caller's, or for a bus admin any; and verifies its log. A name that may be how an id begins is ErrInvalid when it is
// a subject and begins the id of another room, unless it was used before, when only one of them was there; ErrNotFound covers
// rooms that are none of the caller's business.
func (c *Client) Room(ctx context.Context, name string) (*Room, error) {
	if id, err := crypto.ParseID(name); err == nil && id.IsZero() { // which no log has
		return nil, noRoom(name)
	} else if err == nil {
		return c.rooms.byID(ctx, id)
	}
	if err := ledger.ValidSubject(name); err != nil {
		return nil, remedy.With(fmt.Errorf("room %q: %w: it is neither a subject nor an id", name, ErrInvalid), remedy.Remedy{Kind: remedy.ListRooms, Room: name})
	}
	pinned, err := meaning(ctx, c.rooms, name)
	if err != nil {
		return nil, err
	}
	if isPrefix(name) {
		return subjectOrPrefix(ctx, c.rooms, name, pinned)
	}
	return bySubject(ctx, c.rooms, name, pinned)
}

// ListMyRooms lists the rooms this client is a member of, by room id, as their logs say. Its errors are those of MyRooms, and
// what comes with them.
func (c *Client) ListMyRooms(ctx context.Context) ([]RoomRef, error) {
	rooms, err := c.MyRooms(ctx)
	refs := make([]RoomRef, len(rooms))
	for i, r := range rooms {
		info := r.Info()
		refs[i] = RoomRef{ID: info.ID, Subject: info.Subject, Epoch: info.Epoch, Policy: info.Policy, Role: info.Role}
	}
	return refs, err
}

// MyRooms opens every room this client is a member of, by room id: those that the store lists, and those that were verified
// before. ErrIntegrity when the store has lost one of these, unless a person has accepted that (AcceptLoss); the others come
// with it.
func (c *Client) MyRooms(ctx context.Context) ([]*Room, error) { return c.rooms.members(ctx, anyRoom) }

// RoomsOf opens every room a user is a member of, by room id: those that the store lists, and those that this client has verified
// and whose logs say so; of others' rooms only a bus admin learns. What the store's view lists but the log does not bear out is
// ErrIntegrity, and so is a room of this client's that the store has lost; the others come with that.
func (c *Client) RoomsOf(ctx context.Context, key PublicKey) ([]*Room, error) {
	listed, rooms, err := c.rooms.of(ctx, key, anyRoom)
	own, err := withUnlisted(ctx, c.rooms, nil, listed, anyRoom, err)
	if !onlyLost(err) {
		return nil, err
	}
	for _, r := range own {
		if r.r.Ledger().Role(key) != "" {
			rooms = append(rooms, r)
		}
	}
	slices.SortFunc(rooms, func(a, b *Room) int { return a.r.ID.Compare(b.r.ID) })
	return rooms, err
}

// RoomsMatching opens the rooms of MyRooms whose subjects a pattern means, with the NATS wildcards * and >. ErrInvalid for what
// is no pattern; ErrIntegrity as of MyRooms.
func RoomsMatching(ctx context.Context, c *Client, pattern string) ([]*Room, error) {
	if err := reader.ValidPattern(pattern); err != nil {
		return nil, err
	}
	return c.rooms.members(ctx, func(subject string) bool { return reader.Matches(pattern, subject) })
}

// AllRooms opens every room of the bus, by room id: those that the store lists, and those of MyRooms; for bus admins.
// ErrIntegrity as of MyRooms.
func (c *Client) AllRooms(ctx context.Context) ([]*Room, error) {
	var ids []ID
	subjects := map[ID]string{}
	for r, err := range c.link.store.Rooms(ctx, ID{}) {
		if err != nil {
			return nil, err
		}
		ids, subjects[r.ID] = append(ids, r.ID), r.Subject
	}
	slices.SortFunc(ids, ID.Compare)
	rooms, err := c.rooms.byEnds(ctx, ids, nil, func(r *Room, err error) error {
		return explainListed(r, subjects[r.r.ID], anyRoom, err)
	})
	return withUnlisted(ctx, c.rooms, rooms, ids, anyRoom, err)
}
