package unibus

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/unibus/unibus/internal/tasks"
)

// SubscribeOptions say where to begin and what to be told. The zero value begins with what comes
// after Subscribe returns, and follows.
type SubscribeOptions struct {
	All   bool      // from the first message stored
	Last  int       // with the last N messages stored in each room
	Since time.Time // from the first message stored at this time or later
	End   bool      // end when everything stored has been read
	Queue string    // share new messages with others who name the same queue; nothing is checked for gaps
	Parts bool      // leave large messages in Parts: to join one takes its size once more
	goOn  stop      // from here, where the room was left; zero: it was not
	// Notice is told what is missing or wrong; nil: it is only counted.
	Notice func(Notice)
}

// context is how many frames before the first wanted are read, so as to know what it continues.
const contextFrames = 32

// lookBack is how far before the last look at the list of rooms a room found later is read, for
// clocks that differ.
const lookBack = 5 * time.Second

// Subscription yields the verified messages of one or more rooms. Those of one sender's stream come in
// order. What was stored when it began comes in the order in which it was stored, across its rooms too;
// after that they are merged as they come. With End it has ended when every room has been read to where
// it reached, each whole: what cannot be read so far ends it with ErrUnavailable.
type Subscription struct {
	c         *Client
	o         SubscribeOptions
	patterns  []string
	out       chan batch
	given     *semaphore.Weighted // bytes in out, or being received
	arrivals  chan struct{}       // there may be another room that the patterns mean
	ctx       context.Context
	cancel    context.CancelFunc
	finishing context.Context // done when it is to end with what is stored
	finish    context.CancelFunc
	findings  atomic.Int64
	wentBack  atomic.Bool  // a room did, by one of the findings
	held      atomic.Int64 // bytes of unfinished messages, of frames ahead and of large messages not received, in all rooms
	shed      atomic.Int64 // messages that were given up for want of memory

	merged chan struct{} // closed when the past of the first feeds has been merged

	mu    sync.Mutex
	feeds map[ID]*feed
	left  map[ID]stop // rooms that a pattern means and that were left, and where
	open  int         // feeds that run
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
// to later. ErrNotFound when a name means no room, and with End also when a pattern means none.
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
		c: c, o: o, patterns: patterns, out: make(chan batch, maxGiven), given: semaphore.NewWeighted(givenBytes), feeds: map[ID]*feed{}, left: map[ID]stop{}, done: make(chan struct{}),
		arrivals: make(chan struct{}, 1), merged: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	s.finishing, s.finish = context.WithCancel(s.ctx)
	if o.End {
		s.finish()
	}
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
		if err := s.unmatched(matching); err != nil {
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
	return s, nil
}

// unmatched tells of patterns that mean none of the rooms. With End there is nothing to wait for: ErrNotFound, as
// for a room's name.
func (s *Subscription) unmatched(rooms []*Room) error {
	for _, pattern := range s.patterns {
		switch {
		case slices.ContainsFunc(rooms, func(r *Room) bool { return matches(pattern, r.Subject()) }):
		case s.o.End:
			return withHint(fmt.Errorf("subscribe to %s: %w: it matches none of your rooms", pattern, ErrNotFound), "unibus rooms ls shows the rooms you are in")
		default:
			s.c.say("%s matches none of your rooms yet", pattern)
		}
	}
	return nil
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

// add begins to read rooms. Every feed stands before the first one runs, so that none ends while another is
// still to come; what they read of the past is put in the order in which it was stored.
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
	feeds, err := s.prepareAll(ctx, rooms, o)
	if err != nil {
		for _, f := range feeds {
			f.drop()
		}
		return err
	}
	s.mu.Lock()
	s.open += len(feeds)
	for _, f := range feeds {
		s.feeds[f.r.id] = f
		delete(s.left, f.r.id)
	}
	s.mu.Unlock()
	if len(feeds) > 1 {
		parts := make([]chan part, len(feeds))
		for i, f := range feeds {
			f.parts = make(chan part)
			parts[i] = f.parts
		}
		if !s.c.wait.Go(func() { s.merge(parts) }) {
			return ErrClosed
		}
	}
	for _, f := range feeds {
		if !s.c.wait.Go(f.run) {
			return ErrClosed
		}
	}
	return nil
}

// pageBudget is how many bytes of the past all feeds of a subscription hold together, if frames are small.
const pageBudget = 64 << 20

// prepareAll makes feeds, some at a time. It returns those it made, also with an error.
func (s *Subscription) prepareAll(ctx context.Context, rooms []*Room, o SubscribeOptions) ([]*feed, error) {
	made := make([]*feed, len(rooms))
	errs := make([]error, len(rooms))
	page := max(pageBudget/max(len(rooms), 1)/2, 32<<10)
	var preparing tasks.Group
	run := preparing.Limit(syncAtOnce)
	for i, r := range rooms {
		begun := run(ctx, func() {
			if made[i], errs[i] = s.prepare(ctx, r, o, page); errs[i] != nil {
				errs[i] = fmt.Errorf("subscribe to %s: %w", r.Subject(), errs[i])
			}
		})
		if !begun {
			errs[i] = ctx.Err()
		}
	}
	preparing.Wait()
	return slices.DeleteFunc(made, func(f *feed) bool { return f == nil }), errors.Join(errs...)
}

// grow adds rooms that the caller is invited to later.
func (s *Subscription) grow() {
	looked := time.Now()
	for {
		select {
		case <-s.finishing.Done():
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
		s.join(rooms, since)
	}
}

// arrived has it looked whether there are other rooms that the patterns mean.
func (s *Subscription) arrived() {
	select {
	case s.arrivals <- struct{}{}:
	default: // it will be
	}
}

// hasLeft reports whether a room was read, and is not any more.
func (s *Subscription) hasLeft(room ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, left := s.left[room]
	return left
}

// join begins to read rooms that were found later, and goes on in those that it was in before.
func (s *Subscription) join(rooms []*Room, since time.Time) {
	o := s.o
	o.Last, o.All, o.Since = 0, false, since
	for _, r := range rooms {
		s.mu.Lock()
		o.goOn = s.left[r.id]
		s.mu.Unlock()
		err := s.add(s.ctx, []*Room{r}, o)
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil:
			s.c.say("cannot read %s yet: %v", r.Subject(), err)
		default:
			s.c.say("now reading %s too", r.Subject())
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
			case b := <-s.out:
				if !s.yield(b, yield) {
					return
				}
				continue
			default:
			}
			select {
			case b := <-s.out:
				if !s.yield(b, yield) {
					return
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
		err := fmt.Errorf("%w: %d finding(s) in what the server gave, see above; what is wrong was not delivered", ErrIntegrity, n)
		if s.wentBack.Load() {
			return &alsoError{err, ErrMessagesRolledBack}
		}
		return err
	}
	if n := s.shed.Load(); n > 0 {
		return withHint(fmt.Errorf("%w: %d message(s) could not be put together, since too many were unfinished at once", ErrUnavailable, n), "read fewer rooms at once")
	}
	return nil
}

// alsoError is an error of another kind besides, which its text need not repeat.
type alsoError struct {
	error
	also error
}

func (e *alsoError) Unwrap() []error { return []error{e.error, e.also} }

// Finish has the subscription end as with End: when everything that is stored by now has been read, and what waits for
// something before it is given or missed for good, which takes up to half a minute. ErrUnavailable, by Messages and
// Err, when that cannot be had.
func (s *Subscription) Finish() {
	s.finish()
	s.mu.Lock()
	over := s.open == 0
	s.mu.Unlock()
	if over {
		s.stop(nil)
	}
}

// Close ends the subscription at once, and returns what Err does. What waits for something before it is not given any
// more: Finish gives it.
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
		if n.Kind == NoticeRolledBack {
			s.wentBack.Store(true)
		}
	}
	if s.o.Notice != nil {
		s.o.Notice(n)
	}
}
