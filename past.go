package unibus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// This file reads what rooms have stored as the service gives it, frame by frame, for whoever keeps it elsewhere. It opens
// and verifies none of it: that is Verify's, or that of who reads what was kept.

// StoredFrame is one frame of a stored room, by the word of the server.
type StoredFrame struct {
	Place  uint64    // in the room's stream, from 1
	Stored time.Time // by the server's clock
	Sender PublicKey // whose subject it was stored under; zero when that names nobody
	Frame  []byte
}

// Past is what a room had stored at a time, from the first place that is still there to the last that was. It is not safe
// for concurrent use.
type Past struct {
	r     *Room
	first uint64
	last  uint64
}

// PastOf asks how far a room reaches. It is nil for a room that stores nothing. ErrInvalid straight at a store, which holds
// no messages; ErrUnavailable when it cannot be had within the client's timeout.
func PastOf(ctx context.Context, r *Room) (*Past, error) {
	if r.c.reader == nil {
		return nil, fmt.Errorf("room %s: %w: messages are there only where a server is", r.Subject(), ErrInvalid)
	}
	if err := r.r.Readable(); err != nil {
		return nil, err
	}
	if !r.r.Ledger().Policy.Stored() {
		return nil, nil
	}
	p := &Past{r: r}
	said, err := p.ask(ctx, store.FramesQuery{None: true}, 0)
	if err != nil {
		return nil, err
	}
	p.first, p.last = said.First, said.Last
	return p, nil
}

// First is the room's first place, as the server said last; behind Last when nothing up to there is there any more.
func (p *Past) First() uint64 { return p.first }

// Last is the place up to which Frames reads.
func (p *Past) Last() uint64 { return p.last }

// Frames yields what is stored, in the order of places, a part at a time as it is asked for. It ends with the first error:
// ErrUnavailable, with how much could be read, when something cannot be had within the client's timeout; ErrIntegrity when
// the room ends before it did. A place that is not yielded holds nothing.
func (p *Past) Frames(ctx context.Context) iter.Seq2[StoredFrame, error] {
	return func(yield func(StoredFrame, error) bool) {
		for next := max(p.first, 1); next <= p.last; {
			said, err := p.ask(ctx, store.FramesQuery{After: next - 1}, next)
			if err != nil {
				yield(StoredFrame{}, err)
				return
			}
			p.first = max(p.first, said.First)
			for _, f := range said.Frames {
				if f.Seq < next || f.Seq > p.last {
					continue
				}
				if !yield(StoredFrame{f.Seq, f.Time, f.Sender, f.Data}, nil) {
					return
				}
			}
			if len(said.Frames) > 0 {
				next = said.End() + 1
			} else {
				next = max(next, said.First, said.Lost+1)
			}
		}
	}
}

// Pauses between requests for what cannot be had, the longer the more often it could not.
const (
	firstPastPause = 10 * time.Millisecond
	maxPastPause   = 500 * time.Millisecond
)

// ask asks for a part of the past, and again while that cannot be had, for as long as the client waits for a server.
func (p *Past) ask(ctx context.Context, q store.FramesQuery, next uint64) (store.Past, error) {
	began := time.Now()
	for wait := firstPastPause; ; wait = min(2*wait, maxPastPause) {
		said, err := p.r.c.reader.Frames(ctx, p.r.r.ID, q)
		if err == nil && said.Last < p.last {
			err = fmt.Errorf("room %s: %w: it reached to place %d, and now it ends at %d", p.r.Subject(), ErrIntegrity, p.last, said.Last)
		}
		if err == nil && next > 0 && !goesOn(said, next) {
			err = fmt.Errorf("%w: an answer without any of the messages from place %d on", ErrUnavailable, next)
		}
		late := time.Since(began) > p.r.c.reader.Timeout
		switch {
		case err == nil:
			return said, nil
		case late && errors.Is(err, ErrUnavailable) && next > 0:
			return said, fmt.Errorf("room %s: %w (%d of %d places could be read)", p.r.Subject(), err, next-1, p.last)
		case late, !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrIntegrity): // who says that it ends early may be behind
			return said, err
		}
		if err := tasks.Pause(ctx, wait); err != nil {
			return said, err
		}
	}
}

// goesOn reports whether an answer says what is at a place, or that nothing is there, up to the end, any more.
func goesOn(said store.Past, next uint64) bool {
	if len(said.Frames) > 0 {
		return said.End() >= next
	}
	return said.First > next || said.Lost >= next
}
