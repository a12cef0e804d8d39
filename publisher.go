package unibus

import (
	"context"
	"fmt"
	"sync"

	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/writer"
)

// MaxMessage is the most bytes a message may have, headers included.
const MaxMessage = room.MaxMessage

// Publisher sends one stream of messages to a room, in order. Messages that are waiting go into
// one frame; a lone one goes at once. It is safe for concurrent use, and holds at most 19 frames.
type Publisher struct{ s *writer.Stream }

// Publisher begins a stream in the room. It fails with ErrDenied when this client may not write.
// A stale room is rekeyed first if the client may. Close ends it.
func (r *Room) Publisher(ctx context.Context) (*Publisher, error) {
	if r.c.writer == nil {
		return nil, remedy.With(fmt.Errorf("publish: %w: messages need a server", ErrInvalid), remedy.Remedy{Kind: remedy.UseServer})
	}
	s, err := r.c.writer.Begin(ctx, r.r)
	if err != nil {
		return nil, err
	}
	return &Publisher{s}, nil
}

// Stream names the stream, as its messages do. It may become another with a message, in a room that has begun or ceased to
// store messages, or when the clock was set back.
func (p *Publisher) Stream() StreamID { return StreamID(p.s.ID()) }

// Publish hands a message over; it is on its way when Publish returns, and waits only while the
// frames under way are as many as may be. Body and headers may be reused afterwards. An error of
// an earlier message is returned by every later call.
func (p *Publisher) Publish(body []byte, headers ...Header) error {
	return p.s.Publish(body, headers...)
}

// Flush waits until everything handed over so far is acknowledged.
func (p *Publisher) Flush(ctx context.Context) error { return p.s.Flush(ctx) }

// Close sends what waits, marks the stream as ended, and waits until everything is acknowledged or
// ctx ends. It returns the first error of the stream.
func (p *Publisher) Close(ctx context.Context) error { return p.s.Close(ctx) }

// Done is closed when the publisher can send no more: it failed, or was closed.
func (p *Publisher) Done() <-chan struct{} { return p.s.Done() }

// Stored reports whether the room has stored the message that was acknowledged last: a room may begin or cease to store
// messages while others are on their way.
func (p *Publisher) Stored() bool { return p.s.Stored() }

// Acked is how many messages the server has acknowledged so far, from the first on: after a failure, whoever goes on
// behind the first so many leaves none out, and may repeat some.
func (p *Publisher) Acked() uint64 { return p.s.Acked() }

// Publish sends one message on the client's lasting stream in the room and waits until it is
// acknowledged. For many messages, Publisher is much faster.
func (r *Room) Publish(ctx context.Context, body []byte, headers ...Header) error {
	p, err := r.lasting.get(ctx, r)
	if err != nil {
		return err
	}
	if err := p.Publish(body, headers...); err != nil {
		return err
	}
	return p.Flush(ctx)
}

// PublishOnce sends one message as a stream of its own, in a single frame if it fits, and waits
// until it is acknowledged: what a command that sends one message and ends needs.
func (r *Room) PublishOnce(ctx context.Context, body []byte, headers ...Header) error {
	p, err := r.Publisher(ctx)
	if err != nil {
		return err
	}
	return p.s.Once(ctx, body, headers...)
}

// lasting is the publisher behind Room.Publish, begun when it is first needed. The zero value is ready.
type lasting struct {
	mu sync.Mutex
	p  *Publisher // nil: none yet
}

// get returns the publisher, made anew after a failure.
func (l *lasting) get(ctx context.Context, r *Room) (*Publisher, error) {
	p := l.current()
	if p != nil && p.s.Usable() {
		return p, nil
	}
	fresh, err := r.Publisher(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.p != p { // someone else was quicker
		fresh.s.Discard()
		return l.p, nil
	}
	l.p = fresh
	return fresh, nil
}

// current is the publisher that there is.
func (l *lasting) current() *Publisher {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.p
}

// close closes the publisher, if there is one.
func (l *lasting) close(ctx context.Context) {
	if p := l.current(); p != nil {
		_ = p.Close(ctx) // what it sent was acknowledged to whoever sent it
	}
}
