package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

const (
	ackWait       = 2 * time.Second // for the acknowledgement of one frame, before it is sent again
	liveBuffer    = 64 << 20        // bytes a live subscription holds for a slow reader
	storedBuffer  = 8 << 20         // bytes a stored subscription asks for in advance
	consumerGrace = 30 * time.Second
)

// Ack is the outcome of one publication, to come.
type Ack struct {
	future jetstream.PubAckFuture
	err    error
}

// Wait returns when the stream has stored the frame, or the failure is known; nil for a live room
// as soon as the frame was handed to the connection.
func (a Ack) Wait(ctx context.Context) error {
	if a.future == nil {
		return a.err
	}
	select {
	case <-a.future.Ok():
		return nil
	case err := <-a.future.Err():
		return failure(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Publish sends a frame. The id makes a repetition in a stored room harmless.
func (c *Conn) Publish(room crypto.ID, stored bool, id string, frame []byte) Ack {
	subject := RoomSubject(room, c.id.Key())
	if !stored {
		return Ack{err: failure(c.nc.Publish(subject, frame))}
	}
	m := nats.NewMsg(subject)
	m.Header.Set(nats.MsgIdHdr, id)
	m.Data = frame
	future, err := c.js.PublishMsgAsync(m)
	return Ack{future, failure(err)}
}

// Flush waits until the server has taken everything published.
func (c *Conn) Flush(ctx context.Context) error { return c.flush(ctx) }

// Frame is one received message of a room. Nothing in it is verified.
type Frame struct {
	Sender string // as the subject says
	Data   []byte
	Seq    uint64 // its place in the stream; 0 in a live room
	Last   bool   // nothing more was stored when it was sent
}

// Frames yields a room's frames one by one.
type Frames interface {
	// Next waits for a frame.
	Next(ctx context.Context) (Frame, error)
	Close()
}

// Live subscribes to a room as frames come; what a slow reader has no room for is lost. It stands
// when Live returns.
func (c *Conn) Live(ctx context.Context, room crypto.ID, queue string) (Frames, error) {
	sub, err := c.nc.QueueSubscribeSync(roomFilter(room), queue)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", failure(err))
	}
	if err := sub.SetPendingLimits(-1, liveBuffer); err != nil {
		return nil, err
	}
	if err := c.flush(ctx); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return &live{c, sub}, nil
}

type live struct {
	c   *Conn
	sub *nats.Subscription
}

// Next waits for a frame; one that was lost, to a reader too slow, shows as a gap.
func (l *live) Next(ctx context.Context) (Frame, error) {
	for {
		m, err := l.sub.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, nats.ErrSlowConsumer): // lost frames show as gaps
			continue
		case err != nil && l.c.ended(err) != nil:
			return Frame{}, l.c.Err()
		case err != nil:
			return Frame{}, err
		}
		return Frame{Sender: senderOf(m.Subject), Data: m.Data, Last: true}, nil
	}
}

// Close ends the subscription.
func (l *live) Close() { _ = l.sub.Unsubscribe() } // the connection may be gone, which serves as well

// Start says where in a stored room to begin: at the first frame, at the first stored at a time or
// later, or, with both unset, after the last.
type Start struct {
	First bool
	Time  time.Time
}

// Position finds the stream sequence to begin at, and how many frames are stored from there on.
func (c *Conn) Position(ctx context.Context, room crypto.ID, at Start) (from, pending uint64, err error) {
	cfg := jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverNewPolicy,
		InactiveThreshold: time.Second, MemoryStorage: true, Replicas: 1,
	}
	switch {
	case at.First:
		cfg.DeliverPolicy = jetstream.DeliverAllPolicy
	case !at.Time.IsZero():
		cfg.DeliverPolicy, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, &at.Time
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	consumer, err := c.js.CreateConsumer(ctx, StreamName(room), cfg)
	if err != nil {
		return 0, 0, fmt.Errorf("look into the room's stream: %w", failure(err))
	}
	info := consumer.CachedInfo()
	return info.Delivered.Stream + 1, info.NumPending, nil
}

// Stored reads a room's stream from a sequence on, and follows it, across reconnections.
func (c *Conn) Stored(ctx context.Context, room crypto.ID, from uint64) (Frames, error) {
	consumer, err := c.js.OrderedConsumer(ctx, StreamName(room), jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1),
		InactiveThreshold: consumerGrace,
	})
	if err != nil {
		return nil, fmt.Errorf("read the room's stream: %w", failure(err))
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(1000, storedBuffer))
	if err != nil {
		return nil, fmt.Errorf("read the room's stream: %w", failure(err))
	}
	s := &stored{c: c, messages: messages, frames: make(chan Frame, 4), closed: make(chan struct{})}
	if !c.running.Go(s.pump, s.stop) {
		messages.Stop()
		return nil, fmt.Errorf("read the room's stream: %w", failure(nats.ErrConnectionClosed))
	}
	return s, nil
}

// stored reads ahead in a goroutine of its own: the library's Next can be busy with the server for
// longer than its caller cares to wait.
type stored struct {
	c        *Conn
	messages jetstream.MessagesContext
	frames   chan Frame
	failed   error // set before frames is closed
	closed   chan struct{}
	once     sync.Once
}

func (s *stored) pump() {
	defer close(s.frames)
	for {
		m, err := s.messages.Next()
		if err != nil {
			if s.failed = s.c.ended(err); s.failed == nil {
				s.failed = fmt.Errorf("read the room's stream: %w", failure(err))
			}
			return
		}
		meta, err := m.Metadata()
		if err != nil {
			s.failed = fmt.Errorf("read the room's stream: %w: %v", store.ErrUnavailable, err)
			return
		}
		f := Frame{Sender: senderOf(m.Subject()), Data: m.Data(), Seq: meta.Sequence.Stream, Last: meta.NumPending == 0}
		select {
		case s.frames <- f:
		case <-s.closed:
			return
		}
	}
}

// Next waits for a frame that was read ahead.
func (s *stored) Next(ctx context.Context) (Frame, error) {
	select {
	case f, ok := <-s.frames:
		if !ok {
			return f, s.failed
		}
		return f, nil
	case <-ctx.Done():
		return Frame{}, ctx.Err()
	}
}

// Close lets the reading end, and does not wait for it.
func (s *stored) Close() {
	s.once.Do(func() { close(s.closed) })
}

// stop ends the library's side, once this one or the connection has ended. In a goroutine of its own
// too: it waits for what the library is busy with, as Next does.
func (s *stored) stop() {
	select {
	case <-s.closed:
	case <-s.c.life.Done():
	}
	s.messages.Stop()
}
