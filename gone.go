package unibus

import (
	"context"
	"errors"
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
)

// A store that has lost a room, as one that was restored from before it was made, has nothing by which anybody would come
// upon it: neither a listing nor a log. So what is pinned is asked for, too.

// unlisted are the rooms of this client that are pinned, and are not among those that the store lists.
func (o *rooms) unlisted(ctx context.Context, listed []*Room) ([]*Room, error) {
	pinned, err := o.c.pins.Logs.IDs(ctx)
	if err != nil {
		return nil, err
	}
	known := map[ID]bool{o.c.Bus(): true}
	for _, r := range listed {
		known[r.r.ID] = true
	}
	var missing []ID
	for _, id := range pinned {
		if known[id] {
			continue
		}
		s, err := o.c.pins.Logs.State(ctx, id)
		if err != nil {
			return nil, err
		}
		// Who was taken out, or has left, is not listed for that.
		if s.Room == nil || s.Room.Bus != o.c.Bus() || s.Room.Role(o.c.Key()) == "" {
			continue
		}
		gone, err := o.gone(ctx, s)
		if err != nil {
			return nil, err
		}
		if !gone {
			missing = append(missing, id)
		}
	}
	return o.byIDs(ctx, missing)
}

// loss is what remembers that a room was taken for lost.
func (o *rooms) loss(id ID) string { return "lost room " + id.String() }

// gone reports whether a person has taken a room for lost, as it was when it was verified last.
func (o *rooms) gone(ctx context.Context, s *ledger.State) (bool, error) {
	lost, err := o.c.pins.Settings.Get(ctx, o.loss(s.ID))
	return err == nil && lost == fmt.Sprintf("%x", s.Head.Hash[:]), err
}

// AcceptLoss takes a room, by subject or id, for lost: the store has nothing of what this client had verified of it, and
// that was meant. From then on it is not found, until the store has it again. ErrInvalid when it is there, ErrNotFound when
// this client has never verified it.
func (c *Client) AcceptLoss(ctx context.Context, name string) error {
	id, err := crypto.ParseID(name)
	if err != nil {
		if id, err = c.pins.Subjects.Room(ctx, c.Bus(), name); err != nil {
			return err
		}
	}
	s, err := c.pins.Logs.State(ctx, id)
	switch {
	case err != nil:
		return err
	case s.Room == nil || s.Room.Bus != c.Bus():
		return fmt.Errorf("room %s: %w: nothing was verified of it here", name, ErrNotFound)
	}
	_, err = c.rooms.byID(ctx, id)
	switch {
	case errors.Is(err, mirror.ErrGone):
		return c.pins.Settings.Set(ctx, c.rooms.loss(id), fmt.Sprintf("%x", s.Head.Hash[:]))
	case errors.Is(err, ErrNotFound): // it was taken for lost before
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("room %s: %w: the store has it", name, ErrInvalid)
}
