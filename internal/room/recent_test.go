package room

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/pins"
)

// TestRecentIsBounded: no more of the places that were acknowledged are remembered than may be.
func TestRecentIsBounded(t *testing.T) {
	var m Reach
	for place := range uint64(10 * maxRecent) {
		f := Sent{after: place}
		if err := m.Acknowledged(t.Context(), &f, place+1); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(m.recent); n > maxRecent || n < maxRecent/2 {
		t.Errorf("%d are remembered", n)
	}
}

// TestStreamIsRecordedAgain: while frames are sent behind others that have no acknowledgement, what is remembered of their
// stream is written down now and then, not each time, so that it goes on counting as one under way.
func TestStreamIsRecordedAgain(t *testing.T) {
	p, err := pins.Open(t.Context(), filepath.Join(t.TempDir(), "pins.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	m := Reach{r: &Room{Self: &Self{Pins: p, Now: time.Now}}}
	send := func(frames uint64) (recorded bool) {
		t.Helper()
		before := m.when
		if err := m.Sending(t.Context(), &Sent{Mark: crypto.Follows{Stream: [16]byte{1}, Frames: frames}}); err != nil {
			t.Fatal(err)
		}
		return !m.when.Equal(before)
	}
	if send(1) || !send(2) {
		t.Error("it is not recorded with the first frame that is sent behind another, or before")
	}
	m.when = time.Now().Add(time.Hour) // just now, however slow this is
	if send(3) {
		t.Error("it is recorded for each frame")
	}
	before := m.recorded
	if err := m.Sending(t.Context(), &Sent{Mark: crypto.Follows{Stream: [16]byte{2}, Frames: 2}}); err != nil || m.recorded == before {
		t.Errorf("another stream is not recorded: %v", err)
	}
	m.recorded, m.when = before, time.Now().Add(-recordEvery)
	if !send(4) {
		t.Error("it is not recorded again")
	}
}

// TestReadIsWrittenNowAndThen: how far a room was read is written down at once, and then not each time.
func TestReadIsWrittenNowAndThen(t *testing.T) {
	var m Reach
	meets := func(what string, place uint64, written bool) {
		t.Helper()
		if err := m.Met(t.Context(), place, nil); err != nil || m.dirty == written {
			t.Errorf("%s: written is %v, %v", what, !m.dirty, err)
		}
	}
	meets("the first", 1, true)
	m.written = time.Now().Add(time.Hour) // just now, however slow this is
	meets("the next", 2, false)
	m.written = time.Now().Add(-RememberEvery)
	meets("a later one", 3, true)
}
