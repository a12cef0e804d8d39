package unibus

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// TestStoredAfterEmptied: a frame whose writer had not heard yet that the room stores nothing may be stored after
// that was emptied. What was before it in its stream, or what it says of others, is no finding then.
func TestStoredAfterEmptied(t *testing.T) {
	w, must := found(t), orFatal(t)
	ctx := w.ctx
	room, err := w.c.CreateRoom(ctx, "room", DefaultPolicy())
	must(err)
	seal := func(stream byte, counter uint64, follows ...crypto.Follows) []byte {
		t.Helper()
		h, key, err := room.r.Writing(ctx)
		must(err)
		h.Stream[0], h.Counter = stream, counter
		content := crypto.AppendContentTime(nil, uint64(time.Now().UnixMicro()))
		if len(follows) > 0 {
			h.Flags = crypto.FlagFollows
			content = crypto.AppendFollows(content, follows)
		}
		frame, err := w.id.SealFrame(nil, room.ID(), key, h, crypto.AppendRecord(content, nil, []byte{'0' + stream}), [32]byte{stream, byte(counter)})
		must(err)
		return frame
	}
	behind := seal(1, 3)
	at := room.r.State().Head.Seq
	beginning := seal(2, 0, crypto.Follows{Stream: [16]byte{1}, Frames: 3, At: at, Place: 9, Sealed: uint64(time.Now().UnixMicro())})
	must(room.SetPolicy(ctx, func(p *PolicyChange) { p.Retain = nil }))
	must(room.SetPolicy(ctx, func(p *PolicyChange) { p.Policy = DefaultPolicy() }))
	store := func(frame []byte) {
		t.Helper()
		_, err := w.node.Links().Store.RequestWithContext(ctx, bus.StoredSubject(room.ID(), w.id.Key()), frame)
		must(err)
	}
	read := func() (found []Notice, read int) {
		t.Helper()
		s, err := room.Subscribe(ctx, SubscribeOptions{All: true, End: true, Notice: func(n Notice) {
			if n.Finding {
				found = append(found, n)
			}
		}})
		must(err)
		defer s.Close()
		for _, err := range s.Messages() {
			if err == nil {
				read++
			}
		}
		return found, read
	}
	store(behind)
	store(beginning)
	if found, n := read(); len(found) > 0 || n != 2 {
		t.Errorf("%d messages, %+v", n, found)
	}
	// The same of a time from which the room stores messages is a finding.
	store(seal(3, 0))
	store(seal(3, 3))
	if found, n := read(); len(found) != 1 || found[0].Kind != NoticeGap || n != 4 {
		t.Errorf("%d messages, %+v", n, found)
	}
}

// TestStoredUnheard: whoever follows a room that begins to store messages is given all that it stores, also what the
// subscription did not bring.
func TestStoredUnheard(t *testing.T) {
	w, must := found(t), orFatal(t)
	ctx := w.ctx
	live := DefaultPolicy()
	live.Retain = nil
	room, err := w.c.CreateRoom(ctx, "room", live)
	must(err)
	s, err := room.Subscribe(ctx, SubscribeOptions{Notice: func(n Notice) {
		if n.Finding {
			t.Errorf("finding: %v", n)
		}
	}})
	must(err)
	defer s.Close()
	must(room.Publish(ctx, []byte("live")))
	must(room.SetPolicy(ctx, func(p *PolicyChange) { p.Policy = DefaultPolicy() }))
	js, err := jetstream.New(w.node.Links().Store)
	must(err)
	stream, err := js.Stream(ctx, bus.StreamName(room.ID()))
	must(err)
	heard := stream.CachedInfo().Config
	unheard := heard
	unheard.RePublish = nil
	_, err = js.UpdateStream(ctx, unheard)
	must(err)
	for _, body := range []string{"unheard 1", "unheard 2"} {
		must(room.Publish(ctx, []byte(body)))
	}
	_, err = js.UpdateStream(ctx, heard)
	must(err)
	must(room.Publish(ctx, []byte("heard")))
	want := []string{"live", "unheard 1", "unheard 2", "heard"}
	for m, err := range s.Messages() {
		must(err)
		if string(m.Body) != want[0] {
			t.Fatalf("%q, want %q", m.Body, want[0])
		}
		if want = want[1:]; len(want) == 0 {
			return
		}
	}
}
