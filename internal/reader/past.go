package reader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// Limits of reading stored rooms.
const (
	tailAfter   = time.Second           // without a frame, before the past is asked whether there is one
	tailEvery   = 15 * time.Second      // and again, in a room where nothing happens
	tailPerRoom = 50 * time.Millisecond // more for each room of the client, so that many are not asked more often
)

// storedSource gives the frames of a stored room by place, each once: the past first, then what comes by
// the subscription. The subscription only saves time. A frame by it that is not the one that comes next says
// that the past has to be asked again, which it also is when nothing has come for a while, and when the
// connection broke: a frame may be stored and published to nobody (SPEC.md §6).
type storedSource struct {
	rd   *Reader
	r    *room.Room
	live *bus.Feed
	seed maphash.Seed
	life context.Context // of the feed: what is fetched ahead outlives one call of Next

	next     uint64        // the place wanted
	first    uint64        // the room's first and last place, as last told
	last     uint64        //
	page     []store.Frame // read of the past, and not given yet
	ahead    chan fetched  // what comes after page, when it is being fetched
	bytes    int           // of a page
	lost     bool          // nothing is there up to next, which the reader is still to be told
	followed bool          // the past has been read to its end once
	quiet    time.Duration // without a frame, before the past is asked again
	missed   time.Time     // since when there is no stream; zero: there is one
	gone     bool          // which was told
	tell     func(inbox.Notice)
	reach    func() uint64 // to where the room was known to reach

	session context.Context // the last that was followed
	heard   uint64          // the highest place that came by the subscription
	given   placedFrame     // the last frame that was given
	byLive  bool            // it came by the subscription
	doubted placedFrame     // one that may not be there any more, to be compared with what the past holds; zero for none
	asked   bool            // the past was asked about it at once
}

// placedFrame is a frame at its place.
type placedFrame struct {
	place uint64
	sum   uint64
}

// another reports whether a frame is at the same place, and another.
func (p placedFrame) another(f store.Frame, seed maphash.Seed) bool {
	return p.place > 0 && f.Seq == p.place && maphash.Bytes(seed, f.Data) != p.sum
}

// errTrimmed says that nothing is there any more of what was said to be stored, and not read: it was trimmed meanwhile.
var errTrimmed = errors.New("what was stored was trimmed before it was read")

// errUnstored says that the room stores nothing any more.
var errUnstored = errors.New("the room stores nothing any more")

// errLost says that the places up to the next hold nothing, and that none behind them was read that would show it.
var errLost = errors.New("messages are lost")

// fetched is the outcome of a request for the past.
type fetched struct {
	past store.Past
	err  error
}

// read reports whether everything has been read that was said to be there when the past was asked last.
func (s *storedSource) read() bool { return len(s.page) == 0 && s.next > s.last }

// Next waits for the frame at the next place that holds one. errLost says that there is none up to next, and that Next
// goes on there. errTrimmed says once that there is none up to the last place that was told, so that whoever reads to
// there does not wait for what comes later.
func (s *storedSource) Next(ctx context.Context) (store.Frame, error) {
	unread := !s.read()
	for {
		if s.lost {
			s.lost = false
			return store.Frame{}, errLost
		}
		for len(s.page) > 0 {
			f := s.page[0]
			s.page = s.page[1:]
			if f.Seq >= s.next {
				s.byLive = false
				s.gave(f)
				return f, nil
			}
		}
		if s.next <= s.last {
			if err := s.fetch(ctx); err != nil {
				return store.Frame{}, err
			}
			if s.read() && !s.lost {
				return store.Frame{}, errTrimmed
			}
			continue
		}
		if unread { // what was to be read held nothing that was not given
			return store.Frame{}, errTrimmed
		}
		before := s.next
		f, err := s.follow(ctx)
		if err != nil || f.Seq > 0 {
			return f, err
		}
		if s.next > before && s.read() && !s.lost {
			return store.Frame{}, errTrimmed
		}
	}
}

