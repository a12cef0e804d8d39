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

// This file is what becomes of frames: an Ack for one that goes out, and a Feed of those that come in, over one link of a
// Conn. What a Feed misses is read from the past, which no peer does by itself: see Past.

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

// Feed is a subscription to a room's frames as they come, across reconnections. What a slow reader has no
// room for is lost, as is what comes while the connection is broken.
type Feed struct {
	life *life // of the Conn
	link *link
	sub  *nats.Subscription
	room crypto.ID
}

// Stored says of what kind a room is, for a Feed.
type Stored bool

// Standing waits until the connection stands. The context it returns ends when that breaks: what comes then
// may be lost.
func (f *Feed) Standing(ctx context.Context) (context.Context, error) {
	for {
		s := f.link.current()
		if s.ctx.Err() == nil {
			return s.ctx, nil
		}
		if err := f.life.next(ctx, s); err != nil {
			return nil, err
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
		case err != nil:
			return store.Frame{}, cmp.Or(f.ended(err), failure(err))
		}
		return f.frame(m), nil
	}
}

// ended is why the connection has ended for good, given an error of the library: one that says that it is closed comes a
// moment before the reason is known. It is nil if it has not, or was closed on purpose.
func (f *Feed) ended(err error) error {
	closed := errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrBadSubscription)
	if closed && f.link.nc.IsClosed() {
		<-f.life.Done()
	}
	return f.life.Err()
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
