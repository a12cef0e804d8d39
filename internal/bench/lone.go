package bench

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// Lone messages: how long one takes from its writer to a reader that follows.

// frameRest is what a frame has beside a lone message and its envelope, about: raw messages are as long as frames.
const frameRest = crypto.FrameOverhead + 16

// A Way leads lone messages from a writer to a reader, over one connection by TCP.
type Way struct {
	send, receive func() error
	end           func()
}

// Once sends a message and waits until the reader has it.
func (w *Way) Once() error {
	if err := w.send(); err != nil {
		return err
	}
	return w.receive()
}

// End ends the writer and the reader.
func (w *Way) End() { w.end() }

// frame is a message of raw NATS that is as long as the frame of a room's message.
func frame(body []byte) []byte { return append(slices.Clone(body), make([]byte, frameRest)...) }

// next waits for the next message.
func next(ctx context.Context, sub *nats.Subscription) func() error {
	return func() error { _, err := sub.NextMsgWithContext(ctx); return err }
}

// PeerWay leads where a room's messages go, between the accounts, with nothing of unibus at either end.
func (b *Bed) PeerWay(ctx context.Context) (*Way, error) {
	room, err := b.Room(ctx, "bench.peer", unibus.DefaultPolicy())
	if err != nil {
		return nil, err
	}
	conn, err := b.dialFor(b.id, room.ID())
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn.NATS())
	if err != nil {
		conn.Close()
		return nil, err
	}
	sub, err := conn.NATS().SubscribeSync(bus.LiveFilter(room.ID()))
	if err == nil {
		err = conn.NATS().Flush()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	body := frame(b.body)
	return &Way{
		send:    func() error { _, err := js.PublishAsync(bus.StoredSubject(room.ID(), b.id.Key()), body); return err },
		receive: next(ctx, sub),
		end:     conn.Close,
	}, nil
}

// Way leads through a room that was just made, from a publisher to a subscription.
func (b *Bed) Way(ctx context.Context, room *unibus.Room) (*Way, error) {
	p, err := room.Publisher(ctx)
	if err != nil {
		return nil, err
	}
	sub, err := room.Subscribe(ctx, unibus.SubscribeOptions{})
	if err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	next, stop := iter.Pull2(sub.Messages())
	return &Way{
		send: func() error { return p.Publish(b.body) },
		receive: func() error {
			_, err, more := next()
			if err == nil && !more {
				err = unibus.ErrClosed
			}
			return err
		},
		end: func() {
			stop()
			_ = p.Close(ctx) // every message came
		},
	}, nil
}

// Percentile is that of times, which are sorted.
func Percentile(times []time.Duration, percent int) time.Duration {
	return times[len(times)*percent/100]
}
