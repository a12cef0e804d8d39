package unibus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// SubscribeOptions say where to begin and what to be told. The zero value begins with what comes
// after Subscribe returns, and follows.
type SubscribeOptions struct {
	All   bool      // from the first message stored
	Last  int       // with the last N messages stored in each room
	Since time.Time // from the first message stored at this time or later
	End   bool      // end when everything stored has been read
	Queue string    // share new messages with others who name the same queue; nothing is checked for gaps
	// Notice is told what is missing or wrong; nil: it is only counted.
	Notice func(Notice)
}

// context is how many frames before the first wanted are read, so as to know what it continues.
const contextFrames = 32

// lookBack is how far before the last look at the list of rooms a room found later is read, for
// clocks that differ.
const lookBack = 5 * time.Second

// Subscription yields the verified messages of one or more rooms. Those of one sender's stream
// come in order; streams and rooms are merged as they come.
type Subscription struct {
	c        *Client
	o        SubscribeOptions
	patterns []string
	out      chan []Message
	arrivals chan struct{} // there may be another room that the patterns mean
	ctx      context.Context
	cancel   context.CancelFunc
	findings atomic.Int64

	mu    sync.Mutex
	feeds map[ID]*feed
	open  int // feeds that run
	err   error
	done  chan struct{}
}

// Subscribe begins to read the room. It stands when Subscribe returns. ErrDenied when this client
// is no member.
func (r *Room) Subscribe(ctx context.Context, o SubscribeOptions) (*Subscription, error) {
	return r.c.subscribe(ctx, []*Room{r}, nil, o)
}

// Subscribe begins to read several rooms, named as Room takes them, or by patterns with the NATS
// wildcards * and >: those mean every room of the caller's that matches, also ones it is invited
// to later.
func (c *Client) Subscribe(ctx context.Context, names []string, o SubscribeOptions) (*Subscription, error) {
	var rooms []*Room
	var patterns []string
	for _, name := range names {
		if strings.ContainsAny(name, "*>") {
			if err := validPattern(name); err != nil {
				return nil, err
			}
			patterns = append(patterns, name)
			continue
		}
		r, err := c.Room(ctx, name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(rooms, r) {
			rooms = append(rooms, r)
		}
	}
	return c.subscribe(ctx, rooms, patterns, o)
}

// validPattern checks a NATS subject pattern.
func validPattern(pattern string) error {
	tokens := strings.Split(pattern, ".")
	for i, t := range tokens {
		if t == "" || t != "*" && t != ">" && strings.ContainsAny(t, "*>") || t == ">" && i < len(tokens)-1 {
			return fmt.Errorf("pattern %q: %w: * is a whole token, and > the last one", pattern, ErrInvalid)
		}
	}
	return nil
}

// matches reports whether a subject matches a NATS pattern.
func matches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, t := range p {
		if t == ">" {
			return len(s) > i
		}
		if i >= len(s) || t != "*" && t != s[i] {
			return false
		}
	}
	return len(p) == len(s)
}

