package reader

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// Limits of looking back for what a stream had stored before reading began.
const (
	lookPlaces = 4096        // how far
	lookEvery  = time.Second // for the streams of one sender
	factsEvery = time.Second // that a room is asked about what is missing
	lookEmpty  = 8           // answers one after the other without a frame, while the room is trimmed
)

// looking looks at what is stored at other places than the one that a feed has come to: before it, for what a stream that
// is met in its middle had stored earlier, and all of it, for how much the room holds. It delivers nothing.
type looking struct {
	f       *feed
	needed  uint64                         // how many bytes the room had to hold, when that was found out last
	factsAt time.Time                      // and when that was
	looked  map[crypto.PublicKey]time.Time // when a stream of somebody's was last looked for before the feed began
}

// lookBack reads on backwards when a stream is met in its middle: its frame before must have been stored before reading
// began, unless it was lost or withheld. What is found tells the inbox where the stream was; a stream of which nothing
// is found not too long ago is taken as it comes. That what is to be read cannot be had is met elsewhere.
func (l *looking) lookBack(ctx context.Context, frame store.Frame, h crypto.Header) error {
	known := l.f.whole || l.f.out.back || h.Counter == 0 || frame.Seq < l.f.from || l.f.in.Knows(frame.Sender, h.Stream)
	if !l.f.stored || known || time.Since(l.looked[frame.Sender]) < lookEvery {
		return nil
	}
	l.looked[frame.Sender] = time.Now()
	ask := func(ctx context.Context, q store.FramesQuery) (store.Past, error) {
		return l.f.s.rd.Frames(ctx, l.f.r.ID, q)
	}
	var found *inbox.Frame
	least := max(l.f.past.first, l.f.begun-min(l.f.begun, lookPlaces))
	for end, window := l.f.begun, uint64(contextFrames); end > least; window *= 4 {
		begin := max(least, end-min(end, window))
		err := l.search(ctx, ask, begin, end, func(past store.Frame, v *ledger.Verdict) (enough bool) {
			ours := past.Sender == frame.Sender && v.Header.Stream == h.Stream && v.Header.Counter < h.Counter
			if ours && (found == nil || v.Header.Counter > found.Header.Counter) {
				found = &inbox.Frame{
					Sender: past.Sender, Header: v.Header, Content: v.Content, Size: len(past.Data), Sum: maphash.Bytes(l.f.seed, past.Data),
					Place: past.Seq, Stored: past.Time, Former: v.Former, Refused: v.Refused != nil, Context: true,
				}
			}
			return false
		})
		if errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil {
			return nil
		}
		if err != nil {
			return err
		}
		if found != nil && (found.Header.Counter == h.Counter-1 || begin+inbox.OutOfOrder <= found.Place) {
			break
		}
		end = begin
	}
	if found != nil {
		l.f.in.Take(*found, time.Now())
	}
	return nil
}

// refreshFacts finds out, before what is missing is judged, what the room's log says by now, and how much the room holds,
// where that decides whether it may have expired. store.ErrUnavailable when that cannot be had.
func (l *looking) refreshFacts(ctx context.Context, now time.Time) error {
	if !l.f.in.Judges(now) {
		return nil
	}
	if now.Sub(l.factsAt) >= factsEvery {
		if err := l.f.r.Sync(ctx); err != nil {
			return err
		}
		l.factsAt, l.needed = now, 0
	}
	need := l.f.in.Doubts(now)
	if need <= l.needed { // nothing, or no more than was asked just now
		return nil
	}
	past, err := l.f.look(ctx, store.FramesQuery{None: true})
	if err != nil {
		return err
	}
	held := uint64(0)
	// What is stored while it is counted counts as well: where much is written, all that was there before may be trimmed
	// by then.
	err = l.search(ctx, l.f.look, past.First, crypto.MaxNumber, func(frame store.Frame, _ *ledger.Verdict) (enough bool) {
		held += inbox.Size(len(frame.Data))
		return held >= need
	})
	l.f.in.Holds(held)
	if err == nil {
		l.needed = need
	}
	return err
}

// search looks at the authentic frames that are stored from a place on, up to another one or to the last, until it has
// seen enough.
func (l *looking) search(ctx context.Context, ask func(context.Context, store.FramesQuery) (store.Past, error), begin, end uint64,
	look func(frame store.Frame, v *ledger.Verdict) (enough bool),
) error {
	empty := 0
	for next, last := begin, end; next < end && next <= last; {
		past, err := ask(ctx, store.FramesQuery{After: next - 1, Bytes: l.f.page})
		if err != nil {
			return err
		}
		last = past.Last
		if len(past.Frames) == 0 { // what was there is trimmed or lost
			if empty++; next <= last && max(past.First, past.Lost+1) <= next || empty > lookEmpty {
				return fmt.Errorf("%w: an answer without any of the messages from place %d on", store.ErrUnavailable, next)
			}
			next = max(past.First, past.Lost+1, next+1)
			continue
		}
		empty = 0
		for _, frame := range past.Frames {
			if frame.Seq >= end {
				return nil
			}
			v, err := l.f.judging.judge(ctx, frame, false)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil && look(frame, v) {
				return nil
			}
		}
		next = max(past.End(), next) + 1
	}
	return nil
}
