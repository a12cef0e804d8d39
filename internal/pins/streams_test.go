package pins

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// TestUntold: of one's own streams in a room those are told first that were remembered first, without the one that tells,
// and no more than a frame tells of.
func TestUntold(t *testing.T) {
	p := newPins(t)
	room, now := crypto.ID{1}, time.Unix(1_000_000, 0)
	stored := func(room crypto.ID, stream byte, frames uint64, at time.Time) {
		t.Helper()
		if err := p.Streams.Stored(t.Context(), room, crypto.Follows{Stream: [16]byte{stream}, Frames: frames}, false, at); err != nil {
			t.Fatal(err)
		}
	}
	const newest, own, others = 1, 2, 3
	stored(room, newest, 9, now.Add(time.Hour))
	stored(room, own, 9, now.Add(-time.Hour))
	stored(crypto.ID{2}, others, 9, now)
	for i := range byte(crypto.MaxFollows) {
		stored(room, 10+i, 1, now.Add(time.Duration(i)*time.Second))
	}
	stored(room, 10, 2, now) // again, and more of it
	told, err := p.Streams.Untold(t.Context(), room, [16]byte{own})
	if err != nil || len(told) != crypto.MaxFollows {
		t.Fatalf("%d are told of, %v", len(told), err)
	}
	for i, f := range told {
		want := crypto.Follows{Stream: [16]byte{10 + byte(i)}, Frames: 1}
		if i == 0 {
			want.Frames = 2
		}
		if f != want {
			t.Errorf("told of %v, want %v", f, want)
		}
	}
}

// TestTold: what a frame has told of a stream is forgotten when nothing of that is on its way.
func TestTold(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, v := range []struct {
		name    string
		ended   bool
		written time.Time
		frames  uint64 // that were told, of 2
		kept    bool
	}{
		{"ended", true, now, 2, false},
		{"acknowledged more since", true, now, 1, true},
		{"under way", false, now.Add(-underWay), 2, true},
		{"under way, with a clock that was set back meanwhile", false, now.Add(underWay), 2, true},
		{"quiet", false, now.Add(-underWay - time.Second), 2, false},
		{"of another time", false, now.Add(underWay + time.Second), 2, false},
	} {
		t.Run(v.name, func(t *testing.T) {
			p := open(t, filepath.Join(t.TempDir(), "pins.db"))
			room := crypto.ID{1}
			f := crypto.Follows{Stream: [16]byte{2}, Frames: 2, At: 3, Place: 4, Sealed: 5}
			if err := p.Streams.Stored(t.Context(), room, f, v.ended, v.written); err != nil {
				t.Fatal(err)
			}
			told := f
			told.Frames = v.frames
			if err := p.Streams.Told(t.Context(), room, []crypto.Follows{told}, now); err != nil {
				t.Fatal(err)
			}
			left, err := p.Streams.Untold(t.Context(), room, [16]byte{})
			if err != nil || len(left) > 1 || len(left) == 1 != v.kept || v.kept && left[0] != f {
				t.Errorf("left %+v, %v", left, err)
			}
		})
	}
}
