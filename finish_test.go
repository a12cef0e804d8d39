package unibus_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
)

// TestFinish: a reader that follows, and is to end, has read what is stored by then, also what was published to nobody or
// waits behind a gap, and says what is missing; or that it could not.
func TestFinish(t *testing.T) {
	w := newWorld(t)
	finish := func(sub *unibus.Subscription, got []string) ([]string, error) {
		sub.Finish()
		for m, err := range sub.Messages() {
			if err != nil {
				return got, err
			}
			got = append(got, string(m.Body))
		}
		return got, nil
	}
	follow := func(r *unibus.Room) *unibus.Subscription {
		sub, err := r.Subscribe(w.ctx, unibus.SubscribeOptions{All: true})
		w.must(err)
		return sub
	}
	alices, bobs := w.room("muted", unibus.DefaultPolicy())
	sub := follow(bobs)
	stream, err := w.js.Stream(w.ctx, bus.StreamName(alices.ID()))
	w.must(err)
	muted := stream.CachedInfo().Config
	muted.RePublish = nil
	_, err = w.js.UpdateStream(w.ctx, muted)
	w.must(err)
	w.send(alices, "told to nobody")
	if got, err := finish(sub, nil); err != nil || !slices.Equal(got, []string{"told to nobody"}) {
		t.Errorf("%q, %v", got, err)
	}

	alices, bobs = w.room("gap", unibus.DefaultPolicy())
	w.send(alices, "one", "two", "three", "four")
	w.rewrite(alices, func(f []*nats.Msg) []*nats.Msg { return slices.Delete(f, 1, 2) })
	sub = follow(bobs)
	for m, err := range sub.Messages() {
		w.must(err)
		if string(m.Body) == "one" {
			break
		}
	}
	if got, err := finish(sub, []string{"one"}); !errors.Is(err, unibus.ErrIntegrity) || !slices.Equal(got, []string{"one", "three", "four"}) {
		t.Errorf("%q, %v", got, err)
	}

	alices, bobs = w.room("gone", unibus.DefaultPolicy())
	sub = follow(bobs)
	w.must(w.js.DeleteStream(w.ctx, bus.StreamName(alices.ID())))
	if got, err := finish(sub, nil); err == nil {
		t.Errorf("%q without a stream", got)
	}
}
