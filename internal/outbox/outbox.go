// Package outbox packs messages into the contents of frames: those that are waiting go together, a message that no
// frame holds goes in pieces, and sizes are padded where a room says so (SPEC.md §6). It does no I/O and knows no
// clock: when a frame is sent, sealed and acknowledged is package writer's.
//
// A writer Adds messages, or the first piece of one with AddPiece, Takes the content of a frame, and, once it knows the
// time and what it has stored before, Finishes it.
package outbox

import (
	"encoding/binary"
	"slices"

	"github.com/unibus/unibus/internal/crypto"
)

const (
	// Target is how many bytes of content a frame takes of what is waiting. One message may have more.
	Target = 256 << 10

	// timeSpace is how many bytes stand before the records for the time at which the frame is sealed, a u64.
	timeSpace = 8
)

// Outbox holds the messages that wait for the next frame. It is not safe for concurrent use.
type Outbox struct {
	limit      int // of a frame's content, in bytes
	pad        bool
	maxRecords int    // messages in a frame; 0 for no limit
	waiting    []byte // the content of the next frame, with space for its time
	records    int    // in it
}

// MinLimit is how many bytes a frame's content must be able to have (Limit) for frames to be worth sending.
const MinLimit = 64

// New makes an outbox for sealed frames of at most limit bytes; with pad their contents are padded.
func New(limit int, pad bool) *Outbox {
	if pad {
		limit = limit / 9 * 8 // padding adds up to an eighth
	}
	o := &Outbox{limit: limit - crypto.FrameOverhead, pad: pad}
	o.reset(0)
	return o
}

// Limit is how many bytes a frame's content may have, without padding.
func (o *Outbox) Limit() int { return o.limit }

// SetMost says how many messages a frame takes at most; 0 for as many as fit.
func (o *Outbox) SetMost(messages int) { o.maxRecords = messages }

// MaxHeaders is how many bytes the headers of a message may take.
func (o *Outbox) MaxHeaders() int { return o.limit - timeSpace }

// Waiting is how many messages wait for the next frame.
func (o *Outbox) Waiting() int { return o.records }

// Fits reports whether one frame can hold a message whole. Of one that does not fit, AddPiece takes a piece at a time.
func (o *Outbox) Fits(headers []crypto.Field, body []byte) bool {
	return timeSpace+crypto.RecordSize(headers, len(body)) <= o.limit
}

// Takes reports whether a message that fits goes into the next frame, with those that wait for it.
func (o *Outbox) Takes(headers []crypto.Field, body []byte) bool {
	if o.maxRecords > 0 && o.records >= o.maxRecords {
		return false
	}
	return o.records == 0 || len(o.waiting)+crypto.RecordSize(headers, len(body)) <= min(Target, o.limit)
}

// Add lets a message wait for the next frame, which takes it.
func (o *Outbox) Add(headers []crypto.Field, body []byte) {
	o.waiting = crypto.AppendRecord(o.waiting, headers, body)
	o.records++
}

// AddPiece lets the first piece of a message that no frame holds wait for the next frame, in which nothing else
// is, and returns the rest of it; ok is false when not even its headers go into a frame.
func (o *Outbox) AddPiece(headers []crypto.Field, body []byte) (rest []byte, ok bool) {
	size := o.MaxHeaders() - crypto.RecordSize(headers, 0)
	if size <= 0 {
		return body, false
	}
	size = min(size, len(body))
	o.Add(headers, body[:size])
	return body[size:], true
}

// Take returns the content of the next frame, to be finished, and how many messages are in it.
func (o *Outbox) Take() (content []byte, messages int) {
	content, messages = o.waiting, o.records
	o.reset(cap(content))
	return content, messages
}

// reset begins a new content with nothing in it but the space for its time.
func (o *Outbox) reset(size int) {
	o.waiting = make([]byte, timeSpace, max(size, 4096))
	o.records = 0
}

// Finish completes a content that Take returned: when its frame is sealed, in Unix µs, and, with follows, what else
// its writer had stored before. Of that it tells as much as fits, and says how much: the frame carries
// crypto.FlagFollows if it is anything.
func (o *Outbox) Finish(content []byte, sealed uint64, follows []crypto.Follows) (finished []byte, told int) {
	binary.BigEndian.PutUint64(content, sealed)
	told = min(len(follows), crypto.MaxFollows, max(o.limit-len(content)-1, 0)/crypto.FollowsSize)
	if told > 0 {
		content = slices.Insert(content, timeSpace, crypto.AppendFollows(nil, follows[:told])...)
	}
	if o.pad {
		content = crypto.AppendPadding(content)
	}
	return content, told
}
