package bus

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/redact"
)

// life is that of a Conn, from its first login until it has ended for good: by Close, or of what reason says. It ends
// when a connection is closed, which the library tells of (finish); whoever closes them first says why (because).
type life struct {
	ctx   context.Context // ends with it
	end   context.CancelFunc
	where string // the connections lead

	mu     sync.Mutex
	reason error // the first that was given
	closed bool  // by Close: what a connection met before is no reason
}

func newLife(where string) *life {
	l := &life{where: where}
	l.ctx, l.end = context.WithCancel(context.Background())
	return l
}

// because says why the life is about to end. The first reason stays.
func (l *life) because(reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason = cmp.Or(l.reason, reason)
}

// close says that the connections are about to be closed on purpose.
func (l *life) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// finish ends it, of the last error of a connection unless there is a reason already, or it is closed on purpose; nil for none.
func (l *life) finish(last error) {
	l.mu.Lock()
	if !l.closed {
		l.reason = cmp.Or(l.reason, last)
	}
	l.mu.Unlock()
	l.end()
}

// Done is closed when the connection has ended for good; Err then says why.
func (l *life) Done() <-chan struct{} { return l.ctx.Done() }

// Err says why the connection ended, ErrDenied if the bus lets this identity in no more; nil while it has not ended, or
// when Close ended it.
func (l *life) Err() error {
	if l.ctx.Err() == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == nil {
		return nil
	}
	return fmt.Errorf("connection to %s: %w", l.where, redact.Error(failure(l.reason)))
}

// next waits until another session stands than s. It returns the reason when the connection ends for good first, and
// ctx's error when that ends.
func (l *life) next(ctx context.Context, s *session) error {
	select {
	case <-s.next:
		return nil
	case <-l.ctx.Done():
		return cmp.Or(l.Err(), failure(nats.ErrConnectionClosed))
	case <-ctx.Done():
		return ctx.Err()
	}
}
