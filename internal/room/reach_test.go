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

// TestSentAgain: a frame that is sent again may have been stored the first time, before what was acknowledged meanwhile.
func TestSentAgain(t *testing.T) {
	w := roomtest.New(t)
	r := w.Room("again", ledger.DefaultPolicy())
	m, err := r.Remember(w.Ctx)
	w.Must(err)
	first, second := room.Sent{Mark: crypto.Follows{Stream: [16]byte{1}, Frames: 1}}, room.Sent{Mark: crypto.Follows{Stream: [16]byte{1}, Frames: 2}}
	w.Must(m.Sending(w.Ctx, &first))
	w.Must(m.Sending(w.Ctx, &second))
	w.Must(m.Acknowledged(w.Ctx, &second, 7))
	w.Must(m.Sending(w.Ctx, &first))
	w.Must(m.Acknowledged(w.Ctx, &first, 6))
}

// TestNothingNewAnew: what was known of a room is not taken for what it is known for once it has begun anew.
func TestNothingNewAnew(t *testing.T) {
	w := roomtest.New(t)
	r := w.Room("anew", ledger.DefaultPolicy())
	m, err := r.Remember(w.Ctx)
	w.Must(err)
	w.Must(m.Met(w.Ctx, 3, []byte("three")))
	w.Must(m.Write(w.Ctx))
	w.Must(room.Changes{Room: r}.SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.Anew = true }))
	w.Must(m.End(w.Ctx, true)) // with nothing new
	if m, err = r.Remember(w.Ctx); err != nil || m.Pinned != 0 {
		t.Errorf("it is known up to place %d, %v", m.Pinned, err)
	}
}

// TestReached: what was read and acknowledged of a room is known to the next process, which tells by it that the room ends
// earlier, or has another frame there; a person may take it for what it is, and an owner's word makes it begin anew.
func TestReached(t *testing.T) {
	w := roomtest.New(t)
	r := w.Room("reached", ledger.DefaultPolicy())
	reach := func() *room.Reach {
		t.Helper()
		m, err := r.Remember(w.Ctx)
		w.Must(err)
		return m
	}
	m := reach()
	if m.Last() != 0 || m.Another(5, nil) || m.Another(0, nil) || (*room.Reach)(nil).Last() != 0 {
		t.Errorf("a new room is known up to place %d", m.Last())
	}
	w.Must(m.Met(w.Ctx, 3, []byte("three"))) // the first is written down at once, what comes soon after it later
	w.Must(m.Met(w.Ctx, 5, []byte("five")))
	w.Must(m.Met(w.Ctx, 4, []byte("four"))) // which says nothing new
	w.Must(m.Write(w.Ctx))
	f := room.Sent{Frame: []byte("six"), Mark: crypto.Follows{Stream: [16]byte{1}, Frames: 1}}
	w.Must(m.Sending(w.Ctx, &f))
	w.Must(m.Acknowledged(w.Ctx, &f, 6))
	w.Must(m.End(w.Ctx, true))
	w.Must(m.End(w.Ctx, false)) // with nothing new

	m = reach()
	if m.Last() != 6 || m.Known.Seq != 5 || m.Known.Own != 6 {
		t.Errorf("it is known up to %d, read up to %d, written up to %d", m.Last(), m.Known.Seq, m.Known.Own)
	}
	for place, frame := range map[uint64]string{5: "five", 6: "six"} {
		if m.Another(place, []byte(frame)) || !m.Another(place, []byte("another")) || m.Another(9, []byte("another")) {
			t.Errorf("another frame at place %d is not told", place)
		}
	}
	if err := m.Acknowledged(w.Ctx, &room.Sent{}, 6); !errors.Is(err, room.ErrRolledBack) {
		t.Errorf("a frame is stored where another was: %v", err)
	}
	untold, err := r.Pins.Streams.Untold(w.Ctx, r.ID, [16]byte{})
	w.Must(err)
	if len(untold) != 1 || untold[0] != (crypto.Follows{Stream: [16]byte{1}, Frames: 1, Place: 6}) {
		t.Errorf("the next frame is to tell of %+v", untold)
	}
	w.Must(m.Acknowledged(w.Ctx, &room.Sent{Told: untold, Mark: crypto.Follows{Stream: [16]byte{2}, Frames: 1}}, 7))
	if untold, err = r.Pins.Streams.Untold(w.Ctx, r.ID, [16]byte{}); err != nil || len(untold) != 0 {
		t.Errorf("what was told is to be told again: %+v, %v", untold, err)
	}

	at := m.Known
	at.Accepted = 6
	w.Must(r.Pins.Places.Accept(w.Ctx, r.ID, at))
	if n := reach().Last(); n != 0 {
		t.Errorf("a room that a person takes for what it is is held against place %d", n)
	}
	w.Must(room.Changes{Room: r}.SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.Anew = true }))
	if m = reach(); m.Pinned != 0 || m.Known.Seq != 0 {
		t.Errorf("a room that began anew is held against place %d", m.Pinned)
	}
}