func (c *Client) subscribe(ctx context.Context, rooms []*Room, patterns []string, o SubscribeOptions) (*Subscription, error) {
	if c.conn == nil {
		return nil, withHint(fmt.Errorf("subscribe: %w: messages need a server", ErrInvalid), "leave out --store")
	}
	s := &Subscription{
		c: c, o: o, patterns: patterns, out: make(chan []Message, 16), feeds: map[ID]*feed{}, done: make(chan struct{}),
		arrivals: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	c.mu.Lock()
	c.subs[s] = true // before rooms are listed, so that none falls between
	c.mu.Unlock()
	context.AfterFunc(s.ctx, func() {
		c.mu.Lock()
		delete(c.subs, s)
		c.mu.Unlock()
	})
	if len(patterns) > 0 {
		matching, err := s.matching(ctx)
		if err != nil {
			s.cancel()
			return nil, err
		}
		for _, r := range matching {
			if !slices.Contains(rooms, r) {
				rooms = append(rooms, r)
			}
		}
	}
	if err := errors.Join(c.watch(ctx), s.add(ctx, rooms, o)); err != nil {
		s.Close()
		return nil, err
	}
	if len(patterns) > 0 && !o.End && !c.wait.Go(s.grow) {
		return nil, ErrClosed
	}
	if len(rooms) == 0 && o.End {
		s.stop(nil)
	}
	return s, nil
}

// matching lists the caller's rooms that the patterns mean.
func (s *Subscription) matching(ctx context.Context) ([]*Room, error) {
	mine, err := s.c.MyRooms(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(mine, func(r *Room) bool {
		subject := r.Subject()
		return !slices.ContainsFunc(s.patterns, func(p string) bool { return matches(p, subject) })
	}), nil
}

// add begins to read rooms.
func (s *Subscription) add(ctx context.Context, rooms []*Room, o SubscribeOptions) error {
	ids := make([]ID, len(rooms))
	for i, r := range rooms {
		if err := r.readable(); err != nil {
			return err
		}
		ids[i] = r.id
	}
	if err := s.c.conn.Grant(ctx, ids...); err != nil {
		return err
	}
	for _, r := range rooms {
		f, err := s.prepare(ctx, r, o)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", r.Subject(), err)
		}
		if !s.c.wait.Go(f.run) {
			return ErrClosed
		}
	}
	return nil
}

// grow adds rooms that the caller is invited to later.
func (s *Subscription) grow() {
	looked := time.Now()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.arrivals:
		}
		since := looked.Add(-lookBack)
		looked = time.Now()
		rooms, err := s.matching(s.ctx)
		if err != nil {
			if errors.Is(err, ErrIntegrity) {
				s.stop(err)
			}
			continue // the next notice or reconnection asks again
		}
		s.mu.Lock()
		rooms = slices.DeleteFunc(rooms, func(r *Room) bool { return s.feeds[r.id] != nil })
		s.mu.Unlock()
		for _, r := range rooms {
			o := s.o
			o.Last, o.All, o.Since = 0, false, since
			if err := s.add(s.ctx, []*Room{r}, o); err != nil && s.ctx.Err() == nil {
				s.c.say("cannot read %s yet: %v", r.Subject(), err)
			} else {
				s.c.say("now reading %s too", r.Subject())
			}
		}
	}
}

// Messages yields messages until the subscription ends, then the error that ended it, if one did:
// ErrDenied for a membership that ended, ErrIntegrity when there were findings. Bodies are the
// receiver's to keep.
func (s *Subscription) Messages() iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			select {
			case batch := <-s.out:
				for _, m := range batch {
					if !yield(m, nil) {
						return
					}
				}
				continue
			default:
			}
			select {
			case batch := <-s.out:
				for _, m := range batch {
					if !yield(m, nil) {
						return
					}
				}
			case <-s.done:
				if len(s.out) > 0 {
					continue
				}
				if err := s.Err(); err != nil {
					yield(Message{}, err)
				}
				return
			}
		}
	}
}

// Waiting reports whether more messages have arrived already.
func (s *Subscription) Waiting() bool { return len(s.out) > 0 }

// Err returns why the subscription ended, or what is wrong with what it was given so far.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if n := s.findings.Load(); n > 0 {
		return fmt.Errorf("%w: %d finding(s) in what the server gave, see above; nothing of them was delivered", ErrIntegrity, n)
	}
	return nil
}

// Close ends the subscription, and returns what Err does.
func (s *Subscription) Close() error {
	s.stop(nil)
	return s.Err()
}

func (s *Subscription) stop(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return
	default:
	}
	s.err = err
	close(s.done)
	s.cancel()
}

func (s *Subscription) notice(n Notice) {
	if n.Finding {
		s.findings.Add(1)
	}
	if s.o.Notice != nil {
		s.o.Notice(n)
	}
}

// feed reads one room for a subscription.
type feed struct {
	s       *Subscription
	r       *Room
	o       SubscribeOptions
	ctx     context.Context
	cancel  context.CancelCauseFunc
	stored  bool
	frames  bus.Frames
	q       *sequencer
	next    uint64 // stream sequence of the next frame
	from    uint64 // of the first frame to deliver
	fresh   uint64 // of the first frame that came after the feed began
	batch   []Message
	useless time.Time // when fetching the log last did not help
	unread  uint64    // frames without a key
	seed    maphash.Seed
}

// prepare makes a feed up to the point where nothing new can be missed.
func (s *Subscription) prepare(ctx context.Context, r *Room, o SubscribeOptions) (*feed, error) {
	f := &feed{s: s, r: r, o: o, stored: r.Info().Policy.Stored() && o.Queue == "", seed: maphash.MakeSeed()}
	f.ctx, f.cancel = context.WithCancelCause(s.ctx)
	f.sequence()
	var err error
	if f.stored {
		err = f.begin(ctx)
	} else {
		f.frames, err = s.c.conn.Live(ctx, r.id, o.Queue)
	}
	if err != nil {
		f.cancel(nil)
		return nil, err
	}
	s.mu.Lock()
	s.feeds[r.id] = f
	s.open++
	s.mu.Unlock()
	r.smu.Lock()
	r.feeds[f] = true
	r.smu.Unlock()
	return f, nil
}

