package unibus

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/store"
)

const (
	lostAfter  = 2 * time.Second // a frame ahead of a gap waits in a live room
	batchSize  = 256             // messages handed to the receiver at once
	batchBytes = 1 << 20         // and about their size in memory
	backBytes  = 16 << 20        // beside the last N messages, while it is not known yet which these are
)

// source gives a feed the frames of its room.
type source interface {
	// Next waits for a frame.
	Next(ctx context.Context) (store.Frame, error)
	Close()
}

// feed reads one room for a subscription.
type feed struct {
	s       *Subscription
	r       *Room
	o       SubscribeOptions
	ctx     context.Context
	cancel  context.CancelCauseFunc
	reading context.Context // ctx, and until the subscription is to finish
	closing bool            // it ends with what is stored
	renewed bool            // a frame was read that is of after the room began anew
	bygones bool            // the last one that was read is of before that
	stored  bool
	page    int // bytes of the past that are read at once
	src     source
	past    *storedSource // src, in a stored room
	in      *inbox.Inbox
	notice  func(Notice)
	next    uint64    // place of the next frame
	handled uint64    // of the next one that nothing was made of yet
	made    uint64    // messages so far
	passed  []uint64  // places of frames that were given while ones before them were parked
	begun   uint64    // of the first frame that was read
	whole   bool      // which is the first there is
	from    uint64    // of the first frame to deliver
	fresh   uint64    // of the first frame that came after the feed began
	reached time.Time // when the last frame was stored
	parts   chan part // what is read of the past, when that is merged; nil when it is not, or not any more
	batch   []Message
	size    int     // of batch, about, in bytes of memory
	back    bool    // only the last N messages of batch are wanted
	memory  *memory // in a stored room
	waiting waitingRoom
	pile    pile                    // of what does not authenticate
	unread  uint64                  // frames without a key
	keyless map[uint32]time.Time    // epochs whose key is withheld, and when it was last asked for
	told    map[once]bool           // what is told but once
	settled time.Time               // by when the end has come, whatever may still be on its way
	short   time.Time               // when the room was first said to end before where it was to be read to
	needed  uint64                  // how many bytes it had to hold then
	weighed time.Time               // when it was last found out how much the room holds
	looked  map[PublicKey]time.Time // when a stream of somebody's was last looked for before begun
	subject string
	named   PublicKey // the sender of the last message, and its name
	name    string
	seed    maphash.Seed
}

// prepare makes a feed up to the point where nothing new can be missed.
func (s *Subscription) prepare(ctx context.Context, r *Room, o SubscribeOptions, page int) (*feed, error) {
	f := &feed{
		s: s, r: r, o: o, page: page, stored: r.Info().Policy.Stored() && o.Queue == "", seed: maphash.MakeSeed(),
		notice: s.notice, keyless: map[uint32]time.Time{}, told: map[once]bool{}, looked: map[PublicKey]time.Time{}, subject: r.Subject(),
	}
	f.ctx, f.cancel = context.WithCancelCause(s.ctx)
	if f.closing, f.reading = o.End, f.ctx; !f.closing {
		reading, stop := context.WithCancel(s.finishing)
		f.reading = reading
		context.AfterFunc(f.ctx, stop)
	}
	f.open(false, 0)
	live, err := s.c.conn.Subscribe(ctx, r.id, bus.Stored(f.stored), o.Queue)
	if err != nil {
		f.cancel(nil)
		return nil, err
	}
	f.src = live
	if f.stored {
		f.readStored(live)
		if err := f.begin(ctx); err != nil {
			if err = f.explain(err); err != nil { // it may have ceased to store meanwhile
				f.drop()
				return nil, err
			}
		}
	}
	r.smu.Lock()
	r.feeds[f] = true
	r.smu.Unlock()
	return f, nil
}

// readStored has the feed read what the room stores, beside what comes by the subscription.
func (f *feed) readStored(live *bus.Feed) {
	f.past = &storedSource{c: f.s.c, room: f.r, live: live, seed: f.seed, life: f.ctx, bytes: f.page, quiet: tailAfter}
	f.src = f.past
}

// drop ends a feed that does not run.
func (f *feed) drop() {
	f.cancel(nil)
	f.src.Close()
	f.in.Close()
	if f.memory != nil {
		if err := f.memory.write(context.WithoutCancel(f.ctx)); err != nil {
			f.s.c.say("what was read of %s is not remembered: %v", f.subject, err)
		}
	}
	f.r.smu.Lock()
	delete(f.r.feeds, f)
	f.r.smu.Unlock()
}

