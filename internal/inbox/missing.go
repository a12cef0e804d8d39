package inbox

import (
	"fmt"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// gap are frames of a stream that did not come, between two others.
type gap struct {
	s           *stream
	from, to    uint64
	left, right mark
	ripe        time.Time // until then they may still come
}

// missing takes note of the frames before one, which did not come. In a stored room they are judged when it has
// been read to its end: only then it is known how much there is, and what their writer says of them.
func (b *Inbox) missing(s *stream, f held, now time.Time) {
	from, to := s.untold(s.next), f.Header.Counter-1
	if from > to || f.Context { // what is missing before the first wanted is nobody's loss here
		return
	}
	s.miss(from, to)
	g := gap{s, from, to, s.last, markOf(f.Frame), f.ripe}
	if !b.o.Stored {
		b.tell(g, from, to, Gap, "lost on the way, as may happen in a room that stores nothing")
		return
	}
	if len(b.gaps) == maxJudged {
		b.judge(b.gaps[0], now)
		b.gaps = slices.Delete(b.gaps, 0, 1)
	}
	b.gaps = append(b.gaps, g)
}

// judgeAll says what became of all that is missing, but for what may still come, and when to look at that again;
// zero for never.
func (b *Inbox) judgeAll(now time.Time) (again time.Time) {
	b.judgeRecords(now)
	kept := b.gaps[:0]
	for _, g := range b.gaps {
		if !g.ripe.After(now) {
			b.judge(g, now)
			continue
		}
		kept = append(kept, g)
		again = Earlier(again, g.ripe)
	}
	clear(b.gaps[len(kept):])
	b.gaps = kept
	return again
}

// belated takes note of a frame that came after others behind it were delivered: it is not missing, but a stream
// never goes back.
func (b *Inbox) belated(s *stream, f Frame) {
	counter := f.Header.Counter
	i := slices.IndexFunc(b.gaps, func(g gap) bool { return g.s == s && g.from <= counter && counter <= g.to })
	if i < 0 {
		return
	}
	before, after := b.gaps[i], b.gaps[i]
	before.to, after.from = counter-1, counter+1
	b.gaps = slices.Delete(b.gaps, i, i+1)
	if counter < after.to {
		b.gaps = slices.Insert(b.gaps, i, after)
	}
	if before.from < counter {
		b.gaps = slices.Insert(b.gaps, i, before)
	}
	b.note(s, Notice{Kind: Dropped, From: counter, To: counter, Place: f.Place, Why: "it was stored after frames behind it, which were read already"})
}

// Earlier is the first of two times, of which zero is never.
func Earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// judge says what became of the frames of a gap. Only what somebody has signed excuses them, and that they are old
// enough, or behind enough others, to have expired; the server's word does not.
func (b *Inbox) judge(g gap, now time.Time) {
	to := g.to
	if g.s.acked <= to && g.right.place < g.s.told { // what was sent later may be acknowledged by now
		b.tell(g, max(g.from, g.s.acked), to, Unacknowledged, "never stored: its writer says that it had no acknowledgement of it")
		if g.s.acked <= g.from {
			return
		}
		to = g.s.acked - 1
	}
	kind, why := b.excuse(g, now)
	b.tell(g, g.from, to, kind, why)
}

func (b *Inbox) tell(g gap, from, to uint64, kind Kind, why string) {
	b.note(g.s, Notice{Kind: kind, Finding: kind == Gap && b.o.Stored, From: from, To: to, Place: g.right.place, Why: why})
}

// before is the last that is known of a stream before a gap.
func (b *Inbox) before(g gap) mark {
	left := g.left
	if !left.known {
		at, joined := b.log.Joined(g.s.key.sender)
		left.at, left.time = at, uint64(joined.UnixMicro())
	}
	return left
}

// Judges reports whether something that is missing is about to be judged, by what the log says by now.
func (b *Inbox) Judges(now time.Time) bool {
	begins := b.o.Start && !b.began && b.first > 1
	return b.o.Stored && (begins || len(b.records) > 0 || slices.ContainsFunc(b.gaps, func(g gap) bool { return !g.ripe.After(now) }))
}

// Doubts is how many bytes the room would have to hold now, from its first place on, for all to have expired that is
// missing and about to be judged; 0 when that is known as it is. While a room is read it is trimmed, and what was read
// of it says less and less of how much it holds.
func (b *Inbox) Doubts(now time.Time) (bytes uint64) {
	if !b.o.Stored || b.first <= 1 {
		return 0
	}
	doubt := func(m mark) {
		if expired, _ := b.mayHaveExpired(m, now); !expired && !b.stays(m) {
			bytes = max(bytes, b.log.Kept(m.at).Left)
		}
	}
	if b.o.Start && !b.began && b.log.StoredSince(1) {
		doubt(b.start())
	}
	for _, g := range b.gaps {
		if !g.ripe.After(now) {
			doubt(b.before(g))
		}
	}
	for _, r := range b.records {
		doubt(r.mark())
	}
	return bytes
}

// Holds takes note of how many bytes the room was found to hold, in authentic frames from its first place on.
func (b *Inbox) Holds(bytes uint64) { b.held = max(b.held, bytes) }

// Size is what a frame counts for where a room is limited by bytes.
func Size(frame int) uint64 { return uint64(frame) + overhead }

// InFlight is how many frames of a stream a writer has on their way at most.
const InFlight = 18

// cutOff reports whether a frame was on its way when the last one was sent that is known of a stream, which did not end.
// Of such a stream as much could be left out at its end, and nothing would say so.
func (s *stream) cutOff(counter uint64) bool {
	last := s.next
	if n := len(s.ahead); n > 0 {
		last = s.ahead[n-1].Header.Counter + 1
	}
	return !s.final && last-counter <= InFlight
}

// excuse says why the frames of a gap are missing.
func (b *Inbox) excuse(g gap, now time.Time) (Kind, string) {
	left := b.before(g)
	for epoch := left.epoch + 1; epoch < g.right.epoch; epoch++ {
		if !b.log.Owes(epoch) {
			return Unreadable, fmt.Sprintf("of a time, as epoch %d, whose keys are not for you", epoch)
		}
	}
	expired, _ := b.mayHaveExpired(left, now)
	switch {
	case !b.log.StoredSince(left.at):
		return Unstored, "made while the room stored nothing, or before it began anew"
	case expired:
		return Expired, "old enough, or behind enough others, to have expired"
	case !left.known && b.forgot:
		return Expired, "the beginning of a stream that may have been forgotten for others"
	case b.log.Archived() && g.s.cutOff(g.from):
		return Unacknowledged, "on its way when the room was archived, after which its writer could not say whether it was stored"
	}
	return Gap, "missing from the room's stream, with frames after it there"
}

// clocksDiffer is how far the clocks of a writer and a reader may differ: both may log in with one that is off by
// crypto.TokenSkew from the servers', by whose clock frames expire.
const clocksDiffer = 2 * crypto.TokenSkew

// mayHaveExpired reports whether a frame, stored after one that left marks, may be gone because the room keeps
// frames for so long, or so many, and no more. Nothing has expired behind what the server says comes first. When it may
// not, yet says that it may be behind enough others when more has been read.
func (b *Inbox) mayHaveExpired(left mark, now time.Time) (expired, yet bool) {
	if b.stays(left) {
		return false, false
	}
	kept := b.log.Kept(left.at)
	old := kept.Age > 0 && now.Sub(time.UnixMicro(int64(min(left.time, 1<<62)))) > time.Duration(kept.Age)*time.Second-clocksDiffer
	many := kept.Trimmed && max(b.read.since(b.first), b.held) >= kept.Left
	return old || many, kept.Trimmed && left.place < b.first
}

// stays reports whether what the server says comes first is so far before a mark that nothing behind that has expired.
func (b *Inbox) stays(m mark) bool { return m.place > 0 && m.place >= b.first+OutOfOrder }

// start is when the room was made.
func (b *Inbox) start() mark { return mark{at: 1, time: uint64(b.log.Created().UnixMicro())} }

// beginning judges, once, that a room which is read from its start does not begin with its first place. The log says
// what may have been trimmed; the server's word is not needed. Of a room that began anew nobody knows the place at which
// it did.
func (b *Inbox) beginning(now time.Time) {
	if !b.o.Stored || !b.o.Start || b.began || b.first == 0 {
		return
	}
	b.began = true
	m := b.start()
	if expired, _ := b.mayHaveExpired(m, now); expired || b.first == 1 || !b.log.StoredSince(m.at) {
		return
	}
	b.notice(Notice{
		Kind: Lost, Finding: true, From: 1, To: b.first - 1,
		Why: "missing before what is said to come first, though nothing can have expired",
	})
}

// follow compares what a frame says of its writer's other streams with what was read of them. What was
// acknowledged was stored before the frame was sealed, and read before it; a place behind the frame's own says that
// the room's stream went back. What was not read, and may be behind enough others to have expired, is judged when
// what is stored has been read to its end, as gaps are: only then it is known how much there is.
func (b *Inbox) follow(f Frame, now time.Time) {
	for _, c := range f.Content.Follows {
		k := key{f.Sender, c.Stream}
		s := b.streams[k]
		if s != nil && c.Frames >= s.acked {
			s.acked, s.told = c.Frames, f.Place
		}
		r := record{k, c, f.Place}
		if c.Frames == 0 || b.has(r) || !b.expected(c, f) {
			continue
		}
		if expired, yet := b.mayHaveExpired(r.mark(), now); expired || !yet {
			b.unread(r, now)
			continue
		}
		if len(b.records) == maxJudged {
			b.unread(b.records[0], now)
			b.records = slices.Delete(b.records, 0, 1)
		}
		b.records = append(b.records, r)
	}
}

// record is what a frame says of another stream, of which it was not read.
type record struct {
	key
	crypto.Follows
	by uint64 // the place of the frame that says so
}

func (r *record) mark() mark { return mark{at: r.At, time: r.Sealed, place: r.Place} }

// has reports whether what a record tells of was read, or would be forgotten.
func (b *Inbox) has(r record) bool {
	s := b.streams[r.key]
	return s != nil && s.has(r.Frames-1) || s == nil && b.forgot
}

// judgeRecords says what became of what was stored and not read.
func (b *Inbox) judgeRecords(now time.Time) {
	for _, r := range b.records {
		if !b.has(r) {
			b.unread(r, now)
		}
	}
	b.records = nil
}

// expected reports whether what a frame says was stored must have been read.
func (b *Inbox) expected(c crypto.Follows, f Frame) bool {
	if at, when := b.log.Began(); at > 1 && c.Sealed < uint64(max(when.UnixMicro(), 0)) {
		return false // it is of before that, whatever log it was made by
	}
	return c.Place >= b.o.From && c.At <= f.Header.At && b.log.OwesAt(c.At) && b.log.StoredSince(c.At)
}

// unread tells, once, of frames that were stored and not read.
func (b *Inbox) unread(r record, now time.Time) {
	from, to := uint64(0), r.Frames-1
	if s := b.streams[r.key]; s != nil {
		from = s.untold(max(s.next, s.first))
		if to < s.first {
			from = 0
		}
		s.miss(from, to)
	} else {
		if told, ok := b.claims[r.key]; ok {
			from = told
		}
		if len(b.claims) >= maxClaims {
			clear(b.claims)
		}
		b.claims[r.key] = r.Frames
	}
	if from > to {
		return
	}
	n := Notice{Kind: Missing, Finding: true, Sender: r.sender, Stream: r.stream, From: from, To: to, Place: r.Place, By: r.by, Why: "its writer says that it was stored; withheld, or never written"}
	if expired, _ := b.mayHaveExpired(r.mark(), now); expired {
		n.Kind, n.Finding, n.Why = Expired, false, "stored, and old enough, or behind enough others, to have expired"
	}
	b.notice(n)
}
