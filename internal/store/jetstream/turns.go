package jetstream

import (
	"context"
	"sync"

	"github.com/unibus/unibus/internal/crypto"
)

// This file has those of one process who write the views of a log do so one after the other: whoever finds them behind
// while an entry of hundreds of members is being applied waits for that, rather than write the same beside it.

// turns are the logs whose views are being written. The zero value is ready.
type turns struct {
	mu   sync.Mutex
	held map[crypto.ID]chan struct{} // closed when it is over
}

// take waits until nobody else in the process writes the views of a log, or until ctx ends. Call done when they are written.
func (t *turns) take(ctx context.Context, log crypto.ID) (done func(), err error) {
	for {
		over := t.begin(log)
		if over == nil {
			return func() { t.end(log) }, nil
		}
		select {
		case <-over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// begin takes the turn if it is free; else it returns what is closed when it is.
func (t *turns) begin(log crypto.ID) (over chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if over, ok := t.held[log]; ok {
		return over
	}
	if t.held == nil {
		t.held = map[crypto.ID]chan struct{}{}
	}
	t.held[log] = make(chan struct{})
	return nil
}

// end gives the turn back.
func (t *turns) end(log crypto.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.held[log])
	delete(t.held, log)
}
