package bus

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// storing has a room store what is published there.
func (p *peered) storing(room crypto.ID) {
	p.Helper()
	streams, err := NewStreams(p.server.Links.Store, func(context.Context) (int, error) { return 1, nil })
	if err != nil {
		p.Fatal(err)
	}
	if err := streams.Ensure(p.Context(), room, says(ledger.DefaultPolicy())); err != nil {
		p.Fatal(err)
	}
}

// subscribe subscribes the peer to a room.
func (p *peered) subscribe(room crypto.ID, stored Stored, queue string) *Feed {
	p.Helper()
	feed, err := p.conn.Subscribe(p.Context(), room, stored, queue)
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(feed.Close)
	return feed
}

// next is the next frame of a feed.
func (p *peered) next(feed *Feed) store.Frame {
	p.Helper()
	f, err := feed.Next(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	return f
}

// TestStored: a frame of a stored room is acknowledged with its place, once, and comes with it.
func TestStored(t *testing.T) {
	p := newPeered(t)
	room := crypto.ID{2}
	p.storing(room)
	feed := p.subscribe(room, true, "")
	for _, c := range []struct {
		id, data string
		place    uint64
		err      error
	}{
		{"a", "one", 1, nil},
		{"b", "two", 2, nil},
		{"a", "another", 1, ErrDuplicate},
	} {
		if place, err := p.conn.Store(room, c.id, []byte(c.data)).Wait(t.Context()); place != c.place || !errors.Is(err, c.err) {
			t.Errorf("%s: place %d, %v", c.data, place, err)
		}
	}
	for seq, data := range []string{"one", "two"} {
		f := p.next(feed)
		if f.Seq != uint64(seq+1) || string(f.Data) != data || f.Sender != p.id.Key() || f.Time.IsZero() {
			t.Errorf("%+v instead of %s", f, data)
		}
	}
}

// TestStoredInNoStream: nobody acknowledges what no stream keeps.
func TestStoredInNoStream(t *testing.T) {
	p := newPeered(t)
	if place, err := p.conn.Store(crypto.ID{2}, "a", nil).Wait(t.Context()); place != 0 || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("place %d, %v", place, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	waits := Ack{answered{ok: make(chan *jetstream.PubAck)}, "s", nil}
	if _, err := waits.Wait(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// TestLive: a frame of a live room comes without a place, to each who follows, and to one of those who share.
func TestLive(t *testing.T) {
	p := newPeered(t)
	room := crypto.ID{2}
	feed, shared, also := p.subscribe(room, false, ""), p.subscribe(room, false, "q"), p.subscribe(room, false, "q")
	if place, err := p.conn.Publish(room, []byte("one")).Wait(t.Context()); place != 0 || err != nil {
		t.Errorf("place %d, %v", place, err)
	}
	if f := p.next(feed); f.Seq != 0 || !f.Time.IsZero() || string(f.Data) != "one" || f.Sender != p.id.Key() {
		t.Errorf("%+v", f)
	}
	if err := p.conn.Flush(t.Context(), room); err != nil { // after the frame, over the same connection
		t.Fatal(err)
	}
	n, _, _ := shared.sub.Pending()
	m, _, _ := also.sub.Pending()
	if n+m != 1 {
		t.Errorf("those who share get %d and %d", n, m)
	}
}

// TestFrameHeaders: where a writer chose headers of the server's names, only the server's own count; a sender is a key.
func TestFrameHeaders(t *testing.T) {
	room, sender := crypto.ID{2}, crypto.PublicKey{3}
	feed := &Feed{room: room}
	header := func(change func(h nats.Header)) nats.Header {
		h := nats.Header{
			"Nats-Stream": {"FORGED", StreamName(room)}, "Nats-Subject": {"forged", StoredSubject(room, sender)},
			"Nats-Sequence": {"99", "4"}, "Nats-Time-Stamp": {"2001-01-01T00:00:00Z", "2026-01-02T03:04:05Z"},
		}
		change(h)
		return h
	}
	for what, c := range map[string]struct {
		header nats.Header
		seq    uint64
	}{
		"the server's behind the writer's": {header(func(nats.Header) {}), 4},
		"the writer's alone":               {nats.Header{"Nats-Sequence": {"4"}}, 0},
		"another stream":                   {header(func(h nats.Header) { h.Add("Nats-Stream", "OTHER") }), 0},
		"another subject":                  {header(func(h nats.Header) { h.Add("Nats-Subject", "other") }), 0},
		"no time":                          {header(func(h nats.Header) { h.Add("Nats-Time-Stamp", "then") }), 0},
	} {
		f := feed.frame(&nats.Msg{Subject: LiveSubject(room, sender), Header: c.header, Data: []byte("data")})
		if f.Seq != c.seq || f.Time.IsZero() != (c.seq == 0) || f.Sender != sender || string(f.Data) != "data" {
			t.Errorf("%s: %+v", what, f)
		}
	}
	if f := feed.frame(&nats.Msg{Subject: "unibus.r." + room.String() + ".nobody"}); f.Sender != (crypto.PublicKey{}) {
		t.Errorf("sent by %v", f.Sender)
	}
}

// TestSlowReader: what a slow reader has no room for is lost, and the rest comes.
func TestSlowReader(t *testing.T) {
	p := newPeered(t)
	room := crypto.ID{2}
	feed := p.subscribe(room, false, "")
	if err := feed.sub.SetPendingLimits(2, -1); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		p.conn.Publish(room, []byte{byte(i)})
	}
	if err := p.conn.Flush(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if f := p.next(feed); f.Data[0] != byte(i) {
			t.Errorf("frame %d instead of %d", f.Data[0], i)
		}
	}
	p.conn.Publish(room, []byte{9})
	if f := p.next(feed); f.Data[0] != 9 {
		t.Errorf("frame %d instead of the next", f.Data[0])
	}
}

// TestStanding: who reads knows when something may be lost: the context ends when the connection breaks, and there is
// another when it stands again.
func TestStanding(t *testing.T) {
	p := newPeered(t)
	room := crypto.ID{2}
	feed := p.subscribe(room, false, "")
	first, err := feed.Standing(t.Context())
	if err != nil || first.Err() != nil {
		t.Fatalf("%v, %v", first.Err(), err)
	}
	p.breakOff()
	<-first.Done()
	second, err := feed.Standing(t.Context())
	if err != nil || second.Err() != nil {
		t.Fatalf("%v, %v", second.Err(), err)
	}
	p.conn.Publish(room, []byte("after"))
	if f := p.next(feed); string(f.Data) != "after" {
		t.Errorf("%q", f.Data)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := feed.Next(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("nothing comes: %v", err)
	}
	feed.link.lost(nil) // it is broken, and does not come back
	if _, err := feed.Standing(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("broken: %v", err)
	}
}

// TestBarredWhileReading: who reads while the bus lets the identity in no more is told of that.
func TestBarredWhileReading(t *testing.T) {
	p := newPeered(t)
	feed := p.subscribe(crypto.ID{2}, false, "")
	p.door.members.Store(false)
	p.door.strangers.Store(true)
	p.breakOff()
	if _, err := feed.Next(t.Context()); !errors.Is(err, store.ErrDenied) {
		t.Errorf("%v", err)
	}
	if _, err := feed.Standing(t.Context()); !errors.Is(err, store.ErrDenied) {
		t.Errorf("%v", err)
	}
}
