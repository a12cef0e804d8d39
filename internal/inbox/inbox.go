// Package inbox puts the authentic frames of one room in order, joins the messages that came in pieces, and says
// what is missing, repeated or out of place (SPEC.md §6, Streams). It does no I/O and knows no clock: frames and
// the time are given to it, messages and notices come out.
//
// It is given frames that opened and verified, and no others: nothing else can move a counter, take a limit, or be
// a reason for anything said here.
package inbox

import (
	"bytes"
	"cmp"
	"container/list"
	"fmt"
	"slices"
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
	Size    int    // bytes it takes
	Sum     uint64 // to tell it from another frame
	Place   uint64 // in the room's stream; 0 in a room that stores nothing
	Former  bool   // its sender may no longer write
	Late    bool   // it came as new, but was sealed long before
	Refused bool   // nothing of it may be delivered, but it takes its counter
	Context bool   // it is only read to know what comes after it
}

// Message is a whole message. Its body may be a part of a frame's content; one that came in pieces has its body in them.
type Message struct {
	Sender  crypto.PublicKey
	Time    uint64 // when the frame that it begins in was sealed, in Unix µs
	Epoch   uint32
	Stream  [16]byte
	Counter uint64 // of the frame it begins in
	Place   uint64 // of the frame it ends in
	Headers []crypto.Field
	Body    []byte
	Parts   [][]byte
	Former  bool
	Late    bool
	Unsure  bool // the frame before its first was not read: it may have begun there
}

// Kind says what a Notice is about.
type Kind string

// Kinds of notices.
const (
	Gap            Kind = "gap"            // frames of a stream are missing
	Missing        Kind = "missing"        // frames whose writer says that they were stored
	Expired        Kind = "expired"        // missing, but old enough, or behind enough others, to have expired
	Unreadable     Kind = "unreadable"     // missing, of epochs whose key the reader was never owed
	Unstored       Kind = "unstored"       // missing, of a time when the room stored nothing
	Unacknowledged Kind = "unacknowledged" // missing, and their writer says that it never knew them stored
	Replayed       Kind = "replayed"       // a stream repeats itself with other content, goes back, or goes on after its end
	Dropped        Kind = "dropped"        // a message that is too large, or was given up for others
	Open           Kind = "open"           // a message is not whole yet
	Lost           Kind = "lost"           // From and To are places of the room's stream, before what the server says comes first
)

// Notice tells of the frames From to To of a stream. A Finding breaks a promise of the protocol.
type Notice struct {
	Kind     Kind
	Finding  bool
	Sender   crypto.PublicKey
	Stream   [16]byte
	From, To uint64
	Place    uint64 // of the frame that it is about; 0 for none
	By       uint64 // of the frame that tells of it, if that is another; else 0
	Why      string
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
	Shared   bool          // others read a part of the frames: counters say nothing
	Limit    int           // bytes of a message
	Patience time.Duration // how long a frame waits for one before it
	Used     *atomic.Int64 // of the Budget, by all inboxes that share it
	Shed     *atomic.Int64 // messages given up for the Budget that came to be whole after that
}

// Inbox is the state of reading one room. It is not safe for concurrent use.
type Inbox struct {
	o       Options
	log     Log
	deliver func(Message)
	notice  func(Notice)

	streams map[key]*stream
	open    *list.List // of *stream, those not ended, longest unheard first
	ended   *list.List // of *stream, the others, longest unheard first
	waiting *list.List // of *stream, those that hold something, the first to have begun to first
	forgot  bool       // a stream was forgotten
	gaps    []gap      // to be judged when what is stored has been read to its end
	records []record   // likewise
	damage  []damage   // the last
	claims  map[key]uint64
	first   uint64 // the first place that the server said there is
	began   bool   // it was judged
	read    meter
	held    uint64 // bytes that the room was found to hold, from its first place on
}

// key is one sender's stream.
type key struct {
	sender crypto.PublicKey
	stream [16]byte
}

// New makes an inbox, which calls deliver and notice from within its methods.
func New(o Options, log Log, deliver func(Message), notice func(Notice)) *Inbox {
	if o.Used == nil {
		o.Used = new(atomic.Int64)
	}
	if o.Shed == nil {
		o.Shed = new(atomic.Int64)
	}
	return &Inbox{
		o: o, log: log, deliver: deliver, notice: notice, streams: map[key]*stream{},
		open: list.New(), ended: list.New(), waiting: list.New(), claims: map[key]uint64{},
	}
}

