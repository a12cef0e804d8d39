package unibus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// places reads a room's past, and returns the places that are given.
func places(ctx context.Context, p *Past) (said string, err error) {
	for f, err := range p.Frames(ctx) {
		if err != nil {
			return strings.TrimSpace(said), err
		}
		if _, err := crypto.ParseHeader(f.Frame); err != nil || f.Stored.IsZero() || f.Sender != p.r.c.Key() {
			return said, fmt.Errorf("place %d: %w", f.Place, err)
		}
		said += fmt.Sprint(f.Place, " ")
	}
	return strings.TrimSpace(said), nil
}

// pages gives a frame an answer, so that a room is read in many.
func pages(q store.FramesQuery, past *store.Past) {
	if !q.None && len(past.Frames) > 1 {
		past.Frames = past.Frames[:1]
	}
}

// TestPast: what a room has stored is given as it is, up to where the room reached when it was asked; what the service
// says that cannot be is asked for again, and an error in the end.
func TestPast(t *testing.T) {
	w, must := found(t), orFatal(t)
	w.c.reader.Timeout = 500 * time.Millisecond
	room, err := w.c.CreateRoom(w.ctx, "past", DefaultPolicy())
	must(err)
	send := func() { must(room.PublishOnce(w.ctx, []byte("x"))) }
	for range 4 {
		send()
	}
	stored := w.c.reader.Past
	for name, c := range map[string]struct {
		lie  func(q store.FramesQuery, past *store.Past)
		says string
		kind error
		tell string
	}{
		"as it is":             {pages, "1 2 3 4", nil, ""},
		"of another beginning": {func(q store.FramesQuery, past *store.Past) { past.First = 3; past.Frames = later(past.Frames, 3) }, "3 4", nil, ""},
		"trimmed meanwhile": {func(q store.FramesQuery, past *store.Past) {
			if pages(q, past); q.After > 0 {
				past.First, past.Frames = 4, later(past.Frames, 4)
			}
		}, "1 4", nil, ""},
		"lost at the end": {func(q store.FramesQuery, past *store.Past) {
			if !q.None {
				past.Frames, past.Lost = earliest(past.Frames, 2), 4
			}
		}, "1 2", nil, ""},
		"once too little":  {lately(func(past *store.Past) { past.Frames = nil }), "1 2 3 4", nil, ""},
		"once not as far":  {lately(func(past *store.Past) { past.Last = 3 }), "1 2 3 4", nil, ""},
		"nothing":          {func(q store.FramesQuery, past *store.Past) { past.Frames = nil }, "", ErrUnavailable, "0 of 4 places could be read"},
		"no more than two": {func(q store.FramesQuery, past *store.Past) { past.Frames = earliest(past.Frames, 2) }, "1 2", ErrUnavailable, "2 of 4 places could be read"},
		"an end before it": {func(q store.FramesQuery, past *store.Past) {
			if !q.None {
				past.Last = 3
			}
		}, "", ErrIntegrity, "it reached to place 4, and now it ends at 3"},
	} {
		t.Run(name, func(t *testing.T) {
			w.c.reader.Past = &lyingPast{stored, c.lie}
			p, err := PastOf(w.ctx, room)
			orFatal(t)(err)
			said, err := places(w.ctx, p)
			if said != c.says || !errors.Is(err, c.kind) || err != nil && !strings.Contains(err.Error(), c.tell) {
				t.Errorf("places %q, %v; not %q, %v", said, err, c.says, c.kind)
			}
		})
	}
	w.c.reader.Past = stored
	p, err := PastOf(w.ctx, room)
	must(err)
	send() // which is not asked for any more
	if said, err := places(w.ctx, p); said != "1 2 3 4" || err != nil || p.Last() != 4 || p.First() != 1 {
		t.Errorf("%q, %v", said, err)
	}
}

// lately lies once: the second answer says something else than is true.
func lately(lie func(past *store.Past)) func(q store.FramesQuery, past *store.Past) {
	answers := 0
	return func(_ store.FramesQuery, past *store.Past) {
		if answers++; answers == 2 {
			lie(past)
		}
	}
}

// later are frames from a place on.
func later(frames []store.Frame, from uint64) (some []store.Frame) {
	for _, f := range frames {
		if f.Seq >= from {
			some = append(some, f)
		}
	}
	return some
}

// earliest are frames up to a place.
func earliest(frames []store.Frame, to uint64) (some []store.Frame) {
	for _, f := range frames {
		if f.Seq <= to {
			some = append(some, f)
		}
	}
	return some
}

// TestPastRefused: a room that stores nothing has no past, one that was archived keeps it, and none is read when nobody
// waits for it.
func TestPastRefused(t *testing.T) {
	w, must := found(t), orFatal(t)
	live := DefaultPolicy()
	live.Retain = nil
	room, err := w.c.CreateRoom(w.ctx, "live", live)
	must(err)
	if p, err := PastOf(w.ctx, room); p != nil || err != nil {
		t.Errorf("of a room that stores nothing: %v, %v", p, err)
	}
	room, err = w.c.CreateRoom(w.ctx, "stored", ledger.DefaultPolicy())
	must(err)
	must(room.PublishOnce(w.ctx, []byte("x")))
	p, err := PastOf(w.ctx, room)
	must(err)
	over, end := context.WithCancel(w.ctx)
	end()
	if said, err := places(over, p); said != "" || err == nil {
		t.Errorf("when nobody waits: %q, %v", said, err)
	}
	must(room.Archive(w.ctx))
	if p, err = PastOf(w.ctx, room); err != nil {
		t.Errorf("of a room that was archived: %v", err)
	} else if said, err := places(w.ctx, p); said != "1" || err != nil {
		t.Errorf("of a room that was archived: %q, %v", said, err)
	}
}
