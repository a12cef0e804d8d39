package reader

import (
	"context"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
)

const (
	batchSize  = 256      // messages handed to the receiver at once
	batchBytes = 1 << 20  // and about their size in memory
	backBytes  = 16 << 20 // beside the last N messages, while it is not known yet which these are
)

// output collects the messages that a feed's inbox gives, and hands them on in batches: to the merge of the past while
// that goes on, else to the receiver of the reading.
type output struct {
	f       *feed
	parts   chan part // what is read of the past, when that is merged; nil when it is not, or not any more
	merging bool      // it was released, and the merge may go on
	alone   bool      // it has no others to be merged with, and the past ends with it
	reached time.Time // when the last of what was handed to the merge was stored
	batch   []Message
	size    int              // of batch, about, in bytes of memory
	back    bool             // only the last N messages of batch are wanted
	made    uint64           // messages so far
	named   crypto.PublicKey // the sender of the last message, and its name
	name    string
}

// deliver takes a message that is whole.
func (o *output) deliver(m inbox.Message) {
	f := o.f
	o.made++
	if m.Sender != o.named || o.name == "" {
		o.named, o.name = m.Sender, f.r.NameOf(m.Sender)
	}
	if m.Sender != f.r.Key() { // one's own are counted when they are sent
		f.r.Used.Add(m.Epoch, 1)
	}
	next := Message{Message: m, Room: f.r.ID, Subject: f.subject, Name: o.name}
	size := next.cost()
	if size > batchBytes && !o.back {
		_ = o.flush() // it goes alone; a failure is met again
	}
	if next.Parts != nil && !f.o.Parts {
		next.Body, next.Parts = slices.Concat(next.Parts...), nil
	}
	o.batch = append(o.batch, next)
	o.size += size
	if o.back {
		if n := len(o.batch); n > 2*f.o.Last+batchSize || n > f.o.Last && o.size > backBytes {
			o.batch = slices.Delete(o.batch, 0, n-f.o.Last)
			o.size = 0 // of those that came since
		}
		return
	}
	if o.size >= batchBytes || len(o.batch) >= batchSize {
		_ = o.flush() // it fails when the feed is at its end, which is met again
	}
}

// flush hands what was read to the receiver.
func (o *output) flush() error { return o.give(o.f.ctx) }

func (o *output) give(ctx context.Context) error {
	for len(o.batch) > 0 {
		if err := o.giveNext(ctx); err != nil {
			return err
		}
	}
	return nil
}

// next is how much of the batch is handed on at once, and its size: all of it, unless it is merged, which puts messages of
// other rooms between any two that were not stored together.
func (o *output) next() (n, size int) {
	if o.parts == nil {
		return len(o.batch), o.size
	}
	if stored := o.batch[0].Stored; stored.After(o.reached) {
		o.reached = stored
	}
	for n < len(o.batch) && (n == 0 || !o.batch[n].Stored.After(o.reached)) {
		size += o.batch[n].cost()
		n++
	}
	return n, min(size, o.size) // the last N messages are not counted
}

// giveNext hands on what comes next of the batch.
func (o *output) giveNext(ctx context.Context) error {
	n, size := o.next()
	given := batch{messages: o.batch[:n:n], size: size}
	if given.large() {
		o.f.s.held.Add(int64(given.size))
	}
	var err error
	if o.parts == nil {
		err = o.f.s.give(ctx, given)
	} else {
		select {
		case o.parts <- part{o.reached, given, o.parts}:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil && given.large() {
		o.f.s.held.Add(-int64(given.size))
	}
	if err != nil && o.f.s.ctx.Err() == nil { // the room is being left: it is given then
		return err
	}
	if o.batch, o.size = o.batch[n:], o.size-size; len(o.batch) == 0 {
		o.batch = nil
	}
	return err
}

// release lets the merge of the past go on without this feed, or ends the past of a feed that is alone.
func (o *output) release() {
	if o.alone {
		o.alone = false
		o.f.s.endPast()
	}
	if o.parts != nil {
		close(o.parts)
		o.parts, o.merging = nil, true
	}
}

// awaitMerge waits for the end of the merge of the past: what comes next comes after all of that.
func (o *output) awaitMerge() {
	if !o.merging {
		return
	}
	o.merging = false
	select {
	case <-o.f.s.pastGiven:
	case <-o.f.ctx.Done():
	}
}