// Knows reports whether a stream has been met. Of one that has not, and of which something was stored before reading
// began, the last of that may be taken first. When streams were forgotten it may have been met: then it is known.
func (b *Inbox) Knows(sender crypto.PublicKey, id [16]byte) bool {
	return b.forgot || b.streams[key{sender, id}] != nil
}

// Take reads a frame. In a stored room frames come in the order of their places.
func (b *Inbox) Take(f Frame, now time.Time) {
	s := b.streams[key{f.Sender, f.Header.Stream}]
	if s == nil {
		s = b.meet(f, now)
	}
	s.in.MoveToBack(s.heard)
	if b.o.Stored {
		b.read.add(f.Place, f.Size+overhead)
		if !f.Refused {
			b.follow(f, now)
		}
	}
	switch counter := f.Header.Counter; {
	case b.o.Shared, counter == s.next:
		b.advance(s, f)
		b.drain(s)
	case counter < s.next:
		b.repeated(s, f)
	default:
		b.hold(s, f, now)
	}
	for b.o.Used.Load() > Budget && b.shed(now) {
	}
}

// meet begins to follow a stream.
func (b *Inbox) meet(f Frame, now time.Time) *stream {
	if len(b.streams) >= MaxStreams {
		b.forget(now)
	}
	s := &stream{key: key{f.Sender, f.Header.Stream}, in: b.open}
	s.heard = b.open.PushBack(s)
	b.streams[s.key] = s
	if n := b.claims[s.key]; n > 0 {
		s.miss(0, n-1)
	}
	if !b.o.Start || !b.o.Stored { // joined in the middle
		s.first, s.next, s.unsure = f.Header.Counter, f.Header.Counter, f.Header.Counter > 0
	}
	return s
}

// forget makes room for another stream. One that has ended is missed by nobody.
func (b *Inbox) forget(now time.Time) {
	e := b.ended.Front()
	if e == nil {
		e = b.open.Front()
	}
	b.forgot = true
	s := e.Value.(*stream)
	for len(s.ahead) > 0 {
		b.skip(s, now)
	}
	b.giveUp(s, "its writer has begun very many other streams since")
	s.in.Remove(s.heard)
	delete(b.streams, s.key)
}

// repeated looks at a frame under a counter that was passed. Nothing of it is delivered: a stream never goes back.
func (b *Inbox) repeated(s *stream, f Frame) {
	back := s.next - f.Header.Counter
	b.belated(s, f)
	if back <= uint64(len(s.sums)) && s.sums[uint64(len(s.sums))-back] != f.Sum {
		b.replayed(s, f, "two different frames under one counter; the second was dropped")
	}
}

// hold keeps a frame that is ahead of its stream.
func (b *Inbox) hold(s *stream, f Frame, now time.Time) {
	i, found := slices.BinarySearchFunc(s.ahead, f.Header.Counter, func(h held, counter uint64) int {
		return cmp.Compare(h.Header.Counter, counter)
	})
	if found {
		if s.ahead[i].Sum != f.Sum {
			b.replayed(s, f, "two different frames under one counter; the second was dropped")
		}
		return
	}
	ripe := now.Add(b.o.Patience)
	if b.damaged(s, f.Place) { // that is what is missing: it is not on its way
		ripe = now
	}
	if sealed := time.UnixMicro(int64(min(f.Content.Time, 1<<62))).Add(b.o.Patience); b.o.Stored && sealed.Before(ripe) {
		ripe = sealed
	}
	s.ahead = slices.Insert(s.ahead, i, held{f, ripe})
	b.holds(s, f.Size+aheadCost)
	if len(s.ahead) > maxAhead {
		b.skip(s, now)
	}
}

// skip gives up on what is missing before the first frame held, and goes on there.
func (b *Inbox) skip(s *stream, now time.Time) {
	f := s.ahead[0]
	b.missing(s, f, now)
	if s.partial != nil { // what goes on behind a gap is no message
		b.giveUp(s, "a part of it is missing")
		s.dropping = true
	}
	s.sums, s.unsure = nil, true
	s.next = f.Header.Counter
	b.drain(s)
}

