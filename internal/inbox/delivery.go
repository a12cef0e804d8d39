package inbox

import (
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// delivery moves streams on: over the next frame, whose messages it gives out, over frames that waited for that, and over
// what is missing.
type delivery struct {
	shared  bool // others read a part of the frames: counters say nothing
	limit   int  // bytes of a message
	deliver func(Message)
	tell    teller
	streams *streams
	gaps    *gaps
	budget  *budget
}

// advance delivers the next frame of a stream.
func (d *delivery) advance(s *stream, f Frame) {
	why := ""
	if !d.shared {
		why = s.astray(f)
	}
	s.pass(f)
	more := f.Header.Flags&crypto.FlagMore != 0
	if why != "" || f.Refused {
		if why != "" {
			d.tell.replayed(s, f, why)
		}
		d.giveUp(s, "a part of it was refused")
		s.pieces.dropping, s.unsure = more, false
		return
	}
	s.last = markOf(f)
	if f.Header.Flags&crypto.FlagFinal != 0 {
		s.final = true
		d.streams.end(s)
	}
	index := 0
	for r, last := range f.Content.Records() {
		d.record(s, &piece{f, r, index, last && more, index == 0 && s.unsure})
		index++
	}
	s.unsure = false
}

// record takes one record: a message, or a piece of one.
func (d *delivery) record(s *stream, p *piece) {
	a := &s.pieces
	switch {
	case a.dropping:
		if a.skip(p) {
			d.budget.missed()
		}
		return
	case a.partial == nil && !p.more:
		d.hand(p.Frame, p.message())
		return
	case a.partial == nil:
		a.begin(p)
	}
	if a.partial.size+len(p.Body) > d.limit {
		d.tell.of(s.key, Notice{
			Kind: Dropped, From: a.partial.Counter, To: p.Header.Counter, Place: p.Place,
			Why: fmt.Sprintf("a message of more than %d bytes", d.limit),
		})
		a.drop(p)
		d.budget.settle(s)
		return
	}
	a.add(p)
	if p.more {
		d.budget.settle(s)
		return
	}
	m := a.whole(p.Frame)
	d.budget.settle(s)
	d.hand(p.Frame, m)
}

// hand gives out a message of a frame that is read for its messages.
func (d *delivery) hand(f Frame, m Message) {
	if !f.Context {
		d.deliver(m)
	}
}

// giveUp drops a message that will not be whole.
func (d *delivery) giveUp(s *stream, why string) {
	p := s.pieces.partial
	if p == nil {
		return
	}
	d.tell.of(s.key, Notice{Kind: Dropped, From: p.Counter, To: s.next, Why: "a message that is not whole: " + why})
	s.pieces.partial = nil
	d.budget.settle(s)
}

// drain advances over the frames held that are next.
func (d *delivery) drain(s *stream) {
	for f, next := s.take(); next; f, next = s.take() {
		d.budget.settle(s)
		d.advance(s, f)
	}
}

// skip gives up on what is missing before the first frame held, and goes on there.
func (d *delivery) skip(s *stream, now time.Time) {
	f := s.ahead[0]
	d.gaps.missing(s, f, now)
	if s.pieces.partial != nil { // what goes on behind a gap is no message
		d.giveUp(s, "a part of it is missing")
		s.pieces.dropRest()
	}
	s.jump(f.Header.Counter)
	d.drain(s)
}
