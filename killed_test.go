package unibus

import (
	"fmt"
	"slices"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// TestKilledWhileLeadersChange: of what a writer had under way when it was killed, something may be stored and what it
// sent before that not. Its next process says that this was never acknowledged, though others of the same state
// directory have told of the stream before.
func TestKilledWhileLeadersChange(t *testing.T) {
	w := found(t)
	policy := DefaultPolicy()
	policy.Retain.Age = 3600 // nothing expires meanwhile
	for name, before := range map[string]uint64{"the first frames": 0, "frames after some that were acknowledged": 2} {
		t.Run(name, func(t *testing.T) {
			must := orFatal(t)
			room, err := w.c.CreateRoom(w.ctx, fmt.Sprintf("room.%d", before), policy)
			must(err)
			p, err := room.Publisher(w.ctx)
			must(err)
			made := uint64(0)
			frame := func() flight {
				content := crypto.AppendRecord(crypto.AppendContentTime(nil, 0), nil, fmt.Append(nil, made))
				f, err := p.seal(content, 0, made, 1)
				must(err)
				made++
				return f
			}
			stored := func(f flight) (place uint64) {
				var err error
				f.ack, err = p.transmit(&f)
				must(err)
				place, err = p.awaitAck(f)
				must(err)
				return place
			}
			for range before {
				f := frame()
				must(p.memory.acknowledged(w.ctx, f, stored(f)))
			}
			for range 3 { // the leader takes these with it
				f := frame()
				must(p.memory.sending(w.ctx, &f))
			}
			must(room.PublishOnce(w.ctx, []byte("another process tells of the stream")))
			stored(frame()) // by the next leader
			p.cancel()      // killed
			must(room.PublishOnce(w.ctx, []byte("its next process tells of it again")))
			var missing []string
			s, err := room.Subscribe(w.ctx, SubscribeOptions{All: true, End: true, Notice: func(n Notice) {
				missing = append(missing, fmt.Sprint(n.Kind, n.Finding, n.From, n.To))
			}})
			must(err)
			n := uint64(0)
			for _, err := range s.Messages() {
				must(err)
				n++
			}
			want := []string{fmt.Sprint(NoticeUnacknowledged, false, before, before+2)}
			if n != before+3 || !slices.Equal(missing, want) {
				t.Errorf("%d messages, %q, want %q", n, missing, want)
			}
		})
	}
}