// drain advances over the frames held that are next.
func (b *Inbox) drain(s *stream) {
	for len(s.ahead) > 0 && s.ahead[0].Header.Counter == s.next {
		f := s.ahead[0].Frame
		s.ahead = slices.Delete(s.ahead, 0, 1)
		b.holds(s, -f.Size-aheadCost)
		b.advance(s, f)
	}
}

// Due gives up on gaps that have waited long enough, and says when to look again; zero for never. In a stored room
// it is only to be called when what is stored has been read to its end, as told.
func (b *Inbox) Due(now time.Time) (again time.Time) {
	var next *list.Element
	for e := b.waiting.Front(); e != nil; e = next {
		next = e.Next()
		s := e.Value.(*stream)
		for len(s.ahead) > 0 && !s.ahead[0].ripe.After(now) {
			b.skip(s, now)
		}
		if len(s.ahead) > 0 {
			again = Earlier(again, s.ahead[0].ripe)
		}
	}
	b.beginning(now)
	return Earlier(again, b.judgeAll(now))
}

// Release delivers what waits for frames before it, which are judged by Due when it is time.
func (b *Inbox) Release(now time.Time) {
	var next *list.Element
	for e := b.waiting.Front(); e != nil; e = next {
		next = e.Next()
		for s := e.Value.(*stream); len(s.ahead) > 0; {
			b.skip(s, now)
		}
	}
}

// Finish waits for nothing any more, and tells of the messages that are not whole. What is missing of frames that
// came so late that their writer may still be sending it again is no finding.
func (b *Inbox) Finish(now time.Time) {
	b.Release(now)
	for e := b.waiting.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*stream); s.partial != nil {
			b.note(s, Notice{
				Kind: Open, From: s.partial.Counter, To: s.next,
				Why: "a message is not whole yet: the rest is still to come or is withheld",
			})
		}
	}
	b.judgeRecords(now)
	for _, g := range b.gaps {
		if g.ripe.After(now) {
			b.note(g.s, Notice{Kind: Gap, From: g.from, To: g.to, Place: g.right.place, Why: "not there yet when reading ended, as frames after it were"})
			continue
		}
		b.judge(g, now)
	}
	b.gaps = nil
	b.beginning(now)
}

// Reached takes note of the first place that the server says is there.
func (b *Inbox) Reached(first uint64) { b.first = max(b.first, first) }

// damage are places of the room's stream that hold nothing, or nothing authentic of their sender's; of anybody's
// if that is zero.
type damage struct {
	sender   crypto.PublicKey
	from, to uint64
}

// Damaged takes note of places that hold nothing, or that hold what is not authentic under the subject of a
// sender; zero for anybody's.
func (b *Inbox) Damaged(sender crypto.PublicKey, from, to uint64) {
	if len(b.damage) == maxDamage {
		b.damage = slices.Delete(b.damage, 0, maxDamage/2)
	}
	b.damage = append(b.damage, damage{sender, from, to})
}

// damaged reports whether something of a stream may have been damaged between its last frame and a place.
func (b *Inbox) damaged(s *stream, before uint64) bool {
	return slices.ContainsFunc(b.damage, func(d damage) bool {
		return (d.sender == s.key.sender || d.sender == crypto.PublicKey{}) && d.to > s.last.place && d.from < before
	})
}

// SetStored goes on in a room that has begun, with the frame at a place, or has ceased to store its messages.
func (b *Inbox) SetStored(stored bool, from uint64) {
	b.o.Stored, b.o.Start, b.o.From = stored, false, from
}

// advance delivers the next frame of a stream.
func (b *Inbox) advance(s *stream, f Frame) {
	why := ""
	if !b.o.Shared {
		why = s.astray(f)
	}
	s.pass(f)
	more := f.Header.Flags&crypto.FlagMore != 0
	if why != "" || f.Refused {
		if why != "" {
			b.replayed(s, f, why)
		}
		b.giveUp(s, "a part of it was refused")
		s.dropping, s.unsure = more, false
		return
	}
	s.last = markOf(f)
	if f.Header.Flags&crypto.FlagFinal != 0 {
		b.end(s)
	}
	first := true
	for r, last := range f.Content.Records() {
		b.record(s, f, r, last && more, first)
		first = false
	}
	s.unsure = false
}

// end takes note that a stream has ended.
func (b *Inbox) end(s *stream) {
	b.open.Remove(s.heard)
	s.final, s.in, s.heard = true, b.ended, b.ended.PushBack(s)
}

