package reader

import (
	"cmp"
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

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// ErrClosed says that a client is closed.
var ErrClosed = errors.New("the client is closed")

// Options say where to begin and what to be told. The zero value begins with what comes after Read returns, and follows.
type Options struct {
	All    bool         // from the first message stored
	Last   int          // with the last N messages stored in each room; all of them are in memory until they are given
	Since  time.Time    // from the first message stored at this time or later
	End    bool         // end when everything stored has been read
	Queue  string       // share new messages with others who name the same queue; nothing is checked for gaps
	Parts  bool         // leave large messages in Parts: to join one takes its size once more
	Notice func(Notice) // told what is missing or wrong; nil: it is only counted
	Lost   error        // of rooms that were to be read, too: the others are, and this is the reading's error when it ends

	// CaughtUp is called by Messages once what was stored when the reading began has been yielded and it goes on with what
	// comes; not with End. nil: nothing is told of that.
	CaughtUp func()

	resume resumePoint // from here, where the room was left; zero: it was not
}

// contextFrames is how many frames before the first wanted are read, so as to know what it continues.
const contextFrames = 32

// syncAtOnce is how many rooms are begun to be read at the same time.
const syncAtOnce = 8

// Reading yields the verified messages of one or more rooms. Those of one sender's stream come in order. What was stored
// when it began comes in the order in which it was stored, across its rooms too; after that they are merged as they come.
// With End it has ended when every room has been read to where it reached, each whole: what cannot be read so far ends it
// with ErrUnavailable.
type Reading struct {
	rd        *Reader
	o         Options
	growth    growth
	out       chan batch
	given     *semaphore.Weighted // bytes in out, or being received
	ctx       context.Context
	cancel    context.CancelFunc
	finishing context.Context // done when it is to end with what is stored
	finish    context.CancelFunc
	findings  atomic.Int64
	wentBack  atomic.Bool  // a room did, by one of the findings
	held      atomic.Int64 // bytes of unfinished messages, of frames ahead and of large messages not received, in all rooms
	shed      atomic.Int64 // messages that were given up for want of memory

	pastGiven chan struct{} // closed when what the first feeds read of the past has been given
	endPast   func()        // closes it; it may be called again
	end       pastEnd       // of what was stored when it began

	mu    sync.Mutex
	feeds map[crypto.ID]*feed
	left  map[crypto.ID]resumePoint // rooms that a pattern means and that were left, and where
	open  int                       // feeds that run
	wrong error                     // with rooms that are read no more, while others are
	err   error
	done  chan struct{}
}

// Read begins to read rooms, and every room of the client's that a pattern with the NATS wildcards * and > matches, also
// those it is invited to later. ErrDenied when this client is no member of one; ErrNotFound, with End, when a pattern
// matches none.
func (rd *Reader) Read(ctx context.Context, rooms []*room.Room, patterns []string, o Options) (*Reading, error) {
	s := &Reading{
		rd: rd, o: o, out: make(chan batch, maxGiven), given: semaphore.NewWeighted(givenBytes), done: make(chan struct{}), pastGiven: make(chan struct{}),
		feeds: map[crypto.ID]*feed{}, left: map[crypto.ID]resumePoint{}, growth: growth{patterns: patterns, arrivals: make(chan struct{}, 1)},
	}
	s.growth.s = s
	s.wrong = o.Lost
	s.endPast = sync.OnceFunc(func() { close(s.pastGiven) })
	s.ctx, s.cancel = context.WithCancel(rd.Context)
	s.finishing, s.finish = context.WithCancel(s.ctx)
	if o.End {
		s.finish()
	}
	rd.register(s) // before rooms are listed, so that none falls between
	matching, err := s.growth.begin(ctx)
	if err != nil {
		s.cancel()
		return nil, err
	}
	for _, r := range matching {
		if !slices.Contains(rooms, r) {
			rooms = append(rooms, r)
		}
	}
	if len(rooms) == 0 && o.Lost != nil {
		s.cancel()
		return nil, o.Lost
	}
	s.growth.tell(o.Lost)
	if err := errors.Join(rd.Follow(ctx), s.add(ctx, rooms, o)); err != nil {
		s.Close()
		return nil, err
	}
	if len(rooms) == 0 { // there is no feed that would tell
		s.endPast()
		s.end.tell(s)
	}
	if len(patterns) > 0 && !o.End && !rd.Tasks.Go(s.growth.run) {
		return nil, ErrClosed
	}
	return s, nil
}

// add begins to read rooms. Every feed stands before the first one runs, so that none ends while another is
// still to come; what they read of the past is put in the order in which it was stored.
func (s *Reading) add(ctx context.Context, rooms []*room.Room, o Options) error {
	ids := make([]crypto.ID, len(rooms))
	for i, r := range rooms {
		if err := r.Readable(); err != nil {
			return err
		}
		ids[i] = r.ID
	}
	if err := s.rd.Conn.Grant(ctx, ids...); err != nil {
		return cmp.Or(s.rd.Refused(), err)
	}
	feeds, err := s.prepareAll(ctx, rooms, o)
	if err != nil {
		for _, f := range feeds {
			f.shutDown()
		}
		return err
	}
	s.mu.Lock()
	s.open += len(feeds)
	for _, f := range feeds {
		s.feeds[f.r.ID] = f
		delete(s.left, f.r.ID)
	}
	s.mu.Unlock()
	if len(feeds) == 1 {
		feeds[0].out.alone = true
	} else if len(feeds) > 1 {
		parts := make([]chan part, len(feeds))
		for i, f := range feeds {
			f.out.parts = make(chan part)
			parts[i] = f.out.parts
		}
		if !s.rd.Tasks.Go(func() { s.merge(parts) }) {
			return ErrClosed
		}
	}
	for _, f := range feeds {
		if !s.rd.Tasks.Go(f.run) {
			return ErrClosed
		}
	}
	return nil
}

// pageBudget is how many bytes of the past all feeds of a reading hold together, if frames are small.
const pageBudget = 64 << 20

// prepareAll makes feeds, some at a time. It returns those it made, also with an error.
func (s *Reading) prepareAll(ctx context.Context, rooms []*room.Room, o Options) ([]*feed, error) {
	made := make([]*feed, len(rooms))
	page := max(pageBudget/max(len(rooms), 1)/2, 32<<10)
	err := tasks.ForEach(ctx, syncAtOnce, len(rooms), func(i int) (err error) {
		if made[i], err = s.prepare(ctx, rooms[i], o, page); err != nil {
			err = fmt.Errorf("subscribe to %s: %w", rooms[i].Subject(), err)
		}
		return err
	})
	return slices.DeleteFunc(made, func(f *feed) bool { return f == nil }), err
}

// without is an error of a room behind a text that names the room already.
func without(subject string, err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "subscribe to "+subject+": "), "room "+subject+": ")
}

