package chat

import (
	"context"
	"errors"
	"sync"

	"github.com/unibus/unibus"
)

// maxUnsent is how many messages of one's own may wait to be acknowledged in a room.
const maxUnsent = 64

// errUnsent refuses one more.
var errUnsent = errors.New("the messages before it are not stored yet")

// roomWriter sends what is written in a room, one message after the other.
type roomWriter struct {
	room   *unibus.Room
	queue  chan letter
	ended  chan struct{} // closed when nothing is sent any more
	tell   func(sent)
	ctx    context.Context // of sending, which outlives the screen
	cancel context.CancelFunc

	mu     sync.Mutex
	given  int    // messages
	counts Result // of this room
}

// letter is a message on its way.
type letter struct {
	number int
	text   string
}

// send has a message sent after those before it. errUnsent when these are too many.
func (f *feed) send(r *unibus.Room, number int, text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.writers[r.ID()]
	if w == nil {
		w = &roomWriter{room: r, queue: make(chan letter, maxUnsent), ended: make(chan struct{}), tell: func(s sent) { f.tell(s) }}
		w.ctx, w.cancel = context.WithCancel(context.WithoutCancel(f.reading))
		f.writers[r.ID()] = w
		go w.run()
	}
	select {
	case w.queue <- letter{number, text}:
		w.note(func(*Result) { w.given++ })
		return nil
	default:
		return errUnsent
	}
}

// unsent is how many messages are on their way.
func (f *feed) unsent() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.writers {
		w.note(func(r *Result) { n += w.given - r.Sent - r.Unsent })
	}
	return n
}

// run sends until the queue is closed.
func (w *roomWriter) run() {
	defer close(w.ended)
	var p *unibus.Publisher
	for l := range w.queue {
		var err error
		if p, err = w.deliver(p, l); err != nil {
			// What a stream did not deliver may be stored or not; the next message begins another.
			p = nil
			w.note(func(r *Result) { r.Unsent++; r.Abandoned = err })
			w.tell(sent{room: w.room.ID(), number: l.number, state: failed, err: err})
			continue
		}
		w.note(func(r *Result) { r.Sent++ })
		w.tell(sent{room: w.room.ID(), number: l.number, stream: p.Stream(), state: stored, live: !p.Stored()}) // which it may have become meanwhile
	}
	if p != nil {
		_ = p.Close(w.ctx) // everything is acknowledged; what is missing is only that the stream has ended
	}
}

// deliver sends one message and waits for its acknowledgement, with a publisher, or a new one if there is none.
func (w *roomWriter) deliver(p *unibus.Publisher, l letter) (*unibus.Publisher, error) {
	if p == nil {
		var err error
		if p, err = w.room.Publisher(w.ctx); err != nil {
			return nil, err
		}
	}
	// Told before it can come back.
	w.tell(sent{room: w.room.ID(), number: l.number, stream: p.Stream(), state: waiting})
	if err := p.Publish([]byte(l.text)); err != nil {
		return nil, err
	}
	w.tell(sent{room: w.room.ID(), number: l.number, stream: p.Stream(), state: sealed})
	return p, p.Flush(w.ctx)
}

// note counts.
func (w *roomWriter) note(change func(*Result)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.counts)
}

// close waits until everything is sent, or for ctx, and adds to a result.
func (w *roomWriter) close(ctx context.Context, r *Result) {
	close(w.queue)
	select {
	case <-w.ended:
	case <-ctx.Done():
		w.cancel()
		<-w.ended
	}
	w.cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	r.Sent += w.counts.Sent
	r.Unsent += w.counts.Unsent
	if w.counts.Abandoned != nil {
		r.Abandoned = w.counts.Abandoned
	}
}
