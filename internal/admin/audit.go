package admin

import (
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/patience"
)

// This file says what is wrong with the frames of an export, as a reader of the room would, but with no server, no identity
// and no key: roomAudit judges each frame of a room by the room's log (ledger.JudgeClosed), and has its streams and
// places followed by an inbox (SPEC.md §6, Streams and Places). Of an encrypted room the signatures, the times of sealing and
// what writers say of their other streams are inside what is encrypted. What these would excuse is a finding here: a member's
// verify knows better.

// Kinds of findings beside those of the inbox, by the names that readers give them.
const (
	kindForged   inbox.Kind = "forged"
	kindRefused  inbox.Kind = "refused"
	kindFork     inbox.Kind = "fork"
	kindWithheld inbox.Kind = "withheld"
	kindGone     inbox.Kind = "gone"
)

// Told is something that is to be known of the frames of a room in an export.
type Told struct {
	inbox.Notice
	Room *ledger.State
	Name string // the sender's on the allowlist, in the end; the key of whoever has none there
}

// CheckedFrames is what was found of the frames of a room, in numbers.
type CheckedFrames struct {
	First, Last uint64 // the places that the room had, as the server said; in an empty room First is behind Last
	Frames      uint64 // that are there
	Sealed      uint64 // of them, those whose signature nobody can check without the room's key
	Senders     uint64 // who sent those that fit the log
	Findings    uint64
	Untold      uint64 // notices that were too many to be told one by one
}

// kindReordered is of a frame that is stored behind one that its writer made later: it was sent again, or two were exchanged.
const kindReordered inbox.Kind = "reordered"

// maxTold is how many notices of a room are told one by one: whoever forges an archive could have any number of them.
const maxTold = 200

// roomAudit checks the frames of one room, in the order of their places. It holds no frame: of streams that are not in
// order it holds as much as a reader does (inbox.Budget, inbox.MaxStreams).
type roomAudit struct {
	CheckedFrames
	bus     *ledger.Bus // what people are called
	state   *ledger.State
	tell    func(Told)
	told    int // notices so far
	places  places
	in      *inbox.Inbox
	seed    maphash.Seed
	made    time.Time // when the export was made, by its manifest
	senders map[crypto.PublicKey]bool
	next    uint64              // the place that comes next
	highest map[streamOf]uint64 // the highest counter of each stream so far
	oldest  uint64              // when the first frame was stored that is there, in Unix µs
	anew    anewness
}

// anewness is where a room that an owner had begin anew stands: what is left of before that need not fit its log.
type anewness struct {
	met  bool // a frame was read that is of after that
	last bool // the last one that was read is of before it
}

// streamOf is one sender's stream.
type streamOf struct {
	sender crypto.PublicKey
	stream [16]byte
}

// newRoomAudit begins with a room's log, and that of its bus; made is when the export was, which what has expired by then is told by.
func newRoomAudit(bus *ledger.Bus, s *ledger.State, made time.Time, tell func(Told)) *roomAudit {
	a := &roomAudit{bus: bus, state: s, tell: tell, seed: maphash.MakeSeed(), made: made, senders: map[crypto.PublicKey]bool{}, highest: map[streamOf]uint64{}}
	o := inbox.Options{Stored: true, Start: true, From: 1, Limit: crypto.MaxFrame, Patience: patience.Gap}
	a.in = inbox.New(o, auditFacts{s}, func(inbox.Message) {}, a.notice)
	return a
}

// notice counts what is told, and tells it unless there is too much of it.
func (a *roomAudit) notice(n inbox.Notice) {
	if n.Finding {
		a.Findings++
	}
	if n.Kind == inbox.Gap && a.state.Room.Policy.Encrypted() {
		n.Why += ", unless its writer says, where only members can read it, that it was never stored"
	}
	if a.told++; a.told > maxTold {
		a.Untold++
		return
	}
	name := n.Sender.String()
	if u := a.bus.User(n.Sender); u != nil {
		name = u.Name
	}
	a.tell(Told{n, a.state, name})
}