// ended is called by a feed at its end. A reading with patterns goes on without a room that may not be read any more; one of
// several rooms without one in which something is wrong, which is its error at the end.
func (s *Reading) ended(f *feed, err error) {
	failed := err != nil && s.ctx.Err() == nil
	if failed {
		f.r.LostRights(err)
	}
	left := failed && s.goesOnWithout(f, err)
	s.mu.Lock()
	s.open--
	broken := failed && !left && s.open > 0 && errors.Is(err, store.ErrIntegrity)
	if left {
		delete(s.feeds, f.r.ID)
	}
	if broken {
		s.wrong = errlist.Join(s.wrong, err)
	}
	over := s.open == 0 && s.finishing.Err() != nil
	s.mu.Unlock()
	switch {
	case left || broken:
		s.rd.Tell("no longer reading %s: %s", f.r.Subject(), without(f.r.Subject(), err))
	case failed:
		s.stop(err)
	}
	if left {
		s.lookForRooms() // it may be there again already
	}
	if over {
		s.stop(nil)
	}
}

// goesOnWithout reports whether the reading goes on when one of its rooms may not be read any more: one with patterns does,
// while this client is still let in to the bus and the room was not found to be tampered with.
func (s *Reading) goesOnWithout(f *feed, err error) bool {
	over := errors.Is(err, store.ErrDenied) || errors.Is(err, store.ErrNotFound)
	return over && !errors.Is(err, store.ErrIntegrity) && len(s.growth.patterns) > 0 && f.r.Active(f.r.Key())
}

// Messages yields messages until the reading ends, then the error that ended it, if one did: ErrDenied for a membership
// that ended, ErrIntegrity when there were findings. Bodies are the receiver's to keep.
func (s *Reading) Messages() iter.Seq2[Message, error] {
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
func (s *Reading) Waiting() bool { return len(s.out) > 0 }

// Err returns why the reading ended, or what is wrong with what it was given so far.
func (s *Reading) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrong, err := errlist.Join(s.wrong, s.growth.lost), s.err
	switch n, shed := s.findings.Load(), s.shed.Load(); {
	case err != nil:
	case n > 0:
		err = fmt.Errorf("%w: %d finding(s) in what the server gave, see above; what is wrong was not delivered", store.ErrIntegrity, n)
		if s.wentBack.Load() {
			err = &alsoError{err, room.ErrRolledBack}
		}
	case wrong == nil && shed > 0:
		err = fmt.Errorf("%w: %d message(s) could not be put together, since too many were unfinished at once", store.ErrUnavailable, shed)
		err = remedy.With(err, remedy.Remedy{Kind: remedy.ReadFewer})
	}
	return errlist.Join(wrong, err)
}

// alsoError is an error of another kind besides, which its text need not repeat.
type alsoError struct {
	error
	also error
}

// Unwrap is both kinds.
func (e *alsoError) Unwrap() []error { return []error{e.error, e.also} }

// Finish has the reading end as with End: when everything that is stored by now has been read, and what waits for
// something before it is given or missed for good, which takes up to half a minute. ErrUnavailable, by Messages and
// Err, when that cannot be had.
func (s *Reading) Finish() {
	s.finish()
	s.mu.Lock()
	over := s.open == 0
	s.mu.Unlock()
	if over {
		s.stop(nil)
	}
}

// Close ends the reading at once, and returns what Err does. What waits for something before it is not given any
// more: Finish gives it.
func (s *Reading) Close() error {
	s.stop(nil)
	return s.Err()
}

// Fail ends the reading at once, for a reason of the caller's.
func (s *Reading) Fail(why error) { s.stop(why) }

// stop ends the reading and its feeds; the first reason stays.
func (s *Reading) stop(err error) {
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

// notice counts findings, which are an error of the reading at its end, and passes on what is told.
func (s *Reading) notice(n Notice) {
	if n.Finding {
		s.findings.Add(1)
		if n.Kind == RolledBack {
			s.wentBack.Store(true)
		}
	}
	if s.o.Notice != nil {
		s.o.Notice(n)
	}
}
