package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
)

// Many messages, into rooms and out of them, and the same with raw NATS.

// Side does a thing again and again, and asks before each time whether there is to be more. It returns when all that it did
// is done: sent is sent, and stored is acknowledged.
type Side func(ctx context.Context, more func() bool) error

// UpTo is a more that allows n.
func UpTo(n int) (more func() bool) {
	return func() bool { n--; return n >= 0 }
}

// stallWait is how long raw NATS waits for acknowledgements when as many are missing as may be.
const stallWait = time.Minute

// RawEach has each message acknowledged before the next one goes.
func (b *Bed) RawEach(ctx context.Context, more func() bool) error {
	for more() {
		if _, err := b.js.Publish(ctx, storedSubject, b.body); err != nil {
			return err
		}
	}
	return nil
}

// RawStored has many messages under way at once.
func (b *Bed) RawStored(ctx context.Context, more func() bool) error {
	return b.rawAsync(ctx, storedSubject, b.body, more)
}

// rawAsync publishes on a subject of a stream.
func (b *Bed) rawAsync(ctx context.Context, subject string, body []byte, more func() bool) error {
	for more() {
		if _, err := b.js.PublishAsync(subject, body, jetstream.WithStallWait(stallWait)); err != nil {
			return err
		}
	}
	return b.acknowledged(ctx)
}

// RawLive publishes what nobody stores.
func (b *Bed) RawLive(_ context.Context, more func() bool) error {
	nc := b.raw.NATS()
	for more() {
		if err := nc.Publish(liveSubject, b.body); err != nil {
			return err
		}
	}
	return nc.Flush()
}

// Room makes a room to publish in.
func (b *Bed) Room(ctx context.Context, subject string, p unibus.Policy) (*unibus.Room, error) {
	return b.c.CreateRoom(ctx, subject, p)
}

// Each has each message in a room acknowledged before the next one goes.
func (b *Bed) Each(room *unibus.Room) Side {
	return func(ctx context.Context, more func() bool) error {
		for more() {
			if err := room.Publish(ctx, b.body); err != nil {
				return err
			}
		}
		return nil
	}
}

// Stream publishes in a room as unibus pub does: many messages to a frame, and many frames under way.
func (b *Bed) Stream(room *unibus.Room) Side {
	return func(ctx context.Context, more func() bool) error {
		p, err := room.Publisher(ctx)
		if err != nil {
			return err
		}
		for more() {
			if err := p.Publish(b.body); err != nil {
				return err
			}
		}
		return p.Close(ctx)
	}
}

// ReadAll reads a room from its first message to its last; it fails when there are not as many as were sent.
func (b *Bed) ReadAll(room *unibus.Room, sent int) Side {
	return func(ctx context.Context, more func() bool) error {
		s, err := room.Subscribe(ctx, unibus.SubscribeOptions{All: true, End: true})
		if err != nil {
			return err
		}
		defer s.Close()
		got := 0
		for _, err := range s.Messages() {
			if err != nil {
				return err
			}
			if !more() {
				return nil
			}
			got++
		}
		if got != sent {
			return fmt.Errorf("read %d messages of %d", got, sent)
		}
		return nil
	}
}

// rawFill makes a stream and publishes in it. What it has need not be on the disk when it is acknowledged: it is there to
// be read.
func (b *Bed) rawFill(ctx context.Context, more func() bool) error {
	_, err := b.js.CreateStream(ctx, jetstream.StreamConfig{Name: filledStream, Subjects: []string{filledSubject}, PersistMode: jetstream.AsyncPersistMode})
	if err != nil {
		return err
	}
	return b.rawAsync(ctx, filledSubject, b.body, more)
}

// rawReadAll reads that stream with an ordered consumer, up to its last message.
func (b *Bed) rawReadAll(sent int) Side {
	return func(ctx context.Context, more func() bool) error {
		c, err := b.js.OrderedConsumer(ctx, filledStream, jetstream.OrderedConsumerConfig{})
		if err != nil {
			return err
		}
		messages, err := c.Messages()
		if err != nil {
			return err
		}
		defer messages.Stop()
		for got := 0; got < sent && more(); got++ {
			if _, err := messages.Next(jetstream.NextContext(ctx)); err != nil {
				return err
			}
		}
		return nil
	}
}
