package writer

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// frame makes a frame of a stream.
func (w *world) frame(p *Stream, text string) flight {
	w.Helper()
	f, err := p.seal.frame(w.Ctx, crypto.AppendRecord(crypto.AppendContentTime(nil, 1), nil, []byte(text)), 0, 1)
	w.Must(err)
	return f
}

// TestLive: in a room that stores nothing nobody acknowledges a frame, and none is waited for.
func TestLive(t *testing.T) {
	w := newWorld(t)
	w.Must(w.begin(w.Room("live", live())).Once(w.Ctx, []byte("text")))
}

// TestLostAcknowledgement: a frame that was stored, and whose acknowledgement was lost, is sent again, and stored once.
func TestLostAcknowledgement(t *testing.T) {
	w := newWorld(t)
	r := w.Room("lost", ledger.DefaultPolicy())
	p := w.begin(r)
	f := w.frame(p, "text")
	w.Must(f.transmit(p))
	at, err := f.ack.Wait(w.Ctx)
	w.Must(err)
	f.ack = w.Conn.Store(crypto.ID{1}, newMessageID(), nil) // which nobody answers
	if place, err := f.await(p); err != nil || place != at {
		t.Errorf("it is at place %d, and was stored at %d: %v", place, at, err)
	}
	w.mustHold(t, r, "text")
}

// TestNotStoredAgain: that a frame was sent twice does not say that it is stored.
func TestNotStoredAgain(t *testing.T) {
	w := newWorld(t)
	r := w.Room("gone", ledger.DefaultPolicy())
	p := w.begin(r)
	js, err := jetstream.New(w.Node.Links().Store)
	w.Must(err)
	w.Must(js.DeleteStream(w.Ctx, bus.StreamName(r.ID)))
	reason, asked := errors.New("a reason"), 0
	w.writer.Refused = func() error {
		if asked++; asked < 3*2 { // which asks twice when there is one
			return nil
		}
		return reason
	}
	f := w.frame(p, "text")
	w.Must(f.transmit(p))
	_, err = f.ack.Wait(w.Ctx)
	if err = givenUp("gone", err); !errors.Is(err, bus.ErrNoStream) || remedy.Of(err).Kind != remedy.LookAtStream {
		t.Errorf("without a stream: %v, remedy %+v", err, remedy.Of(err))
	}
	if err := givenUp("gone", store.ErrUnavailable); remedy.Of(err).Kind != remedy.None {
		t.Errorf("%v, remedy %+v", err, remedy.Of(err))
	}
	w.Must(f.transmit(p))
	if place, err := f.await(p); !errors.Is(err, reason) {
		t.Errorf("it is at place %d, %v", place, err)
	}
	p.Discard()
	p.wait.Wait()
}

// TestEndedWhileSending: who waits for an acknowledgement when the stream ends is told of that.
func TestEndedWhileSending(t *testing.T) {
	w := newWorld(t)
	p := w.begin(w.Room("ended", ledger.DefaultPolicy()))
	f := flight{ack: w.Conn.Publish(p.r.ID, make([]byte, w.Conn.MaxPayload()+1))} // no server takes it
	p.Discard()
	p.wait.Wait()
	if _, err := f.await(p); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
}

// TestFailsWhileSending: a stream that fails while a frame is being sent ends when that is done, and makes no other.
func TestFailsWhileSending(t *testing.T) {
	w := newWorld(t)
	p := w.begin(w.Room("fails", live()))
	busy := func(is bool) {
		p.mu.Lock()
		p.busy = is
		p.wake.Broadcast()
		p.mu.Unlock()
	}
	busy(true)
	reason := errors.New("a reason")
	p.end(reason)
	for range 1000 { // each takes its turn with whoever ends the stream
		p.inFlight <- flight{}
	}
	busy(false)
	p.wait.Wait()
	if err := p.Close(w.Ctx); !errors.Is(err, reason) {
		t.Errorf("it ends with %v", err)
	}
	if p.seal.counter != 0 {
		t.Errorf("%d frames were made", p.seal.counter)
	}
}
