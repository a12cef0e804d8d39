package unibus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// begin finds where to begin in a stored room. What is fresh is what was stored after this. What the room reached
// to before is known before its end is asked for.
func (f *feed) begin(ctx context.Context) (err error) {
	if f.memory, err = f.r.remember(ctx); err != nil {
		return err
	}
	q := store.FramesQuery{Last: contextFrames}
	goOn := f.o.goOn.place
	before := goOn - min(goOn, contextFrames+1)
	switch {
	case goOn > 0:
		q = store.FramesQuery{After: before}
	case f.o.All:
		q = store.FramesQuery{}
	case f.o.Last > 0:
		q = store.FramesQuery{None: true}
	case !f.o.Since.IsZero():
		q = store.FramesQuery{Since: f.o.Since}
	}
	past, err := f.look(ctx, q)
	if err == nil {
		past, err = reaching(ctx, f.memory.pinned, past, func(ctx context.Context) (store.Past, error) { return f.look(ctx, q) })
	}
	if err != nil {
		return err
	}
	if past.Last < f.memory.pinned {
		f.tell(Notice{
			Kind: NoticeRolledBack, Finding: true, From: past.Last + 1, To: f.memory.pinned,
			Why: fmt.Sprintf("the room reached to place %d before, and now it ends at %d", f.memory.pinned, past.Last),
		})
	}
	if place := f.memory.disputed; place > f.memory.accepted {
		f.tell(Notice{Kind: NoticeRolledBack, Finding: true, From: place, To: place, Seq: place, Why: anotherFrame(place)})
	}
	f.fresh = past.Last + 1
	switch {
	case goOn > 0:
		begin := max(past.First, before+1)
		f.from = max(begin, goOn)
		return f.start(begin, begin == past.First, past)
	case f.o.All:
		f.from = past.First
		return f.start(past.First, true, past)
	case f.o.Last > 0:
		return f.beginLast(ctx, past.First)
	case !f.o.Since.IsZero():
		return f.beginSince(ctx, past)
	}
	f.from = f.fresh
	begin := f.fresh
	if len(past.Frames) > 0 {
		begin = past.Frames[0].Seq
	}
	return f.start(begin, false, past)
}

// start goes on at a place, which may be the first there is, with an answer that was read already.
func (f *feed) start(at uint64, first bool, past store.Past) error {
	from := at
	if first {
		from = 0 // whatever the server says is the first
	}
	f.open(first, from)
	f.begun, f.whole = at, first
	f.next, f.past.next, f.handled = at, at, at
	f.past.first, f.past.last, f.past.page = past.First, past.Last, past.Frames
	if n := len(past.Frames); n > 0 && past.End() < past.Last {
		f.past.fetchAhead(past.End())
	}
	return nil
}

// look asks for a part of the past, which may not be there to be read right after the room was made.
func (f *feed) look(ctx context.Context, q store.FramesQuery) (store.Past, error) {
	ctx, cancel := context.WithTimeout(ctx, f.s.c.o.Timeout)
	defer cancel()
	q.Bytes = f.page
	for wait := firstPause; ; wait = min(2*wait, maxPause) {
		past, err := f.s.c.pastFrames(ctx, f.r.id, q)
		if err == nil || !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrNotFound) {
			return past, err
		}
		if tasks.Pause(ctx, wait) != nil {
			return past, err
		}
	}
}

// beginSince begins with what was stored at a time or later, as an answer of the past says, or was sealed then, as its
// writers say: a server that leaves out the first of it is found out by what it has stored before its answer.
func (f *feed) beginSince(ctx context.Context, past store.Past) error {
	f.from = f.fresh
	if len(past.Frames) > 0 {
		f.from = past.Frames[0].Seq
	}
	for window := uint64(contextFrames); ; window *= 4 {
		begin := max(past.First, f.from-min(f.from, window))
		sealed, page, err := f.sealedSince(ctx, begin, past)
		if err != nil {
			return err
		}
		if sealed == 0 {
			return f.start(begin, begin == past.First, page)
		}
		f.from = sealed
	}
}

