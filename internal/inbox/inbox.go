// Package inbox puts the authentic frames of one room in order, joins the messages that came in pieces, and says
// what is missing, repeated or out of place (SPEC.md §6, Streams). It does no I/O and knows no clock: frames and
// the time are given to it, messages and notices come out.
//
// It is given frames that opened and verified, and no others: nothing else can move a counter, take a limit, or be
// a reason for anything said here.
//
// An Inbox takes each frame to its stream (streams.go, stream.go), where it is the next, was there before, or waits. A
// delivery moves streams on, and joins pieces to messages (delivery.go, pieces.go). What is left out by that is a gap, and
// what writers say of their other streams are claims; both are judged when it is known how much the room holds, which is
// its extent (gaps.go, claims.go, extent.go). A budget bounds what is held meanwhile (budget.go).
package inbox

import (
	"sync/atomic"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// Limits of what is kept, per room but for the budget.
const (
	// Budget is how many bytes of unfinished messages and of frames ahead all inboxes that share one hold.
	Budget = 128 << 20
	// MaxStreams is how many streams are remembered.
	MaxStreams = 1 << 16
	// OutOfOrder is by how many places a frame that was sent again may be stored behind its successors.
	OutOfOrder = 64

	maxAhead  = 64   // frames of a stream that wait for one before them; a writer has fewer under way
	maxSums   = 64   // delivered frames of a stream told from their impostors
	maxGaps   = 64   // of a stream, remembered so as not to be told twice
	maxDamage = 64   // damaged places, remembered to know what is missing and what is only late
	maxJudged = 4096 // gaps to be judged when everything stored has been read
	maxClaims = 4096 // streams of which nothing was read and that was told, remembered for the same reason
	overhead  = 256  // bytes that a server counts for a frame besides its own: its subject, headers and so on
)

// Frame is an authentic frame of the room.
type Frame struct {
	Sender  crypto.PublicKey
	Header  crypto.Header
	Content crypto.Content
	Size    int       // bytes it takes
	Sum     uint64    // to tell it from another frame
	Place   uint64    // in the room's stream; 0 in a room that stores nothing
	Stored  time.Time // when it was stored, as the server says; zero: it does not
	Former  bool      // its sender may no longer write
	Late    bool      // it came as new, but was sealed long before
	Refused bool      // nothing of it may be delivered, but it takes its counter
	Context bool      // it is only read to know what comes after it
}

// Message is a whole message. Its body may be a part of a frame's content; one that came in pieces has its body in them.
type Message struct {
	Sender  crypto.PublicKey
	Time    uint64 // when the frame that it begins in was sealed, in Unix µs
	Epoch   uint32
	Stream  [16]byte
	Counter uint64    // of the frame it begins in
	Index   int       // of its first record in that frame, from 0
	Place   uint64    // of the frame it ends in
	Stored  time.Time // when that was stored, as the server says; zero: it does not
	Headers []crypto.Field
	Body    []byte
	Parts   [][]byte
	Former  bool
	Late    bool
	Unsure  bool // the frame before its first was not read: it may have begun there
}

// Log answers from the room's log, as far as the reader has verified it.
type Log interface {
	// OwesAt reports whether the log owes the reader the key of the epoch at an entry.
	OwesAt(at uint64) bool
	// Owes reports whether the log owes the reader an epoch's key.
	Owes(epoch uint32) bool
	// StoredSince reports whether everything made at an entry or later was to be stored and to stay, by all that is
	// known by now: when storing ends, everything before is removed, and what comes a moment later may be stored.
	StoredSince(at uint64) bool
	// Kept is what was left under the policies in force at an entry or since.
	Kept(since uint64) ledger.Kept
	// Archived reports whether the room was archived: nobody can say any more what became of a frame.
	Archived() bool
	// Created is when the room was made.
	Created() time.Time
	// Began is where and when what the room stores now begins.
	Began() (at uint64, when time.Time)
	// Joined is where and when somebody may first have written.
	Joined(sender crypto.PublicKey) (at uint64, when time.Time)
}

// Options say how a room is read.
type Options struct {
	Stored   bool          // frames have places, and what is missing is somebody's doing
	Start    bool          // reading begins with the first frame there is
	From     uint64        // the place reading begins at
	End      bool          // reading ends with what is stored
	Shared   bool          // others read a part of the frames: counters say nothing
	Limit    int           // bytes of a message
	Patience time.Duration // how long a frame waits for one before it
	Used     *atomic.Int64 // of the Budget, by all inboxes that share it
	Shed     *atomic.Int64 // messages given up for the Budget that came to be whole after that
}

// Size is what a frame counts for where a room is limited by bytes.
func Size(frame int) uint64 { return uint64(frame) + overhead }

// Inbox is the state of reading one room. It is not safe for concurrent use.
type Inbox struct {
	shared   bool
	patience time.Duration
	tell     teller
	streams  *streams
	damage   damages
	extent   *extent
	gaps     *gaps
	claims   *claims
	budget   *budget
	delivery *delivery
}

// key is one sender's stream.
type key struct {
	sender crypto.PublicKey
	stream [16]byte
}

// New makes an inbox, which calls deliver and notice from within its methods.
func New(o Options, log Log, deliver func(Message), notice func(Notice)) *Inbox {
	b := &Inbox{shared: o.Shared, patience: o.Patience, tell: notice, streams: newStreams(), budget: newBudget(o.Used, o.Shed)}
	b.extent = &extent{log: log, stored: o.Stored, start: o.Start, from: o.From}
	b.gaps = &gaps{end: o.End, extent: b.extent, streams: b.streams, tell: b.tell}
	b.claims = &claims{extent: b.extent, streams: b.streams, tell: b.tell, told: map[key]uint64{}}
	b.delivery = &delivery{
		shared: o.Shared, limit: o.Limit, deliver: deliver, tell: b.tell, streams: b.streams, gaps: b.gaps, budget: b.budget,
	}
	return b
}

// Knows reports whether a stream has been met. Of one that has not, and of which something was stored before reading
// began, the last of that may be taken first. When streams were forgotten it may have been met: then it is known.
func (b *Inbox) Knows(sender crypto.PublicKey, id [16]byte) bool {
	return b.streams.forgot || b.streams.get(key{sender, id}) != nil
}

// Take reads a frame. In a stored room frames come in the order of their places.
func (b *Inbox) Take(f Frame, now time.Time) {
	s := b.streams.get(key{f.Sender, f.Header.Stream})
	if s == nil {
		s = b.meet(f, now)
	}
	b.streams.hear(s)
	if b.extent.stored {
		b.extent.add(f)
		if !f.Refused {
			b.claims.follow(f, now)
		}
	}
	switch counter := f.Header.Counter; {
	case b.shared, counter == s.next:
		b.delivery.advance(s, f)
		b.delivery.drain(s)
	case counter < s.next:
		b.repeated(s, f)
	default:
		b.hold(s, f, now)
	}
	for b.budget.exceeded() && b.shed(now) {
	}
}

// meet begins to follow a stream.
func (b *Inbox) meet(f Frame, now time.Time) *stream {
	if b.streams.full() {
		b.forget(now)
	}
	s := &stream{key: key{f.Sender, f.Header.Stream}}
	b.streams.add(s)
	if n := b.claims.told[s.key]; n > 0 {
		s.miss(0, n-1)
	}
	if !b.extent.start || !b.extent.stored { // joined in the middle
		s.begin(f.Header.Counter)
	}
	return s
}

// forget makes room for another stream.
func (b *Inbox) forget(now time.Time) {
	s := b.streams.oldest()
	for len(s.ahead) > 0 {
		b.delivery.skip(s, now)
	}
	b.delivery.giveUp(s, "its writer has begun very many other streams since")
	b.streams.remove(s)
}

// repeated looks at a frame under a counter that was passed. Nothing of it is delivered: a stream never goes back.
func (b *Inbox) repeated(s *stream, f Frame) {
	b.gaps.belated(s, f)
	if s.contradicts(f) {
		b.tell.replayed(s, f, "two different frames under one counter; the second was dropped")
	}
}

// hold keeps a frame that is ahead of its stream.
func (b *Inbox) hold(s *stream, f Frame, now time.Time) {
	i, found := s.search(f.Header.Counter)
	if found {
		if s.ahead[i].Sum != f.Sum {
			b.tell.replayed(s, f, "two different frames under one counter; the second was dropped")
		}
		return
	}
	s.insert(i, held{f, b.ripens(s, f, now)})
	b.budget.settle(s)
	if len(s.ahead) > maxAhead {
		b.delivery.skip(s, now)
	}
}

// ripens is until when a frame waits for those before it: while their writer may be sending them again, which it does
// for as long after it sealed this one. A writer's clock may be behind the server's, and then says less of that than when
// the server stored the frame; a server that lies about this has the frame wait as if it had just come, and no longer.
func (b *Inbox) ripens(s *stream, f Frame, now time.Time) time.Time {
	if b.damage.between(s.key.sender, s.last.place, f.Place) { // that is what is missing: it is not on its way
		return now
	}
	since := now
	if b.extent.stored {
		since = time.UnixMicro(int64(min(f.Content.Time, 1<<62)))
		if since.Before(f.Stored) {
			since = f.Stored
		}
		if since.After(now) {
			since = now
		}
	}
	return since.Add(b.patience)
}

// shed frees what has been held longest; false when nothing is.
func (b *Inbox) shed(now time.Time) bool {
	s := b.budget.longest()
	if s == nil {
		return false
	}
	if s.pieces.partial != nil {
		b.delivery.giveUp(s, "too much is unfinished")
		s.pieces.shedRest()
	} else {
		b.delivery.skip(s, now)
	}
	return true
}

// Due gives up on gaps that have waited long enough, and says when to look again; zero for never. In a stored room
// it is only to be called when what is stored has been read to its end, as told.
func (b *Inbox) Due(now time.Time) (again time.Time) {
	for s := range b.budget.holders {
		for len(s.ahead) > 0 && b.gaps.lets(s, now) {
			b.delivery.skip(s, now)
		}
		if len(s.ahead) > 0 {
			again = Earlier(again, s.ahead[0].ripe)
		}
	}
	b.extent.judgeFront(now, b)
	b.claims.judge(now)
	return Earlier(again, b.gaps.judgeRipe(now))
}

// Release delivers what waits for frames before it, which are judged by Due when it is time.
func (b *Inbox) Release(now time.Time) {
	for s := range b.budget.holders {
		for len(s.ahead) > 0 {
			b.delivery.skip(s, now)
		}
	}
}

// Finish waits for nothing any more, and tells of the messages that are not whole. What is missing of frames that
// came so late that their writer may still be sending it again is no finding.
func (b *Inbox) Finish(now time.Time) {
	b.Release(now)
	for s := range b.budget.holders {
		if p := s.pieces.partial; p != nil {
			b.tell.of(s.key, Notice{
				Kind: Open, From: p.Counter, To: s.next,
				Why: "a message is not whole yet: the rest is still to come or is withheld",
			})
		}
	}
	b.claims.judge(now)
	b.gaps.judgeLast(now)
	b.extent.judgeFront(now, b)
}

// Reached takes note of the first place that the server says is there.
func (b *Inbox) Reached(first uint64) { b.extent.reach(first) }

// Holds takes note of how many bytes the room was found to hold, in authentic frames from its first place on.
func (b *Inbox) Holds(bytes uint64) { b.extent.find(bytes) }

// Damaged takes note of places that hold nothing, or that hold what is not authentic under the subject of a
// sender; zero for anybody's.
func (b *Inbox) Damaged(sender crypto.PublicKey, from, to uint64) {
	b.damage.add(damage{sender, from, to})
}

// BeginStored goes on in a room that has begun to store its messages, with the frame at a place.
func (b *Inbox) BeginStored(from uint64) {
	b.extent.stored, b.extent.start, b.extent.from = true, false, from
	b.extent.last, b.extent.cut = mark{}, cut{}
}

// EndStored goes on in a room that has ceased to store its messages.
func (b *Inbox) EndStored() { b.extent.stored, b.extent.start, b.extent.from = false, false, 0 }

// Judges reports whether something that is missing is about to be judged, by what the log says by now.
func (b *Inbox) Judges(now time.Time) bool {
	return b.extent.stored && (b.extent.begins() && b.extent.first > 1 || b.extent.cut.to > 0 || len(b.claims.open) > 0 || b.gaps.ripe(now))
}

// Doubts is how many bytes the room would have to hold now, from its first place on, for all to have expired that is
// missing and about to be judged; 0 when that is known as it is. While a room is read it is trimmed, and what was read
// of it says less and less of how much it holds.
func (b *Inbox) Doubts(now time.Time) (bytes uint64) {
	if !b.extent.stored || b.extent.first <= 1 {
		return 0
	}
	if b.extent.begins() && b.extent.log.StoredSince(1) {
		bytes = b.extent.doubt(b.extent.created(), now)
	}
	if c := b.extent.cut; c.to > 0 && b.extent.log.StoredSince(c.after.at) {
		bytes = max(bytes, b.extent.doubt(c.after, now))
	}
	return max(bytes, b.gaps.doubt(now), b.claims.doubt(now))
}

// Close lets go of what is held.
func (b *Inbox) Close() { b.budget.close() }

// Earlier is the first of two times, of which zero is never.
func Earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
