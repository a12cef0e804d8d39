package unibus_test

import (
	"errors"
	"testing"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
)

// TestStricter: what no longer fits when a room is to keep less is no finding, nor is that it began anew after that.
func TestStricter(t *testing.T) {
	w := newWorld(t)
	p := unibus.DefaultPolicy()
	p.Retain = &unibus.Retain{}
	alices, bobs := w.room("less", p)
	for _, size := range []int{20 << 10, 20 << 10, 20 << 10} {
		w.must(alices.PublishOnce(w.ctx, make([]byte, size)))
	}
	well := func(when string, messages int) {
		t.Helper()
		if texts, notices, err := w.read(bobs, unibus.SubscribeOptions{All: true}); err != nil || len(texts) != messages {
			t.Errorf("%s: %d messages, %v, %v", when, len(texts), notices, err)
		}
		if _, err := bobs.Verify(w.ctx, nil); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	keep := func(bytes uint64) {
		t.Helper()
		w.must(alices.SetPolicy(w.ctx, func(p *unibus.PolicyChange) { p.Retain = &unibus.Retain{Bytes: unibus.Number(bytes)} }))
	}
	well("before", 3)
	keep(4 << 10)
	well("with less room than for one", 0)
	keep(0)
	w.must(alices.PublishOnce(w.ctx, []byte("after")))
	well("without a limit again", 1)
	w.must(alices.SetPolicy(w.ctx, func(p *unibus.PolicyChange) { p.Anew = true }))
	w.must(alices.PublishOnce(w.ctx, []byte("anew")))
	well("begun anew", 2)
}

// TestAnewSettlesBeginning: a room whose first message was lost is a finding, for everyone until it begins anew; who takes
// it for what it is need not do so again when its writer tells of what was lost.
func TestAnewSettlesBeginning(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("begins", unibus.DefaultPolicy())
	for _, text := range []string{"one", "two", "three"} {
		w.must(alices.PublishOnce(w.ctx, []byte(text)))
	}
	stream, err := w.js.Stream(w.ctx, bus.StreamName(alices.ID()))
	w.must(err)
	w.must(stream.DeleteMsg(w.ctx, 1))
	is := func(who *unibus.Room, when string, want error) {
		t.Helper()
		if _, notices, err := w.read(who, unibus.SubscribeOptions{All: true}); !errors.Is(err, want) {
			t.Errorf("%s: %v, %v", when, notices, err)
		}
	}
	is(alices, "lost", unibus.ErrIntegrity)
	is(bobs, "lost", unibus.ErrIntegrity)
	w.must(bobs.Accept(w.ctx, unibus.AcceptPlace(1)))
	is(bobs, "accepted", nil)
	w.must(alices.PublishOnce(w.ctx, []byte("four"))) // says that there were others
	is(bobs, "accepted, and told of again", nil)
	is(alices, "still", unibus.ErrIntegrity)
	w.must(alices.SetPolicy(w.ctx, func(p *unibus.PolicyChange) { p.Anew = true }))
	w.must(alices.PublishOnce(w.ctx, []byte("five")))
	is(alices, "begun anew", nil)
	is(bobs, "begun anew", nil)
}

// TestAcceptedUpToTheEnd: a room is taken for what it is up to its last place, and no further: what comes there later has not
// been looked into.
func TestAcceptedUpToTheEnd(t *testing.T) {
	w := newWorld(t)
	alices, _ := w.room("ends", unibus.DefaultPolicy())
	for _, text := range []string{"one", "two"} {
		w.must(alices.PublishOnce(w.ctx, []byte(text)))
	}
	if err := alices.Accept(w.ctx, unibus.AcceptPlace(3)); !errors.Is(err, unibus.ErrInvalid) {
		t.Errorf("a place behind the last: %v", err)
	}
	w.must(alices.Accept(w.ctx, unibus.AcceptPlace(2)))
}