// sequence gives the feed a sequencer with nothing in it.
func (f *feed) sequence() {
	f.q = newSequencer()
	f.q.room, f.q.subject, f.q.stored, f.q.unheard = f.r.id, f.r.Subject(), f.stored, f.o.Queue != ""
	f.q.name, f.q.notice = f.s.c.nameOf, f.s.notice
	f.q.deliver = func(m Message) { f.batch = append(f.batch, m) }
}

// begin finds where to begin in a stored room, and opens it there.
func (f *feed) begin(ctx context.Context) error {
	first, _, err := f.position(ctx, bus.Start{First: true})
	if err != nil {
		return err
	}
	if f.fresh, _, err = f.position(ctx, bus.Start{}); err != nil {
		return err
	}
	switch {
	case f.o.All:
		f.from, f.q.start = first, true
	case f.o.Last > 0:
		return f.beginLast(ctx, first)
	case !f.o.Since.IsZero():
		if f.from, _, err = f.position(ctx, bus.Start{Time: f.o.Since}); err != nil {
			return err
		}
	default:
		f.from = f.fresh
	}
	f.next = f.from
	if !f.q.start {
		f.next = max(first, f.from-min(f.from, contextFrames))
	}
	f.frames, err = f.s.c.conn.Stored(ctx, f.r.id, f.next)
	return err
}

// position asks for a place in the stream, which may not stand yet right after the room was made.
func (f *feed) position(ctx context.Context, at bus.Start) (uint64, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, f.s.c.o.Timeout)
	defer cancel()
	for {
		from, pending, err := f.s.c.conn.Position(ctx, f.r.id, at)
		if !errors.Is(err, ErrNotFound) {
			return from, pending, err
		}
		select {
		case <-ctx.Done():
			return 0, 0, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// beginLast reads back as far as the last N messages need.
func (f *feed) beginLast(ctx context.Context, first uint64) error {
	for window := uint64(f.o.Last) + contextFrames; ; window *= 4 {
		start := max(first, f.fresh-min(f.fresh, window))
		enough, err := f.tail(ctx, start, start == first)
		if err != nil || enough {
			return err
		}
	}
}

// tail reads from start to the end of what is stored, and keeps the last N messages. It is not
// enough when they may reach back beyond start.
func (f *feed) tail(ctx context.Context, start uint64, all bool) (bool, error) {
	f.sequence()
	f.batch, f.next, f.from = nil, start, start
	var notices []Notice
	f.q.notice = func(n Notice) { notices = append(notices, n) }
	var err error
	if f.frames, err = f.s.c.conn.Stored(ctx, f.r.id, start); err != nil {
		return false, err
	}
	for f.next < f.fresh {
		frame, err := f.frames.Next(ctx)
		if err != nil {
			return false, err
		}
		if frame.Seq >= f.fresh {
			f.handle(frame)
			break
		}
		f.handle(frame)
		if n := len(f.batch); n > 2*f.o.Last {
			f.batch = slices.Delete(f.batch, 0, n-f.o.Last)
		}
		if frame.Last {
			break
		}
	}
	f.q.overdue(time.Time{}, true) // frames behind a gap are among the last, too
	slices.SortStableFunc(f.batch, func(a, b Message) int { return cmp.Compare(a.place, b.place) })
	f.batch = f.batch[max(0, len(f.batch)-f.o.Last):]
	unsure := slices.ContainsFunc(f.batch, func(m Message) bool { return m.unsure })
	if !all && (unsure || len(f.batch) < f.o.Last) {
		f.frames.Close()
		return false, nil
	}
	f.q.notice = f.s.notice
	for _, n := range notices {
		f.s.notice(n)
	}
	return true, nil
}

// run reads until the feed ends, and says why it did. A subscription with patterns goes on without a
// room that it may not read any more.
func (f *feed) run() {
	err := f.follow()
	f.frames.Close()
	if cause := context.Cause(f.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	f.cancel(nil)
	f.r.smu.Lock()
	delete(f.r.feeds, f)
	f.r.smu.Unlock()
	if f.unread > 0 {
		f.s.notice(Notice{
			Kind: NoticeUnreadable, Room: f.r.id, Subject: f.r.Subject(), Sender: "various", From: 0, To: f.unread - 1,
			Why: "sealed in epochs whose key you were never given, as before an invitation where history is not shared",
		})
	}
	s := f.s
	if err != nil && s.ctx.Err() == nil && len(s.patterns) > 0 && s.c.active(s.c.Key()) && !errors.Is(err, ErrIntegrity) {
		s.c.say("no longer reading %s: %v", f.r.Subject(), err)
		s.mu.Lock()
		delete(s.feeds, f.r.id)
		s.mu.Unlock()
		err = nil
	} else if err != nil && s.ctx.Err() == nil {
		s.stop(err)
	}
	s.mu.Lock()
	s.open--
	over := s.open == 0 && s.o.End
	s.mu.Unlock()
	if over {
		s.stop(nil)
	}
}

// follow reads frames until there is an end to it, opening the stream again when it breaks.
func (f *feed) follow() error {
	if err := f.flush(); err != nil {
		return err
	}
	for {
		if f.o.End && (!f.stored || f.next >= f.fresh) {
			f.q.finish()
			return f.flush()
		}
		err := f.read()
		switch {
		case f.ctx.Err() != nil:
			return nil // the cause says more
		case err == nil:
			continue
		case f.s.c.refused() != nil:
			return f.s.c.refused()
		case errors.Is(err, ErrDenied), errors.Is(err, ErrIntegrity):
			return err
		}
		f.frames.Close()
		if err := f.reopen(); err != nil {
			return err
		}
	}
}

// reopen goes on where the feed was, as soon as that is possible.
func (f *feed) reopen() error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		var frames bus.Frames
		var err error
		if f.stored {
			frames, err = f.s.c.conn.Stored(f.ctx, f.r.id, f.next)
		} else {
			frames, err = f.s.c.conn.Live(f.ctx, f.r.id, f.o.Queue)
		}
		if err == nil {
			f.frames = frames
			return nil
		}
		if errors.Is(err, ErrNotFound) && f.s.c.conn.IsConnected() && f.r.sync(f.ctx) == nil && !f.r.Info().Policy.Stored() {
			return fmt.Errorf("%w: the room does not store messages any more", ErrNotFound)
		}
		select {
		case <-f.ctx.Done():
			return nil
		case <-f.s.c.conn.Done():
			return f.s.c.refused()
		case <-time.After(wait):
		}
	}
}

// read takes one frame, or gives up on a gap that is due.
func (f *feed) read() error {
	ctx := f.ctx
	if again := f.q.overdue(time.Now(), false); !again.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, again)
		defer cancel()
	}
	if err := f.flush(); err != nil {
		return err
	}
	frame, err := f.frames.Next(ctx)
	if err != nil {
		if ctx.Err() != nil && f.ctx.Err() == nil {
			return nil // a gap is due
		}
		return err
	}
	if err := f.handle(frame); err != nil {
		return err
	}
	if f.o.End && frame.Last {
		f.next = max(f.next, f.fresh)
	}
	return f.flush()
}

