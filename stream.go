package unibus

import (
	"bytes"
	"container/list"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// Limits of what a reader keeps, per room.
const (
	maxStreams   = 1 << 16                // streams remembered; the longest unheard are forgotten first
	maxRemember  = 256                    // delivered frames of a stream told from their impostors
	maxReorder   = 128                    // frames ahead of a gap, in all streams together
	maxStart     = 64                     // a stream's first frames, which may have been stored out of order
	lostAfter    = 2 * time.Second        // a frame ahead of a gap waits in a live room
	giveUpAfter  = giveUp + 5*time.Second // and in a stored one, while its writer may send again what got no answer
	freshWithin  = 10 * time.Minute       // between a live frame's seal time and the reader's clock
	defaultLimit = MaxMessage
)

// streamKey is one sender's stream.
type streamKey struct {
	sender crypto.PublicKey
	stream StreamID
}

// received is a frame that the ledger's rules accept.
type received struct {
	*ledger.Verdict
	sender crypto.PublicKey
	seq    uint64 // in the room's stream
	sum    uint64 // of the frame, to tell a repetition from another frame
	late   bool
	// context: it is only read to know what comes after it, and not delivered.
	context bool
}

// tracker follows one stream.
type tracker struct {
	key      streamKey
	next     uint64          // the counter expected
	begun    uint64          // the counter that reading began at
	early    map[uint64]bool // counters before begun that came after it
	sums     []uint64        // of the last frames before next
	at       uint64
	time     uint64 // seal time of the last frame, Unix µs
	ended    bool
	unsure   bool     // the frame before next was not read: its last message may go on in it
	partial  *Message // its rest is to come
	dropping bool     // the rest of a message that was given up
	ahead    map[uint64]received
	since    time.Time // when the gap before ahead was first seen
	used     *list.Element
}

// sequencer puts the frames of a room's streams in order, and notices what is missing, repeated or
// out of place (SPEC.md §6, Streams). It knows no clock of its own.
type sequencer struct {
	room    ID
	stored  bool
	start   bool // reading from the room's first frame
	limit   int  // of a message, in bytes
	unheard bool // do not check counters: others read a part
	name    func(key crypto.PublicKey) string
	subject string
	notice  func(Notice)
	deliver func(Message)

	seed    maphash.Seed
	streams map[streamKey]*tracker
	order   *list.List // of *tracker, longest unheard first
	waiting int        // frames in all ahead maps
}

func newSequencer() *sequencer {
	return &sequencer{limit: defaultLimit, seed: maphash.MakeSeed(), streams: map[streamKey]*tracker{}, order: list.New()}
}

func (q *sequencer) note(kind NoticeKind, finding bool, f received, from, to uint64, why string) {
	q.notice(Notice{
		Kind: kind, Finding: finding, Room: q.room, Subject: q.subject, Sender: q.name(f.sender),
		Stream: f.Header.Stream, From: from, To: to, Seq: f.seq, Why: why,
	})
}

// take accepts a frame that the ledger's rules accept.
func (q *sequencer) take(f received, now time.Time) {
	key := streamKey{f.sender, f.Header.Stream}
	t := q.streams[key]
	if t == nil {
		t = q.begin(key, f)
	}
	q.order.MoveToBack(t.used)
	switch counter := f.Header.Counter; {
	case q.unheard, counter == t.next:
		q.advance(t, f)
		q.drain(t)
	case counter < t.begun && q.stored && len(t.early) < maxStart && !t.early[counter]:
		q.belated(t, f)
	case counter < t.next:
		q.repeated(t, f)
	default:
		q.hold(t, f, now)
	}
}

// begin meets a stream for the first time.
func (q *sequencer) begin(key streamKey, f received) *tracker {
	if len(q.streams) >= maxStreams {
		oldest := q.order.Front()
		t := oldest.Value.(*tracker)
		q.waiting -= len(t.ahead)
		q.order.Remove(oldest)
		delete(q.streams, t.key)
	}
	t := &tracker{key: key}
	t.used = q.order.PushBack(t)
	q.streams[key] = t
	if f.Header.Counter > 0 && !q.unheard {
		if q.start && q.stored && f.Header.Counter <= maxStart {
			return t // what is missing may have been sent again, and stored later
		}
		q.join(t, f)
	}
	return t
}

// join goes on with a stream at f, which is not its first frame.
func (q *sequencer) join(t *tracker, f received) {
	t.next, t.begun = f.Header.Counter, f.Header.Counter
	t.unsure = true
	if q.start && q.stored {
		q.note(NoticeExpired, false, f, 0, f.Header.Counter-1, "the beginning of the stream has expired or is withheld")
	}
}

// belated delivers a frame that was stored after a later one, with which reading began.
func (q *sequencer) belated(t *tracker, f received) {
	if t.early == nil {
		t.early = map[uint64]bool{}
	}
	t.early[f.Header.Counter] = true
	q.advance(&tracker{key: t.key, next: f.Header.Counter, unsure: true}, f)
}

// repeated looks at a frame under a counter that was used.
func (q *sequencer) repeated(t *tracker, f received) {
	back := t.next - f.Header.Counter
	if back > uint64(len(t.sums)) {
		return // too long ago to tell; nothing of it is delivered again
	}
	if t.sums[uint64(len(t.sums))-back] != f.sum {
		q.note(NoticeReplayed, true, f, f.Header.Counter, f.Header.Counter, "two different frames under one counter; the second was dropped")
	}
}

// hold keeps a frame that is ahead of its stream.
func (q *sequencer) hold(t *tracker, f received, now time.Time) {
	if old, ok := t.ahead[f.Header.Counter]; ok {
		if old.sum != f.sum {
			q.note(NoticeReplayed, true, f, f.Header.Counter, f.Header.Counter, "two different frames under one counter; the second was dropped")
		}
		return
	}
	if t.ahead == nil {
		t.ahead = map[uint64]received{}
	}
	if len(t.ahead) == 0 {
		t.since = now
	}
	t.ahead[f.Header.Counter] = f
	if q.waiting++; q.waiting > maxReorder {
		q.skip(t)
	}
}

// skip gives up on what is missing before the first frame held, and goes on there.
func (q *sequencer) skip(t *tracker) {
	first := uint64(0)
	for counter := range t.ahead {
		if first == 0 || counter < first {
			first = counter
		}
	}
	if t.next == 0 && len(t.sums) == 0 {
		q.join(t, t.ahead[first])
		q.drain(t)
		return
	}
	why := "lost on the way, as may happen in a room that stores nothing"
	if q.stored {
		why = "missing from the room's stream, with frames after it there"
	}
	if f := t.ahead[first]; !f.context { // what is missing before the first wanted is nobody's loss here
		q.note(NoticeGap, q.stored, f, t.next, first-1, why)
	}
	t.partial, t.dropping = nil, t.partial != nil // what goes on behind the gap is no message
	t.sums = nil
	t.next, t.unsure = first, true
	q.drain(t)
}

// drain advances over the frames held that are next.
func (q *sequencer) drain(t *tracker) {
	for {
		f, ok := t.ahead[t.next]
		if !ok {
			return
		}
		delete(t.ahead, t.next)
		q.waiting--
		q.advance(t, f)
	}
}

// overdue gives up on gaps that have waited long enough, and says when to look again; zero for
// never. With all set it waits no longer.
func (q *sequencer) overdue(now time.Time, all bool) (again time.Time) {
	if q.waiting == 0 {
		return time.Time{}
	}
	patience := lostAfter
	if q.stored {
		patience = giveUpAfter
	}
	for e := q.order.Front(); e != nil; e = e.Next() {
		t := e.Value.(*tracker)
		for len(t.ahead) > 0 && (all || now.Sub(t.since) >= patience) {
			q.skip(t)
			t.since = now
		}
		if len(t.ahead) > 0 && (again.IsZero() || t.since.Add(patience).Before(again)) {
			again = t.since.Add(patience)
		}
	}
	return again
}

// advance delivers the next frame of a stream.
func (q *sequencer) advance(t *tracker, f received) {
	h := f.Header
	if !q.unheard {
		if why := t.astray(f); why != "" {
			q.note(NoticeReplayed, true, f, h.Counter, h.Counter, why)
			t.remember(f)
			return
		}
	}
	t.remember(f)
	t.at, t.time = max(t.at, h.At), max(t.time, f.Content.Time)
	t.ended = h.Flags&crypto.FlagFinal != 0
	name := q.name(f.sender)
	for i, record := range f.Content.Records {
		last := i == len(f.Content.Records)-1
		q.record(t, f, name, record, last && h.Flags&crypto.FlagMore != 0, i == 0)
	}
	t.unsure = false
}

// astray says what is wrong with a frame's place in its stream; empty for nothing.
func (t *tracker) astray(f received) string {
	switch {
	case t.ended:
		return "the stream goes on after its end"
	case f.Header.At < t.at:
		return "its place in the log goes back within the stream"
	case f.Content.Time < t.time:
		return "its seal time goes back within the stream"
	}
	return ""
}

func (t *tracker) remember(f received) {
	t.next = f.Header.Counter + 1
	if len(t.sums) == maxRemember {
		t.sums = slices.Delete(t.sums, 0, maxRemember/2)
	}
	t.sums = append(t.sums, f.sum)
}

// record takes one record: a message, or a piece of one.
func (q *sequencer) record(t *tracker, f received, name string, r crypto.Record, more, first bool) {
	m := t.partial
	switch {
	case t.dropping:
		t.dropping = more
		return
	case m == nil:
		m = &Message{
			Room: q.room, Subject: q.subject, Sender: f.sender, Name: name,
			Time:  time.UnixMicro(int64(f.Content.Time)).UTC(),
			Epoch: f.Header.Epoch, Stream: f.Header.Stream, Counter: f.Header.Counter,
			Headers: r.Headers, Body: r.Body, Former: f.Former, Late: f.late, unsure: first && t.unsure,
		}
		if more {
			m.Body = bytes.Clone(r.Body) // it will grow
		}
	case len(m.Body)+len(r.Body) > q.limit:
		q.note(NoticeRefused, false, f, m.Counter, f.Header.Counter, fmt.Sprintf("a message of more than %d bytes was dropped", q.limit))
		t.partial, t.dropping = nil, more
		return
	default:
		m.Body = append(m.Body, r.Body...)
	}
	if more {
		t.partial = m
		return
	}
	t.partial = nil
	m.place = f.seq
	if !f.context {
		q.deliver(*m)
	}
}

// finish looks at what is left when everything stored has been read.
func (q *sequencer) finish() {
	q.overdue(time.Time{}, true)
	for _, t := range q.streams {
		if !t.ended && t.partial != nil {
			q.notice(Notice{
				Kind: NoticeOpen, Room: q.room, Subject: q.subject, Sender: q.name(t.key.sender), Stream: t.key.stream,
				From: t.next, To: t.next, Why: "a message is not complete yet: the rest is still to come or is withheld",
			})
		}
	}
}

// forget lets a stream begin anywhere: frames of it were there, but could not be opened.
func (q *sequencer) forget(sender crypto.PublicKey, h crypto.Header) {
	key := streamKey{sender, h.Stream}
	if t := q.streams[key]; t == nil {
		t := &tracker{key: key, next: h.Counter + 1, unsure: true}
		t.used = q.order.PushBack(t)
		q.streams[key] = t
	} else if h.Counter == t.next {
		t.next++
		t.sums, t.unsure = nil, true
	}
}
