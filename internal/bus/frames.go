package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/direct"
	"github.com/unibus/unibus/internal/store"
)

const (
	ackWait      = 2 * time.Second // for the acknowledgement of one frame, before it is sent again
	liveBuffer   = 64 << 20        // bytes a subscription to a live room holds for a slow reader
	liveFrames   = 16 << 10        // frames, of either: 8 bytes each are taken beforehand, for each room
	storedBuffer = 4 << 20         // and one to a stored room: what it has no room for is read from the past
)

// Ack is the outcome of one publication, to come.
type Ack struct {
	future jetstream.PubAckFuture
	stream string
	err    error
}

// ErrDuplicate says that a stream knows a frame's id already, and has not stored this frame.
var ErrDuplicate = fmt.Errorf("%w: the stream has seen this id before", store.ErrConflict)

// Wait returns the frame's place when the stream has stored it, or when the failure is known; 0 for a live room
// as soon as the frame was handed to the connection. ErrDuplicate, with a place, for one that the stream took for
// a repetition of what is there: whether it is, whoever sent it knows.
func (a Ack) Wait(ctx context.Context) (place uint64, err error) {
	if a.future == nil {
		return 0, a.err
	}
	select {
	case ack := <-a.future.Ok():
		switch {
		case ack.Stream != a.stream:
			return 0, fmt.Errorf("%w: acknowledged by the stream %q", store.ErrUnavailable, ack.Stream)
		case ack.Sequence == 0, ack.Sequence > crypto.MaxNumber: // of a place that there is not, nobody could be told later
			return 0, fmt.Errorf("%w: acknowledged at place %d", store.ErrUnavailable, ack.Sequence)
		case ack.Duplicate:
			return ack.Sequence, ErrDuplicate
		}
		return ack.Sequence, nil
	case err := <-a.future.Err():
		return 0, failure(err)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Publish sends a frame to a room that stores nothing.
func (c *Conn) Publish(room crypto.ID, frame []byte) Ack {
	return Ack{err: failure(c.of(room).nc.Publish(LiveSubject(room, c.o.Identity.Key()), frame))}
}

// Store sends a frame to a stored room. The id makes a repetition harmless.
func (c *Conn) Store(room crypto.ID, id string, frame []byte) Ack {
	m := nats.NewMsg(StoredSubject(room, c.o.Identity.Key()))
	m.Header.Set(nats.MsgIdHdr, id)
	m.Data = frame
	future, err := c.of(room).js.PublishMsgAsync(m)
	return Ack{future, StreamName(room), failure(err)}
}

// Flush waits until the server has taken everything published in a room.
func (c *Conn) Flush(ctx context.Context, room crypto.ID) error { return c.flush(ctx, c.of(room)) }

// Feed is a subscription to a room's frames as they come, across reconnections. What a slow reader has no
// room for is lost, as is what comes while the connection is broken.
type Feed struct {
	c    *Conn
	l    *link
	sub  *nats.Subscription
	room crypto.ID
}

// Stored says of what kind a room is, for a Feed.
type Stored bool

// Subscribe subscribes to a room, or shares what comes with others who name the same queue. It stands
// when Subscribe returns.
func (c *Conn) Subscribe(ctx context.Context, room crypto.ID, stored Stored, queue string) (*Feed, error) {
	l := c.of(room)
	sub, err := l.nc.QueueSubscribeSync(LiveFilter(room), queue)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", failure(err))
	}
	buffer := liveBuffer
	if stored {
		buffer = storedBuffer
	}
	if err := sub.SetPendingLimits(-1, buffer); err != nil {
		return nil, err
	}
	if err := c.flush(ctx, l); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return &Feed{c, l, sub, room}, nil
}

// Standing waits until the connection stands. The context it returns ends when that breaks: what comes then
// may be lost.
func (f *Feed) Standing(ctx context.Context) (context.Context, error) {
	for {
		s := f.l.current()
		if s.ctx.Err() == nil {
			return s.ctx, nil
		}
		select {
		case <-s.back:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.c.life.Done():
			return nil, cmp.Or(f.c.Err(), failure(nats.ErrConnectionClosed))
		}
	}
}

// Next waits for a frame. Seq and Time are set only if the frame is one that the room's stream has
// stored, as the server says; the sender zero if its subject names none.
func (f *Feed) Next(ctx context.Context) (store.Frame, error) {
	for {
		m, err := f.sub.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, nats.ErrSlowConsumer): // what is lost shows as a gap, and stored frames are read from the past
			continue
		case err != nil && ctx.Err() != nil:
			return store.Frame{}, ctx.Err()
		case err != nil && f.c.ended(err) != nil:
			return store.Frame{}, f.c.Err()
		case err != nil:
			return store.Frame{}, failure(err)
		}
		return f.frame(m), nil
	}
}

// frame reads a message. A writer chooses the headers of what it stores: of each the last value alone is
// the server's (SPEC.md §6).
func (f *Feed) frame(m *nats.Msg) store.Frame {
	frame := store.Frame{Sender: senderOf(m.Subject), Data: m.Data}
	if direct.Last(m, "Nats-Stream") != StreamName(f.room) || direct.Last(m, "Nats-Subject") != StoredSubject(f.room, frame.Sender) {
		return frame
	}
	stored, err := time.Parse(time.RFC3339Nano, direct.Last(m, "Nats-Time-Stamp"))
	if err == nil {
		frame.Seq, frame.Time = direct.Seq(m), stored
	}
	return frame
}

// Close ends the subscription.
func (f *Feed) Close() { _ = f.sub.Unsubscribe() } // the connection may be gone, which serves as well
