package unibus

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// TestUsedMessageID: a stream that knows the id of a frame that was sent once has not stored that frame. It goes
// out again, under another id, and is stored; under its own id it is stored once, however often it is sent.
func TestUsedMessageID(t *testing.T) {
	w := found(t)
	room, err := w.c.CreateRoom(w.ctx, "ids", DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	p, err := room.Publisher(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(w.node.Links().Store)
	if err != nil {
		t.Fatal(err)
	}
	frame := func(text string, counter uint64) flight {
		content := crypto.AppendRecord(crypto.AppendContentTime(nil, uint64(time.Now().UnixMicro())), nil, []byte(text))
		f, err := p.seal(content, 0, counter, 1)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	send := func(f flight) {
		t.Helper()
		var err error
		if f.ack, err = p.transmit(&f); err != nil {
			t.Fatal(err)
		}
		if _, err := p.awaitAck(f); err != nil {
			t.Fatal(err)
		}
	}
	// Somebody in the same room is quicker, and knows the id: with an earlier frame, which readers drop.
	send(frame("zero", 0))
	zero, err := js.Stream(w.ctx, bus.StreamName(room.id))
	if err != nil {
		t.Fatal(err)
	}
	repeated, err := zero.GetMsg(w.ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	one := frame("one", 1)
	rubbish := &nats.Msg{Subject: bus.StoredSubject(room.id, w.id.Key()), Header: nats.Header{nats.MsgIdHdr: {one.id}}, Data: repeated.Data}
	if _, err := js.PublishMsg(w.ctx, rubbish); err != nil {
		t.Fatal(err)
	}
	send(one)
	// A repetition of what was stored, as after an acknowledgement that was lost.
	two := frame("two", 2)
	send(two)
	if two.ack, err = p.transmit(&two); err != nil {
		t.Fatal(err)
	}
	if _, err := two.ack.Wait(w.ctx); err != bus.ErrDuplicate {
		t.Errorf("a repetition is acknowledged with %v", err)
	}
	var got []string
	sub, err := room.Subscribe(w.ctx, SubscribeOptions{All: true, End: true, Notice: func(n Notice) {
		if n.Finding {
			t.Errorf("%v", n)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range sub.Messages() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(m.Body))
	}
	if !slices.Equal(got, []string{"zero", "one", "two"}) {
		t.Errorf("stored are %q", got)
	}
	if info, err := zero.Info(w.ctx); err != nil || info.State.Msgs != 4 {
		t.Errorf("the stream holds %v, %v", info, err)
	}
}
