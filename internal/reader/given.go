package reader

import (
	"context"
	"sync"
)

// Limits of what is given to the receiver of a subscription ahead of it. A message that is larger is given alone.
const (
	maxGiven   = 16       // batches
	givenBytes = 16 << 20 // about their size in memory
)

// A reading is ahead of its receiver by a bounded number of batches and of bytes: feeds give batches to it, waiting while
// the receiver has enough, and Messages gives back their weight once it has yielded them.

// batch are messages on their way to the receiver.
type batch struct {
	messages []Message
	size     int   // about, in bytes of memory
	weight   int64 // of the subscription's given, until they have been received
	caughtUp bool  // there are none: what was stored when the reading began has been given
}

// large reports whether messages take so much memory that they count among what is unfinished.
func (b *batch) large() bool { return b.size > 2*batchBytes }

// give hands messages to the receiver, when what it was given before leaves room for them. Large ones have been
// received when it returns.
func (s *Reading) give(ctx context.Context, b batch) error {
	b.weight = int64(min(max(b.size, 1), givenBytes))
	if err := s.given.Acquire(ctx, b.weight); err != nil {
		return err
	}
	select {
	case s.out <- b:
	case <-ctx.Done():
		s.given.Release(b.weight)
		return ctx.Err()
	}
	if !b.large() {
		return nil
	}
	if err := s.given.Acquire(ctx, givenBytes); err != nil {
		return err
	}
	s.given.Release(givenBytes)
	return nil
}

// received takes note that the receiver has what it was given.
func (s *Reading) received(b batch) {
	s.given.Release(b.weight)
	if b.large() {
		s.held.Add(-int64(b.size))
	}
}

// pastEnd tells the receiver, once, that it has been given all that was stored when the reading began.
type pastEnd struct{ once sync.Once }

// tell is called by each feed when that is so, and before it gives what came later.
func (e *pastEnd) tell(s *Reading) {
	if s.o.CaughtUp == nil || s.o.End {
		return
	}
	e.once.Do(func() {
		select {
		case s.out <- batch{caughtUp: true}:
		case <-s.ctx.Done():
		}
	})
}

// yield gives the receiver a batch, message by message; false when it wants no more.
func (s *Reading) yield(b batch, yield func(Message, error) bool) bool {
	defer s.received(b)
	if b.caughtUp {
		s.o.CaughtUp()
	}
	for _, m := range b.messages {
		if !yield(m, nil) {
			return false
		}
	}
	return true
}