// reaches takes note of the places that the room has. Where it was trimmed while it was read, that is no hole.
func (a *roomAudit) reaches(p *places) {
	a.places = *p
	if a.First == 0 {
		a.First, a.Last = p.first, p.last
	}
	inbox.Skipped(a.in, a.next, p.first)
	a.next = max(a.next, p.first)
	a.in.Reached(p.first)
}

// take checks the next frame.
func (a *roomAudit) take(f *storedFrame) {
	a.Frames++
	if f.Seq > a.next {
		a.hole(a.next, f.Seq-1, "missing, with messages before and after it there")
	}
	a.next = f.Seq + 1
	if a.Frames == 1 {
		a.oldest = microsOf(f.Time)
	}
	if f.Sender == (crypto.PublicKey{}) {
		a.forged(f, errors.New("its subject names no sender"))
		return
	}
	v, err := ledger.JudgeClosed(a.state, f.Data, f.Sender)
	if err != nil {
		a.refuse(f, v, err)
		return
	}
	a.accept(f, v)
}

// accept gives a frame that may be authentic to the inbox, also one that its sender was not allowed: it belongs to its stream.
func (a *roomAudit) accept(f *storedFrame, v *ledger.Verdict) {
	r := a.state.Room
	a.anew.last = v.Header.At < r.Anew
	a.anew.met = a.anew.met || r.Anew > 1 && !a.anew.last
	a.senders[f.Sender] = true
	a.Senders = uint64(len(a.senders))
	// Messages are nobody's to read here: of the content only what tells of streams is kept. When an encrypted frame was sealed
	// nobody knows here. Frames may be stored out of their order, so that only one time for all of them goes back nowhere; with
	// the oldest the inbox may take what is missing right behind the room's first places for expired.
	c := crypto.Content{Time: v.Content.Time, Follows: v.Content.Follows}
	if r.Policy.Encrypted() {
		a.Sealed++
		c.Time = a.oldest
	}
	h := v.Header
	h.Flags &^= crypto.FlagMore
	if v.Refused != nil {
		a.frame(inbox.Notice{Kind: kindRefused, Finding: true}, f, h, v.Refused)
	}
	a.order(f, h)
	a.in.Take(inbox.Frame{
		Sender: f.Sender, Header: h, Content: c, Size: len(f.Data), Sum: maphash.Bytes(a.seed, f.Data),
		Place: f.Seq, Stored: f.Time, Former: v.Former, Refused: v.Refused != nil,
	}, a.made)
}

// order tells of a frame that is stored behind one that its writer made later. That is no finding, for a frame that got no
// answer is sent again; but places are nobody's to sign, and who relies on the order of an export is to know.
func (a *roomAudit) order(f *storedFrame, h crypto.Header) {
	s := streamOf{f.Sender, h.Stream}
	if before, met := a.highest[s]; met && h.Counter < before {
		a.frame(inbox.Notice{Kind: kindReordered}, f, h, fmt.Errorf("stored behind frame %d of its stream: sent again by its writer, or exchanged by somebody", before))
		return
	}
	if len(a.highest) >= inbox.MaxStreams {
		clear(a.highest)
	}
	a.highest[s] = h.Counter
}

// refuse deals with a frame that is not authentic, or that names a log that is not this one.
func (a *roomAudit) refuse(f *storedFrame, v *ledger.Verdict, why error) {
	h, _ := crypto.ParseHeader(f.Data) // as far as it goes: it is for telling people
	bygone := a.bygone(f.Time)
	if v != nil && v.Content.Time > 0 {
		bygone = crypto.Micros(v.Content.Time).Before(a.state.Room.AnewTime)
	}
	switch {
	case v != nil && bygone:
		a.frame(inbox.Notice{Kind: kindRefused}, f, h, errors.New("it is of before the room began anew, and of a log that was given up"))
	case errors.Is(why, ledger.ErrForkProven), errors.Is(why, ledger.ErrForkClaimed):
		a.frame(inbox.Notice{Kind: kindFork, Finding: true}, f, h, why)
	case errors.Is(why, ledger.ErrWithheld), errors.Is(why, ledger.ErrAhead):
		a.frame(inbox.Notice{Kind: kindWithheld, Finding: a.state.Room.Known(f.Sender) && !bygone}, f, h, why)
	default:
		a.forged(f, why)
	}
}

