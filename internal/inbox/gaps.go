package inbox

import (
	"fmt"
	"slices"
	"time"
)

// gaps are what is missing within streams, between frames that were read. In a stored room they are judged when that has
// been read to its end, and their time has come: only then it is known how much there is, and what their writer says of
// them.
type gaps struct {
	end     bool // reading ends with what is stored
	extent  *extent
	streams *streams
	tell    teller
	open    []gap // to be judged
}

// gap are frames of a stream that did not come, between two others.
type gap struct {
	s           *stream
	from, to    uint64
	left, right mark
	ripe        time.Time // until then they may still come
}

// missing takes note of the frames before one, which did not come.
func (g *gaps) missing(s *stream, f held, now time.Time) {
	from, to := s.untold(s.next), f.Header.Counter-1
	if from > to || f.Context { // what is missing before the first wanted is nobody's loss here
		return
	}
	s.miss(from, to)
	lost := gap{s, from, to, s.last, markOf(f.Frame), f.ripe}
	if !g.extent.stored {
		g.report(lost, from, to, Gap, "lost on the way, as may happen in a room that stores nothing")
		return
	}
	if len(g.open) == maxJudged {
		g.judge(g.open[0], now)
		g.open = slices.Delete(g.open, 0, 1)
	}
	g.open = append(g.open, lost)
}

// belated takes note of a frame that came after others behind it were delivered: it is not missing, but a stream
// never goes back.
func (g *gaps) belated(s *stream, f Frame) {
	counter := f.Header.Counter
	i := slices.IndexFunc(g.open, func(lost gap) bool { return lost.s == s && lost.from <= counter && counter <= lost.to })
	if i < 0 {
		return
	}
	before, after := g.open[i], g.open[i]
	before.to, after.from = counter-1, counter+1
	g.open = slices.Delete(g.open, i, i+1)
	if counter < after.to {
		g.open = slices.Insert(g.open, i, after)
	}
	if before.from < counter {
		g.open = slices.Insert(g.open, i, before)
	}
	g.tell.of(s.key, Notice{Kind: Dropped, From: counter, To: counter, Place: f.Place, Why: "it was stored after frames behind it, which were read already"})
}

// ripe reports whether any is to be judged.
func (g *gaps) ripe(now time.Time) bool {
	return slices.ContainsFunc(g.open, func(lost gap) bool { return !lost.ripe.After(now) })
}

// judgeRipe says what became of all that is missing, but for what may still come, and when to look at that again;
// zero for never.
func (g *gaps) judgeRipe(now time.Time) (again time.Time) {
	kept := g.open[:0]
	for _, lost := range g.open {
		if !lost.ripe.After(now) {
			g.judge(lost, now)
			continue
		}
		kept = append(kept, lost)
		again = Earlier(again, lost.ripe)
	}
	clear(g.open[len(kept):])
	g.open = kept
	return again
}

// judgeLast says what became of all that is missing, of which nothing is waited for any more.
func (g *gaps) judgeLast(now time.Time) {
	for _, lost := range g.open {
		if lost.ripe.After(now) {
			g.tell.of(lost.s.key, Notice{Kind: Gap, From: lost.from, To: lost.to, Place: lost.right.place, Why: "not there yet when reading ended, as frames after it were"})
			continue
		}
		g.judge(lost, now)
	}
	g.open = nil
}

// judge says what became of the frames of a gap. Only what somebody has signed excuses them, and that they are old
// enough, or behind enough others, to have expired; the server's word does not.
func (g *gaps) judge(lost gap, now time.Time) {
	s, to := lost.s, lost.to
	if s.acked <= to && lost.right.place < s.told { // what was sent later may be acknowledged by now
		g.report(lost, max(lost.from, s.acked), to, Unacknowledged, "never stored: its writer says that it had no acknowledgement of it")
		if s.acked <= lost.from {
			return
		}
		to = s.acked - 1
	}
	kind, why := g.excuse(lost, now)
	g.report(lost, lost.from, to, kind, why)
}

func (g *gaps) report(lost gap, from, to uint64, kind Kind, why string) {
	g.tell.of(lost.s.key, Notice{Kind: kind, Finding: kind == Gap && g.extent.stored, From: from, To: to, Place: lost.right.place, Why: why})
}

// excuse says why the frames of a gap are missing.
func (g *gaps) excuse(lost gap, now time.Time) (Kind, string) {
	log, left := g.extent.log, g.before(lost.s.key, lost.left)
	for epoch := left.epoch + 1; epoch < lost.right.epoch; epoch++ {
		if !log.Owes(epoch) {
			return Unreadable, fmt.Sprintf("of a time, as epoch %d, whose keys are not for you", epoch)
		}
	}
	expired, _ := g.extent.mayHaveExpired(left, now)
	switch {
	case !log.StoredSince(left.at):
		return Unstored, "made while the room stored nothing, or before it began anew"
	case expired:
		return Expired, "old enough, or behind enough others, to have expired"
	case !left.known && g.streams.forgot:
		return Expired, "the beginning of a stream that may have been forgotten for others"
	case log.Archived() && lost.s.cutOff(lost.from):
		return Unacknowledged, "on its way when the room was archived, after which its writer could not say whether it was stored"
	}
	return Gap, "missing from the room's stream, with frames after it there"
}

// lets reports whether the first frame that a stream holds has waited long enough for those before it. Whoever reads to the
// end only does not wait for what was removed when the room ceased to store: what of that still came would be behind the end,
// and the frame is ripe.
func (g *gaps) lets(s *stream, now time.Time) bool {
	first := &s.ahead[0]
	if g.end && g.extent.stored && first.ripe.After(now) && !g.extent.log.StoredSince(g.before(s.key, s.last).at) {
		first.ripe = now
	}
	return !first.ripe.After(now)
}

// before is the last that is known of a stream before a gap, of what is to the left of that.
func (g *gaps) before(of key, left mark) mark {
	if !left.known {
		at, joined := g.extent.log.Joined(of.sender)
		left.at, left.time = at, uint64(joined.UnixMicro())
	}
	return left
}

// doubt is the extent's, of all that is about to be judged.
func (g *gaps) doubt(now time.Time) (bytes uint64) {
	for _, lost := range g.open {
		if !lost.ripe.After(now) {
			bytes = max(bytes, g.extent.doubt(g.before(lost.s.key, lost.left), now))
		}
	}
	return bytes
}
