package unibus

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// Acceptance is what a person has looked into in a room and takes for what it is, as AcceptHistory or AcceptPlace says.
type Acceptance struct {
	settle func(context.Context, *Room) error
}

// AcceptHistory goes on, of two histories that are proven, with the one that this client has verified: hash is that of
// its entry at which they part, or how it begins, in at least 8 hexadecimal digits; or so of the last entry of a log that
// went back and was accepted (Options.Accept). Frames of the other history are refused. ErrNotFound when no two part at
// such an entry, ErrInvalid when the hash is of the one that this client has not verified.
func AcceptHistory(hash string) Acceptance {
	return Acceptance{func(ctx context.Context, r *Room) error { return r.r.AcceptHistory(ctx, hash) }}
}

// AcceptPlace takes a stored room for what it is up to a place of its stream of messages, 0 for one that is empty now:
// what is missing or damaged up to there is no finding any more, nor is that the room reached further before; of one that
// went back, what is said of the places up to which it had reached. ErrInvalid when the room does not reach so far.
func AcceptPlace(place uint64) Acceptance {
	return Acceptance{func(ctx context.Context, r *Room) error { return acceptPlace(ctx, r, place) }}
}

// Accept settles, for this client, what a person has looked into in the room. ErrInvalid when that is neither a history
// nor a place.
func (r *Room) Accept(ctx context.Context, a Acceptance) error {
	if a.settle == nil {
		return fmt.Errorf("accept: %w: neither a history nor a place", ErrInvalid)
	}
	return a.settle(ctx, r)
}

// acceptPlace pins a place up to which a room is taken for what it is.
func acceptPlace(ctx context.Context, r *Room, place uint64) error {
	if r.c.reader == nil {
		return remedy.With(fmt.Errorf("accept: %w: messages need a server", ErrInvalid), remedy.Remedy{Kind: remedy.UseServer})
	}
	m, err := r.r.Remember(ctx)
	if err != nil {
		return err
	}
	past, err := r.c.reader.Frames(ctx, r.r.ID, store.FramesQuery{None: true})
	if err != nil {
		return err
	}
	if place > past.Last {
		return fmt.Errorf("place %d: %w: the room ends at place %d", place, ErrInvalid, past.Last)
	}
	at := m.Known
	at.Anew, at.Accepted = r.r.Ledger().Anew, max(place, m.Accepted)
	if place == m.Pinned || m.Pinned > past.Last { // the frame there is taken for what was there
		at = pins.Place{Anew: at.Anew, Accepted: max(place, m.Pinned)}
		if place > 0 {
			page, err := r.c.reader.Frames(ctx, r.r.ID, store.FramesQuery{After: place - 1})
			if err != nil {
				return err
			}
			if len(page.Frames) > 0 && page.Frames[0].Seq == place {
				at.Seq, at.Hash = place, sha256.Sum256(page.Frames[0].Data)
			}
		}
	}
	return r.c.pins.Places.Accept(ctx, r.r.ID, at)
}