// flush hands what was read to the receiver.
func (f *feed) flush() error {
	if len(f.batch) == 0 {
		return nil
	}
	select {
	case f.s.out <- f.batch:
		f.batch = nil
		return nil
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}

// handle judges a frame and puts it into its stream. An error ends the feed.
func (f *feed) handle(frame bus.Frame) error {
	if f.stored {
		if frame.Seq < f.next {
			return nil // read before the stream was opened again
		}
		if frame.Seq > f.next {
			f.hole(frame.Seq)
		}
		f.next = frame.Seq + 1
	}
	now := time.Now()
	rcv := received{seq: frame.Seq, context: f.stored && frame.Seq < f.from}
	sender, err := crypto.ParsePublicKey(frame.Sender)
	if err != nil {
		f.refuse(rcv, frame, fmt.Errorf("%w: its subject names no sender", ledger.ErrForged))
		return nil
	}
	rcv.sender = sender
	if f.r.alarmed(sender) {
		return nil
	}
	live := !f.stored || frame.Seq >= f.fresh
	rcv.Verdict, err = f.judge(frame.Data, sender, live)
	if err != nil {
		return f.refuse(rcv, frame, err)
	}
	age := now.Sub(time.UnixMicro(int64(rcv.Content.Time)))
	switch {
	case live && !f.s.c.active(sender):
		return f.refuse(rcv, frame, errRevoked)
	case !f.stored && (age > freshWithin || age < -freshWithin):
		return f.refuse(rcv, frame, errStale)
	}
	rcv.late = f.stored && live && age > freshWithin
	rcv.sum = maphash.Bytes(f.seed, frame.Data)
	f.q.take(rcv, now)
	return nil
}

// hole looks at stream sequences that are missing before one. Retention trims from the front only;
// what is missing behind the first message that is left was lost or taken away. A server that wants
// to hide it can, but a damaged disk does not.
func (f *feed) hole(seq uint64) {
	first, _, err := f.s.c.conn.Position(f.ctx, f.r.id, bus.Start{First: true})
	if err != nil || first >= seq || seq <= f.from {
		return
	}
	f.q.notice(Notice{
		Kind: NoticeLost, Finding: true, Room: f.r.id, Subject: f.r.Subject(), From: max(first, f.next, f.from), To: seq - 1,
		Why: "missing, with messages before and after it there",
	})
}

var (
	errRevoked = errors.New("its sender's access to the bus was revoked")
	errStale   = errors.New("it was sealed more than ten minutes from now: old news shown as new, or a clock that is off")
)

// judge asks the ledger, fetching the log up to the frame's place where it must.
func (f *feed) judge(frame []byte, sender crypto.PublicKey, live bool) (*ledger.Verdict, error) {
	v, err := f.r.judge(f.ctx, frame, sender, live)
	if !errors.Is(err, ledger.ErrWithheld) || time.Since(f.useless) < time.Second {
		return v, err
	}
	if serr := f.r.sync(f.ctx); serr != nil {
		if errors.Is(serr, ErrIntegrity) {
			return nil, serr
		}
		err = fmt.Errorf("%w (%v)", err, serr)
	} else {
		v, err = f.r.judge(f.ctx, frame, sender, live)
	}
	if errors.Is(err, ledger.ErrWithheld) {
		f.useless = time.Now() // a liar who names far places does not make us ask all the time
	}
	return v, err
}

func (r *Room) judge(ctx context.Context, frame []byte, sender crypto.PublicKey, live bool) (v *ledger.Verdict, err error) {
	r.read(func(s *ledger.State) {
		v, err = s.Judge(frame, sender, func(epoch uint32) (*crypto.FrameKey, error) {
			return r.keys.frameKey(ctx, s.Room.Epochs, epoch)
		}, live)
	})
	return v, err
}

// refuse deals with a frame that is not accepted. Only a proven fork, or a store or key that
// cannot be had, ends the feed.
func (f *feed) refuse(rcv received, frame bus.Frame, why error) error {
	h, _ := crypto.ParseHeader(frame.Data) // as far as it goes: it is for telling people
	rcv.Verdict = &ledger.Verdict{Header: h}
	note := func(kind NoticeKind, finding bool) error {
		if !rcv.context {
			f.q.note(kind, finding, rcv, h.Counter, h.Counter, why.Error())
		}
		return nil
	}
	switch {
	case errors.Is(why, ledger.ErrForkProven):
		err := fmt.Errorf("room %s: %w: %w (%s); the room is frozen until a person decides", f.r.Subject(), ErrIntegrity, why, f.s.c.nameOf(rcv.sender))
		f.r.freeze(err)
		return err
	case errors.Is(why, ledger.ErrForkClaimed):
		f.r.alarm(rcv.sender)
		return note(NoticeFork, true)
	case errors.Is(why, ledger.ErrWithheld):
		return note(NoticeWithheld, true)
	case errors.Is(why, errNoKey):
		f.unread++
		f.q.forget(rcv.sender, h)
		return nil
	case errors.Is(why, errRevoked), errors.Is(why, errStale), errors.Is(why, ledger.ErrNotWriter) && (!f.stored || frame.Seq >= f.fresh):
		f.q.forget(rcv.sender, h)
		return note(NoticeRefused, false)
	case errors.Is(why, ledger.ErrNotWriter), errors.Is(why, ledger.ErrEpoch), errors.Is(why, ledger.ErrEnded), errors.Is(why, ledger.ErrSuite):
		return note(NoticeRefused, true)
	case errors.Is(why, ErrUnavailable), errors.Is(why, ErrIntegrity), errors.Is(why, ErrDenied):
		f.next = frame.Seq // it is to be read again
		return why
	}
	return note(NoticeForged, true)
}

// freeze stops the room: two histories of it are proven.
func (r *Room) freeze(err error) {
	r.smu.Lock()
	r.frozen = err
	r.smu.Unlock()
	r.end(err)
}

// isFrozen returns why the room is frozen; nil when it is not.
func (r *Room) isFrozen() error {
	r.smu.Lock()
	defer r.smu.Unlock()
	return r.frozen
}

// alarm refuses a sender's frames from now on.
func (r *Room) alarm(sender crypto.PublicKey) {
	r.smu.Lock()
	defer r.smu.Unlock()
	r.alarms[sender] = true
}

func (r *Room) alarmed(sender crypto.PublicKey) bool {
	r.smu.Lock()
	defer r.smu.Unlock()
	return r.alarms[sender]
}