// open gives the feed an inbox with nothing in it, for reading from a place on, which may be the first there is.
func (f *feed) open(start bool, from uint64) {
	if f.in != nil {
		f.in.Close()
	}
	o := inbox.Options{
		Stored: f.stored, Start: start, From: from, Shared: f.o.Queue != "", Limit: MaxMessage, Patience: lostAfter, Used: &f.s.held, Shed: &f.s.shed,
	}
	if f.stored {
		o.Patience = patience.Gap
	}
	f.in = inbox.New(o, facts{f.r}, f.deliver, f.noticed)
}

// deliver takes a message that is whole.
func (f *feed) deliver(m inbox.Message) {
	f.made++
	if m.Sender != f.named || f.name == "" {
		f.named, f.name = m.Sender, f.s.c.nameOf(m.Sender)
	}
	if m.Sender != f.s.c.id.Key() { // one's own are counted when they are sent
		f.r.used.add(m.Epoch, 1)
	}
	next := Message{
		Room: f.r.id, Subject: f.subject, Sender: m.Sender, Name: f.name, Time: crypto.Micros(m.Time),
		Epoch: m.Epoch, Stream: m.Stream, Counter: m.Counter, Headers: m.Headers, Body: m.Body, Parts: m.Parts, Former: m.Former, Late: m.Late,
		Unsure: m.Unsure, place: m.Place,
	}
	size := 64 + next.Size() + 32*len(next.Headers)
	if size > batchBytes && !f.back {
		_ = f.flush() // it goes alone; a failure is met again
	}
	if next.Parts != nil && !f.o.Parts {
		next.Body, next.Parts = slices.Concat(next.Parts...), nil
	}
	f.batch = append(f.batch, next)
	f.size += size
	if f.back {
		if n := len(f.batch); n > 2*f.o.Last+batchSize || n > f.o.Last && f.size > backBytes {
			f.batch = slices.Delete(f.batch, 0, n-f.o.Last)
			f.size = 0 // of those that came since
		}
		return
	}
	if f.size >= batchBytes || len(f.batch) >= batchSize {
		_ = f.flush() // it fails when the feed is at its end, which is met again
	}
}

// noticed hands on what the inbox has to say.
func (f *feed) noticed(n inbox.Notice) {
	f.tell(Notice{
		Kind: NoticeKind(n.Kind), Finding: n.Finding, Sender: f.s.c.nameOf(n.Sender), Stream: n.Stream, From: n.From, To: n.To, Seq: n.Place, By: n.By, Why: n.Why,
	})
}

// tell tells of something in the room.
func (f *feed) tell(n Notice) {
	place := n.Seq
	if n.Kind == NoticeLost {
		place = n.To
	}
	settled := func(place uint64) bool { return f.memory != nil && place > 0 && place <= f.memory.accepted }
	if settled(place) || settled(n.By) {
		n.Finding = false
	}
	n.Room, n.Subject = f.r.id, f.subject
	f.notice(n)
}

