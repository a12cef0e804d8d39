package unibus

import (
	"errors"
	"fmt"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// TestOnePlaceEach: no two frames are stored at one place, and none before what was acknowledged when it was sent,
// though frames that were on their way together may come in any order.
func TestOnePlaceEach(t *testing.T) {
	w := found(t)
	room, err := w.c.CreateRoom(w.ctx, "places", DefaultPolicy())
	orFatal(t)(err)
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
			m, err := room.remember(w.ctx)
			orFatal(t)(err)
			flights := make([]flight, len(c.sent))
			for i := range flights {
				flights[i].mark = crypto.Follows{Stream: [16]byte{1}, Frames: uint64(i) + 1}
				orFatal(t)(m.sending(w.ctx, &flights[i]))
			}
			for i, place := range c.acked {
				err := m.acknowledged(w.ctx, flights[i], uint64(place-'0'))
				if wrong := i+1 == c.wrong; wrong != errors.Is(err, ErrIntegrity) || !wrong && err != nil {
					t.Errorf("frame %d: %v", i, err)
				}
			}
		})
	}
	m, err := room.remember(w.ctx)
	orFatal(t)(err)
	for i, place := range []uint64{7, 8, 7, 6, 9} {
		f := flight{mark: crypto.Follows{Stream: [16]byte{2}, Frames: uint64(i) + 1}}
		orFatal(t)(m.sending(w.ctx, &f))
		err := m.acknowledged(w.ctx, f, place)
		if back := place < 8 && i > 1; back != errors.Is(err, ErrIntegrity) {
			t.Error(fmt.Sprint("place ", place, ": "), err)
		}
	}
}
