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
	m.when = time.Now().Add(-recordEvery)
	if !send(4) {
		t.Error("it is not recorded again")
	}
}
