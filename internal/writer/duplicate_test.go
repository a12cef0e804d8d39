package writer

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/room"
)

// TestUsedMessageID: a stream that knows the id of a frame that was sent once has not stored that frame. It goes
// out again, under another id, and is stored; under its own id it is stored once, however often it is sent.
func TestUsedMessageID(t *testing.T) {
	w := newWorld(t)
	r := w.Room("ids", ledger.DefaultPolicy())
	p := w.begin(r)
	js, err := jetstream.New(w.Node.Links().Store)
	if err != nil {
		t.Fatal(err)
	}
	frame := func(text string) flight {
		content := crypto.AppendRecord(crypto.AppendContentTime(nil, uint64(time.Now().UnixMicro())), nil, []byte(text))
		f, err := p.seal.frame(w.Ctx, content, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	send := func(f flight) {
		t.Helper()
		if err := f.transmit(p); err != nil {
			t.Fatal(err)
		}
		if _, err := f.await(p); err != nil {
			t.Fatal(err)
		}
	}
	// Somebody in the same room is quicker, and knows the id: with an earlier frame, which readers drop.
	send(frame("zero"))
	zero, err := js.Stream(w.Ctx, bus.StreamName(r.ID))
	if err != nil {
		t.Fatal(err)
	}
	repeated, err := zero.GetMsg(w.Ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	one := frame("one")
	rubbish := &nats.Msg{Subject: bus.StoredSubject(r.ID, w.ID.Key()), Header: nats.Header{nats.MsgIdHdr: {one.id}}, Data: repeated.Data}
	if _, err := js.PublishMsg(w.Ctx, rubbish); err != nil {
		t.Fatal(err)
	}
	send(one)
	// A repetition of what was stored, as after an acknowledgement that was lost.
	two := frame("two")
	send(two)
	if err := two.transmit(p); err != nil {
		t.Fatal(err)
	}
	if _, err := two.ack.Wait(w.Ctx); err != bus.ErrDuplicate {
		t.Errorf("a repetition is acknowledged with %v", err)
	}
	w.mustHold(t, r, "zero", "one", "two")
	if info, err := zero.Info(w.Ctx); err != nil || info.State.Msgs != 4 {
		t.Errorf("the stream holds %v, %v", info, err)
	}
}

// mustHold checks that what a room has stored are these texts, and that a reader finds nothing wrong with it.
func (w *world) mustHold(t *testing.T, r *room.Room, want ...string) {
	t.Helper()
	texts, notices, err := w.read(r)
	for _, n := range notices {
		if n.Finding {
			t.Errorf("%+v", n)
		}
	}
	if err != nil || !slices.Equal(texts, want) {
		t.Errorf("stored are %q, %v", texts, err)
	}
}
