package reader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// beginning finds where a feed of a stored room begins. It asks once for a part of the past that fits what is wanted, and
// from the answer knows the place of the first message to deliver; it begins a little before that, so that the inbox knows
// what the first messages continue. For the last N messages it reads back until it has them, and hands them over at once.
type beginning struct{ f *feed }

// begin finds the place. What is stored after its question counts as having come live. How far the room was known to
// reach is read before the question: what other processes of this client learn later is no promise of this answer.
func (b *beginning) begin(ctx context.Context) (err error) {
	if b.f.reach, err = b.f.r.Remember(ctx); err != nil {
		return err
	}
	q := store.FramesQuery{Last: contextFrames}
	resume := b.f.o.resume.place
	before := resume - min(resume, contextFrames+1)
	switch {
	case resume > 0:
		q = store.FramesQuery{After: before}
	case b.f.o.All:
		q = store.FramesQuery{}
	case b.f.o.Last > 0:
		q = store.FramesQuery{None: true}
	case !b.f.o.Since.IsZero():
		q = store.FramesQuery{Since: b.f.o.Since}
	}
	past, err := b.f.look(ctx, q)
	if err == nil {
		past, err = reaching(ctx, b.f.reach.Pinned, past, func(ctx context.Context) (store.Past, error) { return b.f.look(ctx, q) })
	}
	gone := errors.Is(err, errNoStream) // for long enough
	if gone {                           // it is read as what it would be if it was made anew
		past, err = store.Past{First: 1}, nil
		b.f.past.tellGone()
	}
	if err != nil {
		return err
	}
	if past.Last < b.f.reach.Pinned && !gone {
		b.f.tell(inbox.Notice{
			Kind: RolledBack, Finding: true, From: past.Last + 1, To: b.f.reach.Pinned,
			Why: fmt.Sprintf("the room reached to place %d before, and now it ends at %d", b.f.reach.Pinned, past.Last),
		})
	}
	if place := b.f.reach.Disputed; place > b.f.reach.Accepted {
		b.f.tell(inbox.Notice{Kind: RolledBack, Finding: true, From: place, To: place, Place: place, Why: room.AnotherFrame(place)})
	}
	b.f.liveFrom = past.Last + 1
	switch {
	case resume > 0:
		begin := max(past.First, before+1)
		b.f.from = max(begin, resume)
		return b.start(origin{begin, begin == past.First}, past)
	case b.f.o.All:
		b.f.from = past.First
		return b.start(origin{past.First, true}, past)
	case b.f.o.Last > 0:
		return b.beginLast(ctx, past.First)
	case !b.f.o.Since.IsZero():
		return b.beginSince(ctx, past)
	}
	b.f.from = b.f.liveFrom
	begin := b.f.liveFrom
	if len(past.Frames) > 0 {
		begin = past.Frames[0].Seq
	}
	return b.start(origin{place: begin}, past)
}

// origin is where a feed begins to read: at a place, before which nothing is stored if it is the first.
type origin struct {
	place uint64
	first bool
}

// start has the feed read from where it begins; past is an answer that begins there, which need not be asked for again.
func (b *beginning) start(o origin, past store.Past) error {
	at, from := o.place, o.place
	if o.first {
		from = 0 // whatever the server says is the first
	}
	b.f.newInbox(inbox.Options{Start: o.first, From: from})
	b.f.begun, b.f.whole = at, o.first
	b.f.next, b.f.past.next, b.f.handled = at, at, at
	b.f.past.first, b.f.past.last, b.f.past.page = past.First, past.Last, past.Frames
	if n := len(past.Frames); n > 0 && past.End() < past.Last {
		b.f.past.fetchAhead(past.End())
	}
	return nil
}

// look asks for a part of the past, again and again within the client's timeout while it cannot be had, and for as long as it
// takes to be sure that there is no stream: a room that was made just now may not have its own yet.
func (f *feed) look(outer context.Context, q store.FramesQuery) (store.Past, error) {
	ctx, cancel := context.WithTimeout(outer, f.s.rd.Timeout+2*patience.RolledBack)
	defer cancel()
	q.Bytes = f.page
	began := time.Now()
	for wait := firstPause; ; wait = min(2*wait, maxPause) {
		past, err := f.past.query(ctx, q)
		gone := f.past.isGone(err)
		late := time.Since(began) > f.s.rd.Timeout && f.past.missed.IsZero()
		if err == nil || !errors.Is(err, store.ErrUnavailable) || gone || late {
			return past, err
		}
		if err := tasks.Pause(ctx, wait); err != nil {
			return past, fmt.Errorf("%w: %w", store.ErrUnavailable, err)
		}
	}
}

