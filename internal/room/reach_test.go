package room_test

import (
	"errors"
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/roomtest"
	"github.com/unibus/unibus/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOnePlaceEach: no two frames are stored at one place, and none before what was acknowledged when it was sent,
// though frames that were on their way together may come in any order.
func TestOnePlaceEach(t *testing.T) {
	w := roomtest.New(t)
	r := w.Room("places", ledger.DefaultPolicy())
	for name, c := range map[string]struct {
		sent, acked string // frames, and then the places at which they are acknowledged, in order
		wrong       int    // which of them is refused; 0: none
	}{
		"in order":                  {"1", "5", 0},
		"together, and out of it":   {"123", "576", 0},
		"one place for two":         {"12", "55", 2},
		"one place for two of many": {"123", "565", 3},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := r.Remember(w.Ctx)
			w.Must(err)
			flights := make([]room.Sent, len(c.sent))
			for i := range flights {
				flights[i].Mark = crypto.Follows{Stream: [16]byte{1}, Frames: uint64(i) + 1}
				w.Must(m.Sending(w.Ctx, &flights[i]))
			}
			for i, place := range c.acked {
				err := m.Acknowledged(w.Ctx, &flights[i], uint64(place-'0'))
				if wrong := i+1 == c.wrong; wrong != errors.Is(err, store.ErrIntegrity) || !wrong && err != nil {
					t.Errorf("frame %d: %v", i, err)
				}
			}
		})
	}
	m, err := r.Remember(w.Ctx)
	w.Must(err)
	for i, place := range []uint64{7, 8, 7, 6, 9} {
		f := room.Sent{Mark: crypto.Follows{Stream: [16]byte{2}, Frames: uint64(i) + 1}}
		w.Must(m.Sending(w.Ctx, &f))
		err := m.Acknowledged(w.Ctx, &f, place)
		if back := place < 8 && i > 1; back != errors.Is(err, store.ErrIntegrity) {
			t.Error(fmt.Sprint("place ", place, ": "), err)
		}
	}
}
