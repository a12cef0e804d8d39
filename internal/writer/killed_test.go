package writer

import (
	"fmt"
	"slices"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/ledger"
)

// TestKilledWhileLeadersChange: of what a writer had under way when it was killed, something may be stored and what it
// sent before that not. Its next process says that this was never acknowledged, though others of the same state
// directory have told of the stream before.
func TestKilledWhileLeadersChange(t *testing.T) {
	w := newWorld(t)
	policy := ledger.DefaultPolicy()
	policy.Retain.Age = 3600 // nothing expires meanwhile
	for name, before := range map[string]uint64{"the first frames": 0, "frames after some that were acknowledged": 2} {
		t.Run(name, func(t *testing.T) {
			must := w.Must
			r := w.Room(fmt.Sprintf("room.%d", before), policy)
			p := w.begin(r)
			made := uint64(0)
			frame := func() flight {
				content := crypto.AppendRecord(crypto.AppendContentTime(nil, 0), nil, fmt.Append(nil, made))
				f, err := p.seal.frame(w.Ctx, content, 0, 1)
				must(err)
				made++
				return f
			}
			stored := func(f flight) (place uint64) {
				must(f.transmit(p))
				place, err := f.await(p)
				must(err)
				return place
			}
			for range before {
				f := frame()
				must(p.reach.Acknowledged(w.Ctx, &f.Sent, stored(f)))
			}
			for range 3 { // the leader takes these with it
				f := frame()
				must(p.reach.Sending(w.Ctx, &f.Sent))
			}
			must(w.begin(r).Once(w.Ctx, []byte("another process tells of the stream")))
			stored(frame()) // by the next leader
			p.cancel()      // killed
			must(w.begin(r).Once(w.Ctx, []byte("its next process tells of it again")))
			texts, notices, err := w.read(r)
			must(err)
			var missing []string
			for _, n := range notices {
				missing = append(missing, fmt.Sprint(n.Kind, n.Finding, n.From, n.To))
			}
			want := []string{fmt.Sprint(inbox.Unacknowledged, false, before, before+2)}
			if uint64(len(texts)) != before+3 || !slices.Equal(missing, want) {
				t.Errorf("%d messages, %q, want %q", len(texts), missing, want)
			}
		})
	}
}