// beginSince begins with the first frame that was stored at a time or later, by the server's clock, or was sealed then, by
// its writer's. The second is looked for in what is stored before the first, further back as long as there is more of it:
// else a server could leave out messages by giving them an earlier time.
func (b *beginning) beginSince(ctx context.Context, past store.Past) error {
	b.f.from = b.f.liveFrom
	if len(past.Frames) > 0 {
		b.f.from = past.Frames[0].Seq
	}
	for window := uint64(contextFrames); ; window *= 4 {
		begin := max(past.First, b.f.from-min(b.f.from, window))
		sealed, page, err := b.sealedSince(ctx, begin, past)
		if err != nil {
			return err
		}
		if sealed == 0 {
			return b.start(origin{begin, begin == past.First}, page)
		}
		b.f.from = sealed
	}
}

// sealedSince finds the first frame from a place on, before those to deliver, that was sealed since the time from
// which on they are wanted; 0 when there is none. It returns the part of the past in which the search began.
func (b *beginning) sealedSince(ctx context.Context, begin uint64, known store.Past) (place uint64, page store.Past, err error) {
	page = store.Past{First: known.First, Last: known.Last}
	wanted := uint64(max(b.f.o.Since.UnixMicro(), 0))
	ask := func(ctx context.Context, q store.FramesQuery) (store.Past, error) {
		past, err := b.f.look(ctx, q)
		if q.After == begin-1 {
			page = past
		}
		return past, err
	}
	err = b.f.looking.search(ctx, ask, begin, b.f.from, func(frame store.Frame, v *ledger.Verdict) (enough bool) {
		if v.Content.Time >= wanted {
			place = frame.Seq
		}
		return place > 0
	})
	return place, page, err
}

// beginLast reads back as far as the last N messages need: from so many frames before the end, and if fewer messages end
// in these, from four times as many.
func (b *beginning) beginLast(ctx context.Context, first uint64) error {
	for window := uint64(b.f.o.Last) + contextFrames; ; window *= 4 {
		begin := max(first, b.f.liveFrom-min(b.f.liveFrom, window))
		enough, err := b.tail(ctx, origin{begin, begin == first})
		if err != nil || enough {
			return err
		}
	}
}

// tail reads from a place to the end of what is stored, and keeps the last N messages. It reports false when they may
// reach back beyond that place, and then has told nobody of anything.
func (b *beginning) tail(ctx context.Context, o origin) (bool, error) {
	b.f.out.batch, b.f.out.size, b.f.from, b.f.out.back = nil, 0, o.place, true
	var notices []Notice
	b.f.notice = func(n Notice) { notices = append(notices, n) }
	clear(b.f.judging.told) // those of a try that did not reach back far enough were told to nobody
	defer func() { b.f.notice, b.f.out.back, b.f.out.size = b.f.s.notice, false, 0 }()
	if err := b.start(o, store.Past{First: o.place, Last: b.f.liveFrom - 1}); err != nil {
		return false, err
	}
	for b.f.past.next < b.f.liveFrom {
		if err := b.readBack(ctx); err != nil {
			return false, err
		}
	}
	b.f.in.Release(time.Now()) // frames behind a gap are among the last, too
	byPlace(b.f.out.batch)
	b.f.out.batch = b.f.out.batch[max(0, len(b.f.out.batch)-b.f.o.Last):]
	unsure := slices.ContainsFunc(b.f.out.batch, func(m Message) bool { return m.Unsure })
	if !o.first && (unsure || len(b.f.out.batch) < b.f.o.Last) {
		return false, nil
	}
	for _, n := range notices {
		b.f.s.notice(n)
	}
	return true, nil
}

// readBack reads one frame on the way to the end of what was stored when the feed began. When the room is said to end
// earlier by now, it waits for what is missing no longer than the client's timeout, and then fails.
func (b *beginning) readBack(ctx context.Context) error {
	step := ctx
	if b.f.past.read() {
		if err := b.f.fallsShort(time.Now()); err != nil {
			return err
		}
		var cancel context.CancelFunc
		step, cancel = context.WithTimeout(ctx, 2*tailAfter)
		defer cancel()
	}
	frame, err := b.f.src.Next(step)
	switch {
	case b.f.skipped(err), err != nil && step.Err() != nil && ctx.Err() == nil:
		return nil
	case err != nil:
		return err
	}
	return b.f.handle(ctx, frame)
}

// byPlace sorts messages by where they are stored, but those of a stream, which came in its order, stay in that: a frame
// that was sent again is stored behind its successors.
func byPlace(batch []Message) {
	type stream struct {
		sender crypto.PublicKey
		id     [16]byte
	}
	reached := map[stream]uint64{}
	for i := range batch {
		m := &batch[i]
		of := stream{m.Sender, m.Stream}
		m.Place = max(m.Place, reached[of])
		reached[of] = m.Place
	}
	slices.SortStableFunc(batch, func(a, b Message) int { return cmp.Compare(a.Place, b.Place) })
}
