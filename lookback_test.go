package unibus

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
)

// TestMetInTheMiddle: of a stream that is met long after its last frame, a reader who begins with what is new finds out
// that one before it is missing, and says nothing when none is.
func TestMetInTheMiddle(t *testing.T) {
	w, must := found(t), orFatal(t)
	js, err := jetstream.New(w.node.Links().Store)
	must(err)
	for name, lose := range map[string]bool{"lost": true, "whole": false} {
		t.Run(name, func(t *testing.T) {
			must := orFatal(t)
			room, err := w.c.CreateRoom(w.ctx, "middle."+name, DefaultPolicy())
			must(err)
			long, err := room.Publisher(w.ctx)
			must(err)
			say := func(text string) {
				t.Helper()
				must(long.Publish([]byte(text)))
				must(long.Flush(w.ctx))
			}
			others := func() {
				for i := range 3 * 32 {
					must(room.PublishOnce(w.ctx, fmt.Append(nil, i)))
				}
			}
			say("zero")
			others()
			say("one")
			if lose {
				s, err := js.Stream(w.ctx, bus.StreamName(room.ID()))
				must(err)
				must(s.DeleteMsg(w.ctx, 2+3*32))
			}
			others()
			notices := make(chan Notice, 16)
			sub, err := room.Subscribe(w.ctx, SubscribeOptions{Notice: func(n Notice) { notices <- n }})
			must(err)
			say("two")
			for m, err := range sub.Messages() {
				must(err)
				if string(m.Body) != "two" {
					t.Errorf("read %q", m.Body)
				}
				break
			}
			if lose {
				select {
				case n := <-notices:
					if n.Kind != NoticeGap || n.From != 1 || n.To != 1 || !n.Finding {
						t.Errorf("told of %+v", n)
					}
				case <-w.ctx.Done():
					t.Error("nobody is told")
				}
			}
			if err := sub.Close(); lose != errors.Is(err, ErrIntegrity) || len(notices) > 0 {
				t.Errorf("it ended with %v, and %d more notices", err, len(notices))
			}
			must(long.Close(w.ctx))
		})
	}
}
