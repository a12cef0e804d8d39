package bench

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
)

// What is done without unibus: publishing, reading and following as any program does it that speaks NATS.

// The streams that raw NATS stores in, and what it publishes on. Everything sent to storedStream is on the disk when it is
// acknowledged, as it is in a room.
const (
	storedStream, storedSubject = "RAW", "raw.stored"
	filledStream, filledSubject = "FILLED", "raw.filled"
	liveSubject                 = "raw.live"
)

// mostPending is how many messages of raw NATS may be under way: enough for any disk, and few enough that what is left to
// be acknowledged when the time of a measurement is over takes little more.
const mostPending = 256

// stallWait is how long publishing waits for acknowledgements when as many are missing as may be.
const stallWait = time.Minute

// Raw is a connection by TCP with nothing of unibus at either end: it has a key that the server itself knows.
type Raw struct {
	conn    *bus.Conn
	js      jetstream.JetStream
	streams jetstream.StreamManager // over the service's own connection, which makes the streams of rooms, too
	body    []byte                  // of every message
	failed  atomic.Pointer[error]   // the first that was published and had no acknowledgement
}

// newRaw is over a connection, and makes the stream that is published in.
func newRaw(ctx context.Context, conn *bus.Conn, service *nats.Conn, body []byte) (*Raw, error) {
	streams, err := jetstream.New(service)
	if err != nil {
		return nil, err
	}
	r := &Raw{conn: conn, streams: streams, body: body}
	r.js, err = jetstream.New(conn.NATS(), jetstream.WithPublishAsyncMaxPending(mostPending), jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) {
		r.failed.CompareAndSwap(nil, &err)
	}))
	if err != nil {
		return nil, err
	}
	if _, err = r.streams.CreateStream(ctx, jetstream.StreamConfig{Name: storedStream, Subjects: []string{storedSubject}}); err != nil {
		return nil, err
	}
	return r, nil
}

// Each has each message acknowledged before the next one goes.
func (r *Raw) Each(ctx context.Context, more func() bool) error {
	for more() {
		if _, err := r.js.Publish(ctx, storedSubject, r.body); err != nil {
			return err
		}
	}
	return nil
}

// Stored has many messages under way at once.
func (r *Raw) Stored(ctx context.Context, more func() bool) error {
	return r.async(ctx, storedSubject, r.body, more)
}

// async publishes on a subject of a stream.
func (r *Raw) async(ctx context.Context, subject string, body []byte, more func() bool) error {
	for more() {
		if _, err := r.js.PublishAsync(subject, body, jetstream.WithStallWait(stallWait)); err != nil {
			return err
		}
	}
	return r.acknowledged(ctx)
}

// Live publishes what nobody stores.
func (r *Raw) Live(_ context.Context, more func() bool) error {
	nc := r.conn.NATS()
	for more() {
		if err := nc.Publish(liveSubject, r.body); err != nil {
			return err
		}
	}
	return nc.Flush()
}

// acknowledged waits until there is an acknowledgement for all that was published, and returns the first failure.
func (r *Raw) acknowledged(ctx context.Context) error {
	select {
	case <-r.js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	if failed := r.failed.Load(); failed != nil {
		return *failed
	}
	return nil
}

// fill makes a stream and publishes in it. What it has need not be on the disk when it is acknowledged: it is there to
// be read.
func (r *Raw) fill(ctx context.Context, more func() bool) error {
	_, err := r.streams.CreateStream(ctx, jetstream.StreamConfig{Name: filledStream, Subjects: []string{filledSubject}, PersistMode: jetstream.AsyncPersistMode})
	if err != nil {
		return err
	}
	return r.async(ctx, filledSubject, r.body, more)
}

// readAll reads that stream with an ordered consumer, up to its last message.
func (r *Raw) readAll(sent int) Side {
	return func(ctx context.Context, more func() bool) error {
		c, err := r.js.OrderedConsumer(ctx, filledStream, jetstream.OrderedConsumerConfig{})
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

// Way leads through a stream to an ordered consumer.
func (r *Raw) Way(ctx context.Context) (*Way, error) {
	c, err := r.js.OrderedConsumer(ctx, storedStream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return nil, err
	}
	messages, err := c.Messages()
	if err != nil {
		return nil, err
	}
	body := frame(r.body)
	return &Way{
		send:    func() error { _, err := r.js.PublishAsync(storedSubject, body); return err },
		receive: func() error { _, err := messages.Next(jetstream.NextContext(ctx)); return err },
		end:     messages.Stop,
	}, nil
}

// liveWay leads from one to the other, with nothing stored between them.
func (r *Raw) liveWay(ctx context.Context) (*Way, error) {
	nc, body := r.conn.NATS(), frame(r.body)
	sub, err := nc.SubscribeSync(liveSubject)
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		return nil, err
	}
	return &Way{
		send:    func() error { return nc.Publish(liveSubject, body) },
		receive: next(ctx, sub),
		end:     func() { _ = sub.Unsubscribe() }, // the connection goes soon
	}, nil
}
