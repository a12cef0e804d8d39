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
	// Frames that were sent again are stored behind their successors, and are read before them.
	again, bobsAgain := w.room("again", unibus.DefaultPolicy())
	w.send(again, texts[:20]...)
	w.rewrite(again, func(f []*nats.Msg) []*nats.Msg { return append(slices.Delete(slices.Clone(f), 4, 8), f[4:8]...) })
	for _, n := range []int{5, 15, 20} {
		got, _, err := w.read(bobsAgain, unibus.SubscribeOptions{Last: n})
		if err != nil || !slices.Equal(got, texts[20-n:20]) {
			t.Errorf("the last %d are %q, %v", n, got, err)
		}
	}
	// With a frame missing, the last are still the last.
	w.rewrite(alices, func(f []*nats.Msg) []*nats.Msg { return slices.Delete(f, 64, 65) })
	if got, _, err := w.read(bobs, unibus.SubscribeOptions{Last: 2}); !slices.Equal(got, []string{texts[79], large}) || !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("%d, %v", len(got), err)
	}
}
