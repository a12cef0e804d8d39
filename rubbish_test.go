package unibus

import (
	"fmt"
	"testing"

	"github.com/unibus/unibus/internal/bus"
)

// TestRubbishTogether: of much that does not authenticate the first is told one by one, the rest together, and all of it
// counts.
func TestRubbishTogether(t *testing.T) {
	w, must := found(t), orFatal(t)
	room, err := w.c.CreateRoom(w.ctx, "room", DefaultPolicy())
	must(err)
	must(room.PublishOnce(w.ctx, []byte("before")))
	for i := range 100 {
		_, err := w.node.Links().Store.RequestWithContext(w.ctx, bus.StoredSubject(room.ID(), w.id.Key()), fmt.Appendf(nil, "rubbish %d", i))
		must(err)
	}
	must(room.PublishOnce(w.ctx, []byte("after")))
	texts, notices, err := w.read(t, room, SubscribeOptions{All: true})
	if err == nil || len(texts) != 2 || len(notices) != 16+1 {
		t.Fatalf("%q, %d notices, %v", texts, len(notices), err)
	}
	for i, n := range notices {
		if n.Kind != NoticeForged || !n.Finding {
			t.Errorf("notice %d: %+v", i, n)
		}
	}
	name := room.c.self.NameOf(w.id.Key())
	if want := fmt.Sprintf("room: 84 more frames by %s that do not authenticate either, from message 18 of the room's stream to message 101; dropped", name); notices[16].String() != want {
		t.Errorf("%q, want %q", notices[16], want)
	}
}
