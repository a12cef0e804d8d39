package jetstream

import (
	"context"
	"sync"
)

// This file makes barriers, one at a time for each bucket, each for all reads that were waiting when it began.

// barrierKey is a key of each bucket that nothing is kept under.
const barrierKey = "_barrier"

// barrier makes reads of a bucket linearizable, as Raft's read index does. A write of the barrier's key is acknowledged
// by a quorum, at a place in the bucket's stream; whatever was acknowledged before stands before it. A replica that
// shows that place has all of that. Reads that come while a barrier is under way share the next one, so that however
// many wait, each waits for two at most.
type barrier struct {
	*conn
	writer *writer

	mu    sync.Mutex
	next  *round // not begun yet; nil: nobody waits
	going bool   // a task writes barriers
}

// round is one barrier and those who wait for it.
type round struct {
	done chan struct{} // closed when seq and err are set
	seq  uint64
	err  error
}

// index returns a place in the bucket that every write acknowledged before the call precedes, and
// that a quorum has agreed on.
func (b *barrier) index(ctx context.Context) (uint64, error) {
	r := b.join()
	if r == nil {
		return 0, errClosed
	}
	select {
	case <-r.done:
		return r.seq, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// join waits with others for the next round; nil when the store is closed.
func (b *barrier) join() *round {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		if !b.going && !b.tasks.Go(b.run) {
			return nil
		}
		b.next, b.going = &round{done: make(chan struct{})}, true
	}
	return b.next
}

// begin takes the round that is next; nil, and run is over, when nobody waits for one.
func (b *barrier) begin() *round {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.next
	b.next, b.going = nil, r != nil
	return r
}

// run writes barriers until nobody waits for one.
func (b *barrier) run() {
	for r := b.begin(); r != nil; r = b.begin() {
		ctx, cancel := b.op(b.ctx)
		r.seq, r.err = b.writer.put(ctx, barrierKey, nil, anyRevision)
		cancel()
		close(r.done)
	}
}