// follow waits for the next frame by the subscription; a zero frame says that the past has been asked again,
// or has to be.
func (s *storedSource) follow(ctx context.Context) (store.Frame, error) {
	session, err := s.awaitSession(ctx)
	if err != nil {
		return store.Frame{}, err
	}
	s.followed = true
	if s.doubted.place > 0 && !s.asked {
		return store.Frame{}, s.tail(ctx)
	}
	wait, cancel := context.WithTimeout(ctx, s.quiet)
	defer cancel()
	defer context.AfterFunc(session, cancel)()
	for {
		f, err := s.live.Next(wait)
		back := err == nil && f.Seq > 0 && f.Seq <= s.heard
		s.heard = max(s.heard, f.Seq)
		switch {
		case err != nil && (wait.Err() == nil || ctx.Err() != nil):
			return f, err
		case err != nil: // quiet for long enough, or the connection broke
			s.quiet = s.rd.tailEvery()
			return store.Frame{}, s.tail(ctx)
		case f.Seq == 0 && !s.r.Ledger().Policy.Stored():
			return f, errUnstored
		case f.Seq < s.next && (back || s.given.another(f, s.seed)): // the place was used before
			s.doubt()
			return store.Frame{}, nil
		case f.Seq < s.next: // known already, or nothing that the room has stored
		case f.Seq == s.next:
			s.byLive = true
			s.gave(f)
			s.last, s.quiet = max(s.last, f.Seq), tailAfter
			return f, nil
		default:
			s.quiet = tailAfter
			return store.Frame{}, s.fetch(ctx)
		}
	}
}

// awaitSession waits until the connection stands. What was given over another is in doubt before anything is asked over this
// one: meanwhile the server may have been another, or have begun with less than it had.
func (s *storedSource) awaitSession(ctx context.Context) (context.Context, error) {
	session, err := s.live.Standing(ctx)
	if err == nil && s.followed && session != s.session {
		s.doubt()
	}
	if err == nil {
		s.session = session
	}
	return session, err
}

// gave takes note of a frame that goes to the reader.
func (s *storedSource) gave(f store.Frame) {
	s.next = f.Seq + 1
	s.given = placedFrame{f.Seq, maphash.Bytes(s.seed, f.Data)}
}

// takeBack has the frame at a place read from the past instead, if it is the last that was given, and came by the
// subscription.
func (s *storedSource) takeBack(place uint64) bool {
	if !s.byLive || place != s.given.place {
		return false
	}
	s.next, s.byLive = s.given.place, false
	return true
}

// doubt has the past asked whether the last frame that was given still is where it was. A stream that went back, and
// has come as far again with other frames, does not end too early: it has another frame there.
func (s *storedSource) doubt() {
	if s.doubted.place == 0 {
		s.doubted, s.asked = s.given, false
	}
}

// compare looks for the frame in doubt in an answer. One that begins behind it says nothing.
func (s *storedSource) compare(past store.Past) error {
	d := s.doubted
	if d.place == 0 {
		return nil
	}
	if len(past.Frames) > 0 && past.Frames[0].Seq == d.place {
		s.doubted = placedFrame{}
		if maphash.Bytes(s.seed, past.Frames[0].Data) != d.sum {
			return s.r.RolledBack(d.place, "the message at place %d of the room's stream was read, and now there is another", d.place)
		}
	} else if past.First > d.place {
		s.doubted = placedFrame{} // it was trimmed
	}
	return nil
}

// tail asks for what is stored beyond what was read, and whether that still is what it was, over a connection that stands: a
// stream may have been made anew and have come further meanwhile, and nothing of it come by the subscription. While the past
// cannot be had, following goes on.
func (s *storedSource) tail(ctx context.Context) error {
	if _, err := s.awaitSession(ctx); err != nil {
		return err
	}
	s.doubt()
	s.asked = true
	past, err := s.ask(ctx)
	if s.isGone(err) {
		s.tellGone()
	}
	if errors.Is(err, store.ErrUnavailable) {
		s.quiet = tailAfter
		return nil
	}
	if err != nil {
		return err
	}
	return s.accept(ctx, past)
}

// What cannot be read is asked for again after a while, the longer the more often it could not.
const (
	firstPause = 10 * time.Millisecond
	maxPause   = 500 * time.Millisecond
)

