package unibus_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
)

// TestLast finds the last messages wherever they lie.
func TestLast(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("last", unibus.DefaultPolicy())
	var texts []string
	for i := range 80 {
		texts = append(texts, fmt.Sprint("m", i))
	}
	for chunk := range slices.Chunk(texts, 20) {
		w.send(alices, chunk...)
	}
	large := strings.Repeat("x", 3<<20) // three frames and more
	w.must(alices.PublishOnce(w.ctx, []byte(large)))
	for _, n := range []int{1, 2, 3, 21, 80, 81, 200} {
		got, _, err := w.read(bobs, unibus.SubscribeOptions{Last: n})
		want := append(slices.Clone(texts), large)
		want = want[max(0, len(want)-n):]
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("the last %d are %d, %v", n, len(got), err)
		}
	}
	got, _, err := w.read(bobs, unibus.SubscribeOptions{Since: time.Now().Add(time.Hour)})
	if err != nil || len(got) != 0 {
		t.Errorf("since later: %d, %v", len(got), err)
	}
	// With a frame missing, the last are still the last.
	w.rewrite(alices, func(f []*nats.Msg) []*nats.Msg { return slices.Delete(f, 64, 65) })
	if got, _, err := w.read(bobs, unibus.SubscribeOptions{Last: 2}); !slices.Equal(got, []string{texts[79], large}) || !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("%d, %v", len(got), err)
	}
}