// sealedSince finds the first frame from a place on, before those to deliver, that was sealed since the time from
// which on they are wanted; 0 when there is none. It returns the part of the past in which the search began.
func (f *feed) sealedSince(ctx context.Context, begin uint64, known store.Past) (place uint64, page store.Past, err error) {
	page = store.Past{First: known.First, Last: known.Last}
	wanted := uint64(max(f.o.Since.UnixMicro(), 0))
	ask := func(ctx context.Context, q store.FramesQuery) (store.Past, error) {
		past, err := f.look(ctx, q)
		if q.After == begin-1 {
			page = past
		}
		return past, err
	}
	err = f.search(ctx, ask, begin, f.from, func(frame store.Frame, v *ledger.Verdict) (enough bool) {
		if v.Content.Time >= wanted {
			place = frame.Seq
		}
		return place > 0
	})
	return place, page, err
}

// beginLast reads back as far as the last N messages need.
func (f *feed) beginLast(ctx context.Context, first uint64) error {
	for window := uint64(f.o.Last) + contextFrames; ; window *= 4 {
		begin := max(first, f.fresh-min(f.fresh, window))
		enough, err := f.tail(ctx, begin, begin == first)
		if err != nil || enough {
			return err
		}
	}
}

// tail reads from a place to the end of what is stored, and keeps the last N messages. It is not
// enough when they may reach back beyond that place; all says that nothing is stored before it.
func (f *feed) tail(ctx context.Context, begin uint64, all bool) (bool, error) {
	f.batch, f.size, f.from, f.back = nil, 0, begin, true
	var notices []Notice
	f.notice = func(n Notice) { notices = append(notices, n) }
	clear(f.told) // those of a try that did not reach back far enough were told to nobody
	defer func() { f.notice, f.back, f.size = f.s.notice, false, 0 }()
	if err := f.start(begin, all, store.Past{First: begin, Last: f.fresh - 1}); err != nil {
		return false, err
	}
	for f.past.next < f.fresh {
		if err := f.readBack(ctx); err != nil {
			return false, err
		}
	}
	f.in.Release(time.Now()) // frames behind a gap are among the last, too
	byPlace(f.batch)
	f.batch = f.batch[max(0, len(f.batch)-f.o.Last):]
	unsure := slices.ContainsFunc(f.batch, func(m Message) bool { return m.Unsure })
	if !all && (unsure || len(f.batch) < f.o.Last) {
		return false, nil
	}
	for _, n := range notices {
		f.s.notice(n)
	}
	return true, nil
}

// readBack reads one frame of those that are to be read, or finds out that fewer are there.
func (f *feed) readBack(ctx context.Context) error {
	step := ctx
	if f.past.read() {
		if err := f.fallsShort(time.Now()); err != nil {
			return err
		}
		var cancel context.CancelFunc
		step, cancel = context.WithTimeout(ctx, 2*tailAfter)
		defer cancel()
	}
	frame, err := f.src.Next(step)
	switch {
	case f.skipped(err), err != nil && step.Err() != nil && ctx.Err() == nil:
		return nil
	case err != nil:
		return err
	}
	return f.handle(ctx, frame)
}

// byPlace sorts messages by where they are stored, but those of a stream, which came in its order, stay in that: a frame
// that was sent again is stored behind its successors.
func byPlace(batch []Message) {
	type stream struct {
		sender PublicKey
		id     StreamID
	}
	reached := map[stream]uint64{}
	for i := range batch {
		m := &batch[i]
		of := stream{m.Sender, m.Stream}
		m.place = max(m.place, reached[of])
		reached[of] = m.place
	}
	slices.SortStableFunc(batch, func(a, b Message) int { return cmp.Compare(a.place, b.place) })
}
