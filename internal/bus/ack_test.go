package bus

import (
	"errors"
	"math"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/store"
)

// answered is a publication that was answered.
type answered struct {
	jetstream.PubAckFuture
	ok chan *jetstream.PubAck
}

func (a answered) Ok() <-chan *jetstream.PubAck { return a.ok }
func (a answered) Err() <-chan error            { return nil }

// TestAckOfAnotherStream: that another stream stored a frame, as one of the operator's that takes the same subjects, does not
// say that the room's did.
func TestAckOfAnotherStream(t *testing.T) {
	for stream, kind := range map[string]error{"s": nil, "theirs": store.ErrUnavailable, "": store.ErrUnavailable} {
		ok := make(chan *jetstream.PubAck, 1)
		ok <- &jetstream.PubAck{Stream: stream, Sequence: 7}
		if got, err := (Ack{answered{ok: ok}, "s", nil}).Wait(t.Context()); !errors.Is(err, kind) || (got == 7) != (kind == nil) {
			t.Errorf("by %q: place %d, %v", stream, got, err)
		}
	}
}

// TestAckOfNoPlace: an acknowledgement that names no place where a frame can be is none. A writer that took it for one
// could not tell readers later what was stored.
func TestAckOfNoPlace(t *testing.T) {
	for _, place := range []uint64{0, 1 << 53, math.MaxUint64} {
		ok := make(chan *jetstream.PubAck, 1)
		ok <- &jetstream.PubAck{Stream: "s", Sequence: place}
		if got, err := (Ack{answered{ok: ok}, "s", nil}).Wait(t.Context()); !errors.Is(err, store.ErrUnavailable) || got != 0 {
			t.Errorf("place %d: %d, %v", place, got, err)
		}
	}
}
