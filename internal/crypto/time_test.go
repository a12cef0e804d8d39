package crypto

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

// TestTimes: whatever time somebody signs can be written.
func TestTimes(t *testing.T) {
	for _, n := range []uint64{0, 1, MaxNumber, 253402300799999, 253402300800000, 253402300799999999, 253402300800000000, 1 << 62, 1 << 63, math.MaxUint64} {
		for _, at := range []time.Time{Millis(n), Micros(n)} {
			if _, err := json.Marshal(at); err != nil || at.Year() < 1970 {
				t.Errorf("%d: %v, %v", n, at, err)
			}
		}
	}
	if got := Micros(1_500_000); !got.Equal(time.Unix(1, 500_000_000)) {
		t.Errorf("a time that can be written is %v", got)
	}
}