// forged tells of a frame that does not authenticate. That is a finding, also under the subject of a stranger, where it is none
// to a reader: servers store nothing of strangers, so that somebody has put it there in the place of another.
func (a *roomAudit) forged(f *storedFrame, why error) {
	h, _ := crypto.ParseHeader(f.Data)
	a.in.Damaged(f.Sender, f.Seq, f.Seq)
	a.frame(inbox.Notice{Kind: kindForged, Finding: !a.bygone(f.Time)}, f, h, why)
}

// bygone reports whether a frame that does not fit the log may be of before the room began anew, as the server says.
func (a *roomAudit) bygone(stored time.Time) bool {
	return !a.anew.met && stored.Before(a.state.Room.AnewTime)
}

// frame tells of a frame.
func (a *roomAudit) frame(n inbox.Notice, f *storedFrame, h crypto.Header, why error) {
	a.notice(n.About(f.Sender, h, f.Seq, why))
}

// hole tells of places that hold nothing.
func (a *roomAudit) hole(from, to uint64, why string) {
	a.in.Damaged(crypto.PublicKey{}, from, to)
	n := inbox.Notice{Kind: inbox.Lost, Finding: !a.anew.last, From: from, To: to, Why: why}
	if a.anew.last {
		n.Why += ", behind what is of before the room began anew"
	}
	a.notice(n)
}

// finish says what is missing, for good, and returns what was found.
func (a *roomAudit) finish() CheckedFrames {
	if a.next <= a.places.last {
		a.hole(a.next, a.places.last, "missing, at the end of what is there")
	}
	a.in.Finish(a.made.Add(2 * patience.Gap)) // nothing is on its way any more
	a.in.Close()
	return a.CheckedFrames
}

// gone is what was found of a room that stores messages, in a file that has those of rooms, and nothing of this one's.
func (a *roomAudit) gone() CheckedFrames {
	a.First = 1
	a.notice(inbox.Notice{Kind: kindGone, Finding: true, Why: "the file has messages of rooms, and nothing of this one's, which stores them"})
	a.in.Close()
	return a.CheckedFrames
}

// auditFacts answers from a room's log what the inbox has to know, to somebody to whom no key is owed and who needs none: no
// frame of any epoch may be missing.
type auditFacts struct{ *ledger.State }

// OwesAt is true: frames are looked at from outside.
func (auditFacts) OwesAt(uint64) bool { return true }

// Owes is true, for the same reason.
func (auditFacts) Owes(uint32) bool { return true }

// StoredSince reports whether all messages made at an entry or since were to be stored.
func (f auditFacts) StoredSince(at uint64) bool { return f.Room.StoredSince(at, f.Head.Seq) }

// Kept says what was kept of messages that were made at an entry.
func (f auditFacts) Kept(since uint64) ledger.Kept { return f.Room.Kept(since) }

// Archived reports whether the room was archived.
func (f auditFacts) Archived() bool { return f.Room.Archived != 0 }

// Created is when the room was made, as its first entry claims.
func (f auditFacts) Created() time.Time { return f.Room.EpochAt(1).Time }

// Began is the entry with which what the room stores begins, and its time.
func (f auditFacts) Began() (at uint64, when time.Time) {
	if at, when = f.Room.Anew, f.Room.AnewTime; when.IsZero() {
		when = f.Room.EpochAt(at).Time
	}
	return at, when
}

// Joined is the entry by which somebody first became a member, and when that was at the earliest.
func (f auditFacts) Joined(sender crypto.PublicKey) (at uint64, when time.Time) {
	return f.Room.Joined(sender)
}
