package reader

import (
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/store"
)

// Of a member who floods a room with what does not authenticate so many frames are told one by one; the others are
// counted, and told together every so often. Of further senders, whom only a server can invent, all are told together.
const (
	forgedEach    = 16
	forgedEvery   = 10 * time.Second
	forgedSenders = 256
)

// forgedBySender counts the frames under one sender's subject that do not authenticate.
type forgedBySender struct {
	each  int // told one by one
	more  uint64
	first uint64 // of those that are not told yet, and the last
	last  uint64
}

// forgedFrames counts the frames of a room that do not authenticate. Of each sender the first are told of as they come; the
// others are only counted, and tellForged tells of them together.
type forgedFrames struct {
	of    map[crypto.PublicKey]*forgedBySender
	since time.Time // when the first was counted of those that are not told yet
}

// onlyCounts counts a frame, and reports whether it is to be told of together with others, not by itself.
func (p *forgedFrames) onlyCounts(frame store.Frame) bool {
	if p.of == nil {
		p.of = map[crypto.PublicKey]*forgedBySender{}
	}
	sender := frame.Sender
	if p.of[sender] == nil && len(p.of) >= forgedSenders {
		sender = crypto.PublicKey{}
	}
	r := p.of[sender]
	if r == nil {
		r = &forgedBySender{}
		p.of[sender] = r
	}
	if r.each < forgedEach {
		r.each++
		return false
	}
	if r.more == 0 {
		r.first = frame.Seq
	}
	r.more, r.last = r.more+1, frame.Seq
	if p.since.IsZero() {
		p.since = time.Now()
	}
	return true
}

// due is when what was counted is to be told; zero for nothing.
func (p *forgedFrames) due() time.Time {
	if p.since.IsZero() {
		return time.Time{}
	}
	return p.since.Add(forgedEvery)
}

// tellForged tells of what was counted.
func (j *judging) tellForged() {
	for sender, r := range j.forgedFrames.of {
		if r.more == 0 {
			continue
		}
		n := inbox.Notice{Kind: Forged, Sender: sender, From: 1, To: r.more, Why: "that do not authenticate either, dropped; " + anybodys}
		if j.f.stored {
			n.Finding, n.Place = true, r.last
			n.Why = fmt.Sprintf("that do not authenticate either, from message %d of the room's stream to message %d; dropped", r.first, r.last)
		}
		j.f.tell(n)
		r.more = 0
	}
	j.forgedFrames.since = time.Time{}
}

// anybodys says who may be behind what does not authenticate in a room that stores nothing: a server sends its answer to
// a message of whoever may connect to whichever subject that names for it.
const anybodys = "anyone who may connect can have brought that about"

// forged tells of a frame that does not authenticate. Under the subject of someone who is or was a member, its
// writer, the server or a damaged disk made it so in a stored room; to the readers of others the servers take
// rubbish from anyone.
func (j *judging) forged(frame store.Frame, why error) {
	h, _ := crypto.ParseHeader(frame.Data)
	j.f.in.Damaged(frame.Sender, frame.Seq, frame.Seq)
	finding := j.f.stored && j.f.facts.Known(frame.Sender) && !j.bygone(frame)
	if (finding || !j.f.stored) && frame.Seq >= j.f.from && j.forgedFrames.onlyCounts(frame) {
		return
	}
	if !j.f.stored {
		why = fmt.Errorf("%w; %s", why, anybodys)
	}
	j.note(inbox.Notice{Kind: Forged, Finding: finding}, frame, h, why)
}
