package inbox

import (
	"bytes"

	"github.com/unibus/unibus/internal/crypto"
)

// piece is a record of a frame: a message, or a part of one.
type piece struct {
	Frame
	crypto.Record
	index  int  // in its frame, from 0
	more   bool // its message goes on in the next frame
	unsure bool // it may have begun in the frame before, which was not read
}

// message is the message that a piece is, or begins.
func (p *piece) message() Message {
	f := &p.Frame
	return Message{
		Sender: f.Sender, Time: f.Content.Time, Epoch: f.Header.Epoch, Stream: f.Header.Stream, Counter: f.Header.Counter, Index: p.index,
		Place: f.Place, Stored: f.Stored, Headers: p.Headers, Body: p.Body, Former: f.Former, Late: f.Late, Unsure: p.unsure,
	}
}

// assembly joins the pieces of a stream's messages, of which one at most is not whole. A message that is given up is
// dropped to its end.
type assembly struct {
	partial  *unfinished // nil for none
	dropping bool        // the rest of a message that was given up comes next
	shed     bool        // because too much was unfinished
}

// unfinished is a message whose rest is to come.
type unfinished struct {
	Message
	pieces [][]byte
	size   int // of its body so far
	cost   int // of all that is kept of it, in bytes of memory
}

// What is kept of an unfinished message costs, beside its bytes, in memory.
const (
	headerCost = 64
	pieceCost  = 64
)

// begin begins a message.
func (a *assembly) begin(p *piece) {
	u := &unfinished{Message: p.message()}
	u.Body = nil
	for _, h := range p.Headers {
		u.cost += headerCost + len(h.Key) + len(h.Value)
	}
	a.partial = u
}

// add adds a piece to the message that has begun.
func (a *assembly) add(p *piece) {
	body := p.Body
	if len(body) < p.Size-p.Size/8 { // it would keep its whole frame
		body = bytes.Clone(body)
	}
	u := a.partial
	u.pieces = append(u.pieces, body)
	u.size += len(body)
	u.cost += pieceCost + len(body)
}

// whole is the message, which ended with a frame.
func (a *assembly) whole(end Frame) Message {
	m := a.partial.Message
	m.Parts, m.Place, m.Stored = a.partial.pieces, end.Place, end.Stored
	a.partial = nil
	return m
}

// drop lets go of the message that has begun with the last of its pieces so far, p: if there are more, they are dropped
// as they come.
func (a *assembly) drop(p *piece) { a.partial, a.dropping = nil, p.more }

// dropRest has the rest of a message that was given up, if it comes, dropped as well.
func (a *assembly) dropRest() { a.dropping = true }

// shedRest does the same of one that was given up for others.
func (a *assembly) shedRest() { a.dropping, a.shed = true, true }

// skip drops a piece of a message that was given up. It reports whether the message would have been whole with it, which
// was given up for others.
func (a *assembly) skip(p *piece) (missed bool) {
	missed = !p.more && a.shed
	a.dropping, a.shed = p.more, p.more && a.shed
	return missed
}

// cost is what is kept of it, in bytes of memory.
func (a *assembly) cost() int {
	if a.partial == nil {
		return 0
	}
	return a.partial.cost
}
