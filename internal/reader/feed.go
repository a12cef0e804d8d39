package reader

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
)

// lostAfter is how long a frame ahead of a gap waits in a live room.
const lostAfter = 2 * time.Second

// source gives a feed the frames of its room.
type source interface {
	// Next waits for a frame.
	Next(ctx context.Context) (store.Frame, error)
	Close()
}

// feed reads one room for a reading, in a goroutine of its own. Frames come from its source; judging decides which are
// authentic and gives these to the inbox, which gives whole messages to output. Where a feed begins is found by beginning;
// frames that name entries the room's log does not have yet are in waiting; what has to be known of other places of the
// stream is looked up by looking.
type feed struct {
	s       *Reading
	r       *room.Room
	facts   room.Facts // what the room's log says of what is missing
	o       Options
	subject string
	ctx     context.Context
	cancel  context.CancelCauseFunc
	detach  func()          // from the room
	reading context.Context // ctx, and until the reading is to finish
	closing bool            // it ends with what is stored
	settled time.Time       // by when the end has come, whatever may still be on its way

	stored bool
	page   int // bytes of the past that are read at once
	src    source
	past   *storedSource // src, in a stored room
	reach  *room.Reach   // in a stored room
	seed   maphash.Seed

	// Places in the room's stream.
	next     uint64    // of the next frame
	handled  uint64    // of the next one that nothing was made of yet
	passed   []uint64  // of frames that were given while ones before them were parked
	begun    uint64    // of the first frame that was read
	whole    bool      // which is the first there is
	from     uint64    // of the first frame to deliver
	liveFrom uint64    // of the first frame that came after the feed began
	short    time.Time // when the room was first said to end before where it was to be read to

	in      *inbox.Inbox
	notice  func(Notice)
	out     output
	judging judging
	waiting waiting
	looking looking
}

// prepare makes a feed and subscribes it, so that nothing new can be missed; it reads nothing until run.
func (s *Reading) prepare(ctx context.Context, r *room.Room, o Options, page int) (*feed, error) {
	f := &feed{
		s: s, r: r, facts: room.Facts{Room: r}, o: o, page: page, stored: r.Ledger().Policy.Stored() && o.Queue == "", seed: maphash.MakeSeed(), notice: s.notice, subject: r.Subject(),
	}
	f.out.f, f.waiting.f = f, f
	f.judging = judging{f: f, keyAskedAt: map[uint32]time.Time{}, told: map[once]bool{}}
	f.looking = looking{f: f, looked: map[crypto.PublicKey]time.Time{}}
	f.ctx, f.cancel = context.WithCancelCause(s.ctx)
	if f.closing, f.reading = o.End, f.ctx; !f.closing {
		reading, stop := context.WithCancel(s.finishing)
		f.reading = reading
		context.AfterFunc(f.ctx, stop)
	}
	f.newInbox(inbox.Options{})
	live, err := s.rd.Conn.Subscribe(ctx, r.ID, bus.Stored(f.stored), o.Queue)
	if err != nil {
		f.cancel(nil)
		return nil, err
	}
	f.src = live
	if f.stored {
		f.readStored(live)
		if err := (&beginning{f}).begin(ctx); err != nil {
			if err = f.explain(err); err != nil { // it may have ceased to store meanwhile
				f.shutDown()
				return nil, err
			}
		}
	}
	f.detach = r.Attach(f.cancel)
	return f, nil
}

// readStored has the feed read what the room stores, beside what comes by the subscription.
func (f *feed) readStored(live *bus.Feed) {
	f.past = &storedSource{rd: f.s.rd, r: f.r, live: live, seed: f.seed, life: f.ctx, bytes: f.page, quiet: tailAfter, tell: f.tell, reach: func() uint64 { return f.reach.Pinned }}
	f.src = f.past
}

// shutDown ends a feed that does not run.
func (f *feed) shutDown() {
	f.cancel(nil)
	f.src.Close()
	f.in.Close()
	if f.reach != nil {
		if err := f.reach.Write(context.WithoutCancel(f.ctx)); err != nil {
			f.s.rd.Tell("what was read of %s is not remembered: %v", f.subject, err)
		}
	}
	if f.detach != nil {
		f.detach()
	}
}

// newInbox gives the feed an inbox with nothing in it, for reading from where o says.
func (f *feed) newInbox(o inbox.Options) {
	if f.in != nil {
		f.in.Close()
	}
	o.Stored, o.End, o.Shared, o.Limit, o.Patience, o.Used, o.Shed = f.stored, f.o.End, f.o.Queue != "", room.MaxMessage, lostAfter, &f.s.held, &f.s.shed
	if f.stored {
		o.Patience = patience.Gap
	}
	f.in = inbox.New(o, f.facts, f.out.deliver, f.tell)
}

// tell passes on a notice of the inbox, or of the feed itself, with whose it is. Up to the place that a person has accepted
// nothing is a finding (SPEC.md §6).
func (f *feed) tell(n inbox.Notice) {
	place := n.Place
	if n.Kind == inbox.Lost {
		place = n.To
	}
	if f.reach.Accepts(place) || f.reach.Accepts(n.By) {
		n.Finding = false
	}
	name := ""
	if n.Sender != (crypto.PublicKey{}) {
		name = f.r.NameOf(n.Sender)
	} else if n.Kind == Forged {
		name = "nobody" // under whose subject it was stored
	}
	f.notice(Notice{Notice: n, Room: f.r.ID, Subject: f.subject, Name: name})
}

// run reads until the feed ends, and tells the reading why it did.
func (f *feed) run() {
	err := f.follow()
	f.judging.tellForged()
	f.out.release()
	if cause := context.Cause(f.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if f.s.ctx.Err() == nil && f.s.goesOnWithout(f, err) {
		f.leave()
	}
	f.shutDown()
	if f.judging.unread > 0 {
		unread := inbox.Notice{
			Kind: inbox.Unreadable, To: f.judging.unread - 1, Why: "sealed in epochs whose keys are not for you, as before an invitation while history was not shared",
		}
		f.s.notice(Notice{Notice: unread, Room: f.r.ID, Subject: f.r.Subject()})
	}
	f.s.ended(f, err)
}

// leave gives what was read of a room that may not be read any more, and notes where to go on if it may be again: at the
// first frame that nothing was made of.
func (f *feed) leave() {
	f.in.Release(time.Now())
	if f.out.give(f.s.ctx) != nil {
		return
	}
	at := resumePoint{f.handled, f.passed}
	if len(f.passed) < maxPassed {
		for _, p := range f.waiting.frames {
			at.place = min(at.place, p.frame.Seq)
		}
	}
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.s.left[f.r.ID] = at
}

// resumePoint is where a feed stopped reading.
type resumePoint struct {
	place  uint64   // of the first frame that nothing was made of
	passed []uint64 // and places behind it of frames that were given
}

// maxPassed is how many frames may be given while one before them is parked, so that this one is not given up when the
// room is left: 512 KiB.
const maxPassed = 64 << 10
