package reader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/store"
)

// A feed goes on step by step: each looks at what is due by now, of parked frames, gaps and forged frames, and then reads
// a frame, waiting for it no longer than until something is due. Errors are explained by what is known of the room.

// follow reads frames until there is an end to it.
func (f *feed) follow() error {
	for f.ctx.Err() == nil { // else the cause says more
		over, err := f.step()
		if err != nil {
			err = f.explain(err)
		}
		if over || err != nil {
			return err
		}
	}
	return nil
}

// step looks at what is due, and reads a frame unless it is over.
func (f *feed) step() (over bool, err error) {
	if !f.closing && f.s.finishing.Err() != nil {
		if err := f.close(); err != nil {
			return false, err
		}
	}
	now := time.Now()
	again, err := f.due(now)
	if err != nil {
		return false, err
	}
	if at := f.judging.forgedFrames.due(); !at.IsZero() && now.After(at) {
		f.judging.tellForged()
	}
	wake := inbox.Earlier(again, f.judging.forgedFrames.due())
	if f.stored && f.next < f.liveFrom {
		return false, f.read(wake)
	}
	if f.settled.IsZero() {
		f.settled = now.Add(patience.Gap)
	}
	if over = f.closing && (again.IsZero() || now.After(f.settled)); over {
		if err := f.finish(now); err != nil {
			return false, err
		}
	}
	if err := f.out.flush(); err != nil {
		return false, err
	}
	if over || !f.closing {
		f.out.release()
		f.out.awaitMerge()
	}
	if !f.closing {
		f.s.end.tell(f.s)
	}
	if over {
		return true, nil
	}
	return false, f.read(wake)
}

// explain finds the reason of an error in what is known of the room; nil when the feed goes on.
func (f *feed) explain(err error) error {
	switch {
	case f.ctx.Err() != nil:
		return nil
	case f.s.rd.Refused() != nil:
		return f.s.rd.Refused()
	case errors.Is(err, errUnstored):
		f.goLive()
		return nil
	case errors.Is(err, store.ErrDenied), errors.Is(err, store.ErrNotFound):
		if serr := f.r.Sync(f.ctx); serr != nil {
			return err
		}
		if why := f.r.Readable(); why != nil {
			return why
		}
		if f.stored && !f.r.Ledger().Policy.Stored() { // that is why there is no past
			f.goLive()
			return nil
		}
	}
	return err
}

// goLive goes on in a room that stores nothing any more.
func (f *feed) goLive() {
	f.stored, f.from = false, 0 // what comes has no place
	f.in.EndStored()
	f.src = f.past.live
}

// fallsShort fails with store.ErrUnavailable when a room has been said for too long to end before where it was to be read to.
func (f *feed) fallsShort(now time.Time) error {
	if f.short.IsZero() {
		f.short = now
	}
	f.past.quiet = tailAfter
	if now.Sub(f.short) <= f.s.rd.Timeout {
		return nil
	}
	return fmt.Errorf("room %s: %w: it is said to end at place %d now, and was said to reach to %d (%d of %d places could be read)",
		f.subject, store.ErrUnavailable, f.past.last, f.liveFrom-1, f.next-1, f.liveFrom-1)
}

// due looks at what is parked, gives up on what has been waited for long enough, and says when to look again; zero for
// never. What is missing of a stored room is judged when that has been read to its end, as told.
func (f *feed) due(now time.Time) (again time.Time, err error) {
	if f.stored && f.next >= f.liveFrom { // it may hold nothing at all
		f.in.Reached(f.past.first)
	}
	if again, err = f.waiting.unpark(); err != nil {
		return again, err
	}
	if len(f.waiting.frames) > 0 && f.closing && f.next >= f.liveFrom && !f.judging.told[once{about: Ahead}] {
		f.judging.told[once{about: Ahead}] = true
		f.s.rd.Tell("%s: waiting up to %v for entries of the room's log that messages name", f.subject, patience.Log)
	}
	switch {
	case !f.stored:
	case len(f.waiting.frames) > 0, !f.past.read() && !(f.closing && f.next >= f.liveFrom):
		return again, nil
	case f.closing && f.next < f.liveFrom:
		if err := f.fallsShort(now); err != nil {
			return again, err
		}
		again = now.Add(2 * tailAfter) // the past has been asked again by then
	}
	switch err := f.looking.refreshFacts(f.ctx, now); {
	case err == nil:
		return inbox.Earlier(again, f.in.Due(now)), nil
	case errors.Is(err, store.ErrUnavailable) && !f.closing:
		return inbox.Earlier(again, now.Add(factsEvery)), nil // it is judged when the past can be had
	default:
		return again, err
	}
}