// fetch reads on in the past. While it cannot be had it is asked for again: within the client's timeout,
// or, once the room has been read to its end and is being followed, for as long as it takes.
func (s *storedSource) fetch(ctx context.Context) error {
	began, told := time.Now(), false
	for wait := firstPause; ; wait = min(2*wait, maxPause) {
		past, err := s.awaited(ctx)
		if err == nil {
			err = s.accept(ctx, past)
		}
		gone, late := s.isGone(err), time.Since(began) > s.rd.Timeout
		switch {
		case err == nil || !errors.Is(err, store.ErrUnavailable):
			return err
		case gone:
			return s.r.RolledBack(0, "it reached to place %d, and now %s", s.last, noStream)
		case late && !s.followed && s.missed.IsZero():
			return fmt.Errorf("%w (%d of %d places could be read)", err, s.next-1, s.last)
		case late && !told:
			told = true
			s.rd.Tell("waiting for messages that came meanwhile: %v", err)
		}
		if err := tasks.Pause(ctx, wait); err != nil {
			return err
		}
	}
}

// awaited is what was asked for ahead, or is asked for now.
func (s *storedSource) awaited(ctx context.Context) (store.Past, error) {
	if s.ahead == nil {
		return s.ask(ctx)
	}
	select {
	case f := <-s.ahead:
		s.ahead = nil
		return f.past, f.err
	case <-ctx.Done():
		return store.Past{}, ctx.Err()
	}
}

func (s *storedSource) ask(ctx context.Context) (store.Past, error) {
	after := s.next - 1
	if s.doubted.place > 0 {
		after = s.doubted.place - 1
	}
	return s.query(ctx, store.FramesQuery{After: after, Bytes: s.bytes})
}

// accept takes an answer over, and asks for what comes after it meanwhile.
func (s *storedSource) accept(ctx context.Context, past store.Past) error {
	if past.Last+1 < s.next {
		return s.wentBack(ctx, past)
	}
	if err := s.compare(past); err != nil {
		return err
	}
	s.first, s.last, s.page = past.First, past.Last, past.Frames
	if len(past.Frames) == 0 {
		s.lost = past.Lost >= s.next
		if s.next = max(s.next, past.First, past.Lost+1); s.next <= past.Last && !s.lost {
			return fmt.Errorf("%w: an answer without any of the messages from place %d on", store.ErrUnavailable, s.next)
		}
		return nil
	}
	if end := past.End(); end < past.Last {
		s.fetchAhead(end)
	}
	return nil
}

// reachesTo takes over up to where the room is said to reach.
func (s *storedSource) reachesTo(ctx context.Context, past store.Past) error {
	if past.Last+1 < s.next {
		return s.wentBack(ctx, past)
	}
	s.first, s.last = max(s.first, past.First), max(s.last, past.Last)
	return nil
}

// fetchAhead asks for what comes after a place. Where many rooms are read together their requests are under way beside
// each other as it is, and what each holds adds up.
func (s *storedSource) fetchAhead(after uint64) {
	if s.bytes < crypto.MaxFrame {
		return
	}
	ahead := make(chan fetched, 1)
	started := s.rd.Tasks.Go(func() {
		past, err := s.query(s.life, store.FramesQuery{After: after, Bytes: s.bytes})
		ahead <- fetched{past, err}
	})
	if started {
		s.ahead = ahead
	}
}

// reaching asks again, for a while, as long as a room is said to end before a place that it had reached: whoever
// said so may be behind. It returns the last that was said; store.ErrUnavailable when nothing could be had at last.
func reaching(outer context.Context, place uint64, past store.Past, ask func(context.Context) (store.Past, error)) (store.Past, error) {
	ctx, cancel := context.WithTimeout(outer, patience.RolledBack)
	defer cancel()
	var missed error
	for past.Last < place {
		if tasks.Pause(ctx, maxPause) != nil {
			return past, cmp.Or(outer.Err(), missed)
		}
		again, err := ask(ctx)
		switch {
		case ctx.Err() != nil: // which says nothing about the room
		case errors.Is(err, store.ErrUnavailable):
			missed = err
		case err != nil:
			return past, err
		default:
			past, missed = again, nil
		}
	}
	return past, nil
}

// wentBack deals with a room that ends before what was read of it. That is asked for again, in case whoever
// said so was behind.
func (s *storedSource) wentBack(ctx context.Context, past store.Past) error {
	read := s.next - 1
	past, err := reaching(ctx, read, past, s.ask)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && !errors.Is(err, store.ErrUnavailable):
		return err
	case past.Last < read:
		return s.r.RolledBack(past.Last, "messages up to place %d of the room's stream were read, and now it ends at %d", read, past.Last)
	}
	return s.accept(ctx, past)
}

// Close ends the subscription.
func (s *storedSource) Close() { s.live.Close() }
