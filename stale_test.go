package unibus

import (
	"testing"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// TestLiveIsFresh: in a room that stores nothing, an authentic frame that was sealed long ago is no
// news, whoever shows it.
func TestLiveIsFresh(t *testing.T) {
	w := found(t)
	ctx, id, c := w.ctx, w.id, w.c
	p := DefaultPolicy()
	p.Retain = nil
	room, err := c.CreateRoom(ctx, "live", p)
	if err != nil {
		t.Fatal(err)
	}
	notices := make(chan Notice, 8)
	sub, err := room.Subscribe(ctx, SubscribeOptions{Notice: func(n Notice) { notices <- n }})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	show := func(stream byte, sealed time.Time, text string) {
		t.Helper()
		h, key, err := room.sealing(ctx)
		if err != nil {
			t.Fatal(err)
		}
		h.Stream[0] = stream
		content := crypto.AppendRecord(crypto.AppendContentTime(nil, uint64(sealed.UnixMicro())), nil, []byte(text))
		frame, err := id.SealFrame(nil, room.id, key, h, content, [32]byte{stream})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.node.Links().Bus.Publish(bus.RoomSubject(room.id, id.Key()), frame); err != nil {
			t.Fatal(err)
		}
	}
	show(1, time.Now().Add(-11*time.Minute), "old news")
	show(2, time.Now().Add(11*time.Minute), "from the future")
	show(3, time.Now().Add(-9*time.Minute), "late but news")
	for m, err := range sub.Messages() {
		if err != nil || string(m.Body) != "late but news" {
			t.Fatalf("%q, %v", m.Body, err)
		}
		break
	}
	for range 2 {
		if n := <-notices; n.Kind != NoticeRefused || n.Finding {
			t.Errorf("%+v", n)
		}
	}
}