// close has a feed that follows end with what is stored by now.
func (f *feed) close() error {
	f.closing, f.reading, f.settled = true, f.ctx, time.Time{}
	if !f.stored {
		return nil
	}
	past, err := f.look(f.ctx, store.FramesQuery{None: true})
	if errors.Is(err, errNoStream) {
		f.past.tellGone()
		return nil
	}
	if err != nil {
		return err
	}
	f.liveFrom = max(f.liveFrom, past.Last+1)
	return f.past.reachesTo(f.ctx, past)
}

// finish gives up at the end on everything that is still waited for, and tells of it.
func (f *feed) finish(now time.Time) error {
	if err := f.looking.refreshFacts(f.ctx, now); err != nil {
		return err
	}
	f.waiting.giveUpAllParked()
	f.in.Finish(now)
	f.judging.tellForged()
	return nil
}

// read takes one frame; again is when to look at what is due, zero for never.
func (f *feed) read(again time.Time) error {
	ctx := f.reading
	if !again.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, again)
		defer cancel()
	}
	if err := f.out.flush(); err != nil {
		return err
	}
	frame, err := f.src.Next(ctx)
	if f.skipped(err) {
		return nil
	}
	if err != nil {
		if ctx.Err() != nil && f.ctx.Err() == nil {
			return nil // something is due, or the end
		}
		return err
	}
	if !f.stored && f.resumeStored(&frame) {
		return nil
	}
	if err := f.handle(f.ctx, frame); err != nil {
		return err
	}
	return f.out.flush()
}

// resumeStored looks at a frame that came live. When it was stored, and the room's log says that frames now are, the feed goes on
// as that of a stored room: with all that was stored since it last was in one, of which the subscription may not have
// brought everything. Else what the server's headers say means nothing: in a room that stores nothing its writers choose
// them.
func (f *feed) resumeStored(frame *store.Frame) (again bool) {
	if frame.Seq == 0 {
		return false
	}
	live, ok := f.src.(*bus.Feed)
	if !ok || f.o.Queue != "" || !f.r.Ledger().Policy.Stored() {
		frame.Seq = 0
		return false
	}
	from := max(f.next, 1)
	f.stored = true
	f.in.BeginStored(from)
	if m, err := f.r.Remember(f.ctx); err == nil { // without it only the check of where the room ends is lost
		f.reach = m
	}
	f.readStored(live)
	f.past.followed = true
	f.past.next, f.past.first, f.past.last = from, from, max(frame.Seq, from-1)
	f.next, f.begun, f.from, f.liveFrom = from, from, from, from
	return true
}

// skipped goes on behind places that hold nothing, if that is what an error of the source says.
func (f *feed) skipped(err error) bool {
	switch {
	case errors.Is(err, errLost): // up to where the room ends
		f.hole(f.past.next, "missing, at the end of what is there")
	case errors.Is(err, errTrimmed): // before they were read
		f.in.Reached(f.past.first)
		inbox.Skipped(f.in, f.next, f.past.first)
	default:
		return false
	}
	f.next = f.past.next
	return true
}

// handle reads a frame at its place. An error ends the feed.
func (f *feed) handle(ctx context.Context, frame store.Frame) error {
	if f.stored {
		if frame.Seq > f.next {
			inbox.Skipped(f.in, f.next, min(f.past.first, frame.Seq))
			f.hole(frame.Seq, "missing, with messages before and after it there")
		}
		f.next = frame.Seq + 1
		f.in.Reached(f.past.first)
	}
	f.out.name = "" // it may have changed
	before := f.out.made
	err := f.judging.take(ctx, frame)
	if err == nil && ctx.Err() == nil || f.out.made > before {
		f.handled = f.next
	}
	switch {
	case len(f.waiting.frames) == 0:
		f.passed = f.passed[:0]
	case f.out.made > before && len(f.passed) < maxPassed:
		f.passed = append(f.passed, frame.Seq)
	}
	return err
}

// hole looks at places of the stream that hold nothing. Retention trims from the front only; what is missing
// behind the first message that is left was lost or taken away. A server that wants to hide it can, but a
// damaged disk does not.
func (f *feed) hole(seq uint64, why string) {
	first := f.past.first
	if first >= seq {
		return
	}
	from := max(first, f.next)
	f.in.Damaged(crypto.PublicKey{}, from, seq-1)
	known := f.reach.Last()
	was := from <= known && known < seq
	switch wanted := max(from, f.from); {
	case wanted < seq && f.judging.lastBeforeAnew && !was: // an owner has said that what was there then is gone
		f.tell(inbox.Notice{Kind: inbox.Lost, From: wanted, To: seq - 1, Why: why + ", behind what is of before the room began anew"})
	case wanted < seq:
		f.tell(inbox.Notice{Kind: inbox.Lost, Finding: true, From: wanted, To: seq - 1, Why: why})
	case was: // it is not wanted, and was there all the same
		f.tell(inbox.Notice{Kind: inbox.Lost, Finding: true, From: known, To: known, Why: "missing, though it was read or acknowledged before"})
	}
}
