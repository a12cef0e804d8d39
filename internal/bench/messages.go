package bench

import (
	"context"
	"fmt"

	"github.com/unibus/unibus"
)

// Many messages, into rooms and out of them.

// Side does a thing again and again, and asks before each time whether there is to be more. It returns when all that it did
// is done: sent is sent, and stored is acknowledged.
type Side func(ctx context.Context, more func() bool) error

// UpTo is a more that allows n.
func UpTo(n int) (more func() bool) {
	return func() bool { n--; return n >= 0 }
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
