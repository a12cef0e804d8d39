package unibus_test

import (
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/ledger"
)

// TestInOut: what is said while somebody is in a room, and nothing else, comes to their subscription by a pattern, once,
// however short they were in.
func TestInOut(t *testing.T) {
	for _, history := range []string{ledger.HistoryShared, ledger.HistoryJoined} {
		t.Run(history, func(t *testing.T) {
			w := newWorld(t)
			p := unibus.DefaultPolicy()
			p.History = history
			alices, bobs := w.room("in.out", p)
			sub, err := w.bob.Subscribe(w.ctx, []string{"in.>"}, unibus.SubscribeOptions{All: true})
			w.must(err)
			var want []string
			say := func(text string, in bool) {
				t.Helper()
				w.send(alices, text)
				if in || history == ledger.HistoryShared {
					want = append(want, text)
				}
			}
			for i := range 12 {
				for k := range 5 {
					say(fmt.Sprint("in ", i, " ", k), true)
				}
				w.must(alices.Kick(w.ctx, w.bob.Key()))
				for k := range 5 {
					say(fmt.Sprint("out ", i, " ", k), false)
				}
				if err := bobs.Publish(w.ctx, []byte("x")); !errors.Is(err, unibus.ErrDenied) {
					t.Fatal(err)
				}
				w.must(alices.Invite(w.ctx, unibus.RoleMember, w.bob.Key()))
			}
			say("end", true)
			next, stop := iter.Pull2(sub.Messages())
			defer stop()
			for _, text := range want {
				m, err, ok := next()
				if got := string(m.Body); err != nil || !ok || got != text {
					t.Fatalf("%q, not %q, %v", got, text, err)
				}
			}
		})
	}
}