// run reads until the feed ends, and says why it did.
func (f *feed) run() {
	err := f.follow()
	f.tellPile()
	if f.parts != nil {
		close(f.parts)
		f.parts = nil
	}
	if cause := context.Cause(f.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if f.s.ctx.Err() == nil && f.s.goesOnWithout(err) {
		f.leave()
	}
	f.drop()
	if f.unread > 0 {
		f.s.notice(Notice{
			Kind: NoticeUnreadable, Room: f.r.id, Subject: f.r.Subject(), From: 0, To: f.unread - 1,
			Why: "sealed in epochs whose keys are not for you, as before an invitation while history was not shared",
		})
	}
	f.s.ended(f, err)
}

// leave gives what was read of a room that may not be read any more, and notes where to go on if it may be again: at the
// first frame that nothing was made of.
func (f *feed) leave() {
	f.in.Release(time.Now())
	if f.give(f.s.ctx) != nil {
		return
	}
	at := stop{f.handled, f.passed}
	if len(f.passed) < maxPassed {
		for _, p := range f.waiting.frames {
			at.place = min(at.place, p.frame.Seq)
		}
	}
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.s.left[f.r.id] = at
}

// stop is where a feed stopped reading.
type stop struct {
	place  uint64   // of the first frame that nothing was made of
	passed []uint64 // and places behind it of frames that were given
}

// maxPassed is how many frames may be given while one before them is parked, so that this one is not given up when the
// room is left: 512 KiB.
const maxPassed = 64 << 10

// ended takes note that a feed has ended. A subscription with patterns goes on without a room that may not be
// read any more.
func (s *Subscription) ended(f *feed, err error) {
	if err != nil && s.ctx.Err() == nil {
		f.r.lostRights(err)
		if !s.goesOnWithout(err) {
			s.stop(err)
		} else {
			s.c.say("no longer reading %s: %v", f.r.Subject(), err)
			s.mu.Lock()
			delete(s.feeds, f.r.id)
			s.mu.Unlock()
			s.arrived() // it may be there again already
		}
	}
	s.mu.Lock()
	s.open--
	over := s.open == 0 && s.finishing.Err() != nil
	s.mu.Unlock()
	if over {
		s.stop(nil)
	}
}

func (s *Subscription) goesOnWithout(err error) bool {
	over := errors.Is(err, ErrDenied) || errors.Is(err, ErrNotFound)
	return over && !errors.Is(err, ErrIntegrity) && len(s.patterns) > 0 && s.c.active(s.c.Key())
}

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
	if at := f.pile.due(); !at.IsZero() && now.After(at) {
		f.tellPile()
	}
	wake := inbox.Earlier(again, f.pile.due())
	if f.stored && f.next < f.fresh {
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
	if err := f.flush(); err != nil {
		return false, err
	}
	if over || !f.closing {
		f.release()
	}
	if over {
		return true, nil
	}
	return false, f.read(wake)
}

// release lets the merge of the past go on without this feed, and waits for its end: what comes next comes
// after all of that.
func (f *feed) release() {
	if f.parts == nil {
		return
	}
	close(f.parts)
	f.parts = nil
	select {
	case <-f.s.merged:
	case <-f.ctx.Done():
	}
}

// explain finds the reason of an error in what is known of the room; nil when the feed goes on.
func (f *feed) explain(err error) error {
	switch {
	case f.ctx.Err() != nil:
		return nil
	case f.s.c.refused() != nil:
		return f.s.c.refused()
	case errors.Is(err, errUnstored):
		f.goLive()
		return nil
	case errors.Is(err, ErrDenied), errors.Is(err, ErrNotFound):
		if serr := f.r.sync(f.ctx); serr != nil {
			return err
		}
		if why := f.r.readable(); why != nil {
			return why
		}
		if f.stored && !f.r.stores() { // that is why there is no past
			f.goLive()
			return nil
		}
	}
	return err
}

// goLive goes on in a room that stores nothing any more.
func (f *feed) goLive() {
	f.stored = false
	f.in.SetStored(false, 0)
	f.src = f.past.live
}

// fallsShort fails with ErrUnavailable when a room has been said for too long to end before where it was to be read to.
func (f *feed) fallsShort(now time.Time) error {
	if f.short.IsZero() {
		f.short = now
	}
	f.past.quiet = tailAfter
	if now.Sub(f.short) <= f.s.c.o.Timeout {
		return nil
	}
	return fmt.Errorf("room %s: %w: it is said to end at place %d now, and was said to reach to %d (%d of %d places could be read)",
		f.subject, ErrUnavailable, f.past.last, f.fresh-1, f.next-1, f.fresh-1)
}

// due looks at what is parked, gives up on what has been waited for long enough, and says when to look again; zero for
// never. What is missing of a stored room is judged when that has been read to its end, as told.
func (f *feed) due(now time.Time) (again time.Time, err error) {
	if f.stored && f.next >= f.fresh { // it may hold nothing at all
		f.in.Reached(f.past.first)
	}
	if again, err = f.unpark(); err != nil {
		return again, err
	}
	if len(f.waiting.frames) > 0 && f.closing && f.next >= f.fresh && !f.told[once{about: NoticeAhead}] {
		f.told[once{about: NoticeAhead}] = true
		f.s.c.say("%s: waiting up to %v for entries of the room's log that messages name", f.subject, patience.Log)
	}
	switch {
	case !f.stored:
	case len(f.waiting.frames) > 0, !f.past.read() && !(f.closing && f.next >= f.fresh):
		return again, nil
	case f.closing && f.next < f.fresh:
		if err := f.fallsShort(now); err != nil {
			return again, err
		}
		again = now.Add(2 * tailAfter) // the past has been asked again by then
	}
	switch err := f.weigh(f.ctx, now); {
	case err == nil:
		return inbox.Earlier(again, f.in.Due(now)), nil
	case errors.Is(err, ErrUnavailable) && !f.closing:
		return inbox.Earlier(again, now.Add(weighEvery)), nil // it is judged when the past can be had
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
	if err != nil {
		return err
	}
	f.fresh = max(f.fresh, past.Last+1)
	return f.past.reachesTo(f.ctx, past)
}

// finish waits for nothing any more.
func (f *feed) finish(now time.Time) error {
	if err := f.weigh(f.ctx, now); err != nil {
		return err
	}
	f.giveUpAllParked()
	f.in.Finish(now)
	f.tellPile()
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
	if err := f.flush(); err != nil {
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
	if !f.stored && f.kept(&frame) {
		return nil
	}
	if err := f.handle(f.ctx, frame); err != nil {
		return err
	}
	return f.flush()
}

// kept looks at a frame that came live. When it was stored, and the room's log says that frames now are, the feed goes on
// as that of a stored room: with all that was stored since it last was in one, of which the subscription may not have
// brought everything. Else what the server's headers say means nothing: in a room that stores nothing its writers choose
// them.
func (f *feed) kept(frame *store.Frame) (again bool) {
	if frame.Seq == 0 {
		return false
	}
	live, ok := f.src.(*bus.Feed)
	if !ok || f.o.Queue != "" || !f.r.Info().Policy.Stored() {
		frame.Seq = 0
		return false
	}
	from := max(f.next, 1)
	f.stored = true
	f.in.SetStored(true, from)
	if m, err := f.r.remember(f.ctx); err == nil { // without it only the check of where the room ends is lost
		f.memory = m
	}
	f.readStored(live)
	f.past.followed = true
	f.past.next, f.past.first, f.past.last = from, from, max(frame.Seq, from-1)
	f.next, f.begun, f.from, f.fresh = from, from, from, from
	return true
}

// flush hands what was read to the receiver.
func (f *feed) flush() error { return f.give(f.ctx) }

func (f *feed) give(ctx context.Context) error {
	if len(f.batch) == 0 {
		return nil
	}
	given := batch{messages: f.batch, size: f.size}
	f.batch, f.size = nil, 0
	if given.large() {
		f.s.held.Add(int64(given.size))
	}
	var err error
	if f.parts == nil {
		err = f.s.give(ctx, given)
	} else {
		select {
		case f.parts <- part{f.reached, given, f.parts}:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil && f.s.ctx.Err() == nil { // the room is being left: it is given then
		f.batch, f.size = given.messages, given.size
	}
	if err != nil && given.large() {
		f.s.held.Add(-int64(given.size))
	}
	return err
}

// skipped goes on behind places that hold nothing, if that is what an error of the source says.
func (f *feed) skipped(err error) bool {
	switch {
	case errors.Is(err, errLost): // up to where the room ends
		f.hole(f.past.next, "missing, at the end of what is there")
	case errors.Is(err, errTrimmed): // before they were read
		f.in.Reached(f.past.first)
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
			f.hole(frame.Seq, "missing, with messages before and after it there")
		}
		f.next = frame.Seq + 1
		f.in.Reached(f.past.first)
		if frame.Time.After(f.reached) {
			f.reached = frame.Time
		}
	}
	f.name = "" // it may have changed
	before := f.made
	err := f.take(ctx, frame)
	if err == nil && ctx.Err() == nil || f.made > before {
		f.handled = f.next
	}
	switch {
	case len(f.waiting.frames) == 0:
		f.passed = f.passed[:0]
	case f.made > before && len(f.passed) < maxPassed:
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
	f.in.Damaged(PublicKey{}, from, seq-1)
	known := f.memory.last()
	was := from <= known && known < seq
	switch wanted := max(from, f.from); {
	case wanted < seq && f.bygones && !was: // an owner has said that what was there then is gone
		f.tell(Notice{Kind: NoticeLost, From: wanted, To: seq - 1, Why: why + ", behind what is of before the room began anew"})
	case wanted < seq:
		f.tell(Notice{Kind: NoticeLost, Finding: true, From: wanted, To: seq - 1, Why: why})
	case was: // it is not wanted, and was there all the same
		f.tell(Notice{Kind: NoticeLost, Finding: true, From: known, To: known, Why: "missing, though it was read or acknowledged before"})
	}
}
