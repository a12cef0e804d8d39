package unibus

import (
	"fmt"
	"strings"
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

// TestRubbishLive: in a room that stores nothing, what does not authenticate is nobody's, is told together as well, and
// spoils nothing.
func TestRubbishLive(t *testing.T) {
	w, must := found(t), orFatal(t)
	policy := DefaultPolicy()
	policy.Retain = nil
	room, err := w.c.CreateRoom(w.ctx, "room", policy)
	must(err)
	var told []Notice
	sub, err := room.Subscribe(w.ctx, SubscribeOptions{Notice: func(n Notice) { told = append(told, n) }})
	must(err)
	for i := range 100 { // as a server does that acknowledges a message with such a reply subject
		must(w.c.link.conn.NATS().Publish(bus.LiveSubject(room.ID(), w.id.Key()), fmt.Appendf(nil, `{"stream":"other","seq":%d}`, i)))
	}
	must(room.PublishOnce(w.ctx, []byte("after")))
	for m, err := range sub.Messages() {
		must(err)
		if string(m.Body) != "after" {
			t.Errorf("delivered is %q", m.Body)
		}
		sub.Finish()
	}
	if err := sub.Err(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if len(told) != 16+1 || told[16].To != 84 {
		t.Fatalf("%d notices: %v", len(told), told)
	}
	for _, n := range told {
		if n.Kind != NoticeForged || n.Finding || !strings.Contains(n.Why, "anyone who may connect") {
			t.Errorf("%+v", n)
		}
	}
}