// record takes one record: a message, or a piece of one.
func (b *Inbox) record(s *stream, f Frame, r crypto.Record, more, first bool) {
	switch {
	case s.dropping:
		if !more && s.shed {
			b.o.Shed.Add(1)
		}
		s.dropping, s.shed = more, more && s.shed
		return
	case s.partial == nil && !more:
		m := message(f, r, first && s.unsure)
		b.hand(f, m)
		return
	case s.partial == nil:
		s.partial = &unfinished{Message: message(f, crypto.Record{Headers: r.Headers}, first && s.unsure)}
		b.keeps(s, headersCost(r.Headers))
	}
	p := s.partial
	if p.size+len(r.Body) > b.o.Limit {
		b.note(s, Notice{
			Kind: Dropped, From: p.Counter, To: f.Header.Counter, Place: f.Place,
			Why: fmt.Sprintf("a message of more than %d bytes", b.o.Limit),
		})
		s.partial, s.dropping = nil, more
		b.holds(s, -p.cost)
		return
	}
	piece := r.Body
	if len(piece) < f.Size-f.Size/8 { // it would keep its whole frame
		piece = bytes.Clone(piece)
	}
	p.pieces = append(p.pieces, piece)
	p.size += len(piece)
	b.keeps(s, pieceCost+len(piece))
	if more {
		return
	}
	s.partial = nil
	b.holds(s, -p.cost)
	p.Body, p.Parts, p.Place = nil, p.pieces, f.Place
	b.hand(f, p.Message)
}

func message(f Frame, r crypto.Record, unsure bool) Message {
	return Message{
		Sender: f.Sender, Time: f.Content.Time, Epoch: f.Header.Epoch, Stream: f.Header.Stream, Counter: f.Header.Counter,
		Place: f.Place, Headers: r.Headers, Body: r.Body, Former: f.Former, Late: f.Late, Unsure: unsure,
	}
}

func (b *Inbox) hand(f Frame, m Message) {
	if !f.Context {
		b.deliver(m)
	}
}

// giveUp drops a message that will not be whole.
func (b *Inbox) giveUp(s *stream, why string) {
	if s.partial == nil {
		return
	}
	b.note(s, Notice{Kind: Dropped, From: s.partial.Counter, To: s.next, Why: "a message that is not whole: " + why})
	cost := s.partial.cost
	s.partial = nil
	b.holds(s, -cost)
}

// What is kept of an unfinished message or of a frame ahead costs, beside its bytes, in memory.
const (
	aheadCost  = 256
	headerCost = 64
	pieceCost  = 64
)

func headersCost(headers []crypto.Field) (cost int) {
	for _, h := range headers {
		cost += headerCost + len(h.Key) + len(h.Value)
	}
	return cost
}

// keeps accounts for bytes that the unfinished message of a stream takes.
func (b *Inbox) keeps(s *stream, bytes int) {
	s.partial.cost += bytes
	b.holds(s, bytes)
}

// shed frees what has been held longest; false when nothing is.
func (b *Inbox) shed(now time.Time) bool {
	e := b.waiting.Front()
	if e == nil {
		return false
	}
	if s := e.Value.(*stream); s.partial != nil {
		b.giveUp(s, "too much is unfinished")
		s.dropping, s.shed = true, true
	} else {
		b.skip(s, now)
	}
	return true
}

// holds accounts for bytes that a stream, as it is now, holds or no longer holds.
func (b *Inbox) holds(s *stream, bytes int) {
	b.o.Used.Add(int64(bytes))
	s.held += bytes
	switch holds := len(s.ahead) > 0 || s.partial != nil; {
	case holds && s.waits == nil:
		s.waits = b.waiting.PushBack(s)
	case !holds && s.waits != nil:
		b.waiting.Remove(s.waits)
		s.waits = nil
	}
}

func (b *Inbox) replayed(s *stream, f Frame, why string) {
	b.note(s, Notice{Kind: Replayed, Finding: true, From: f.Header.Counter, To: f.Header.Counter, Place: f.Place, Why: why})
}

func (b *Inbox) note(s *stream, n Notice) {
	n.Sender, n.Stream = s.key.sender, s.key.stream
	b.notice(n)
}

// Close lets go of what is held.
func (b *Inbox) Close() {
	for e := b.waiting.Front(); e != nil; e = e.Next() {
		b.o.Used.Add(-int64(e.Value.(*stream).held))
	}
	b.waiting.Init()
}
