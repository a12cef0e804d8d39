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
