package writer

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/room"
)

// hold keeps a stream from making frames, or lets it go on.
func hold(p *Stream, busy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = busy
	p.wake.Broadcast()
}

// takesAnother reports whether a frame that waits with one message takes another. It is not made meanwhile.
func takesAnother(p *Stream) bool {
	hold(p, true)
	defer hold(p, false)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Add(nil, []byte("one"))
	return p.out.Takes(nil, []byte("another"))
}

// TestFrameOfAnAgeingKey: where a key's age is told in messages a frame takes no more of them than a small part of that, from a
// stream's first frame on, and from the next frame on where the policy begins to say so.
func TestFrameOfAnAgeingKey(t *testing.T) {
	w := newWorld(t)
	policy := ledger.DefaultPolicy()
	r := w.Room("ageing", policy)
	p := w.begin(r)
	if !takesAnother(p) {
		t.Error("a frame takes one message where a key's age is not told in messages")
	}
	w.Must(p.Flush(w.Ctx))
	w.Must(room.Changes{Room: r}.SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.RekeyAfter.Messages = 8 }))
	w.Must(p.Publish([]byte("under the new policy")))
	w.Must(p.Flush(w.Ctx))
	if takesAnother(p) {
		t.Error("a frame takes two messages of 8, once the policy says so")
	}
	w.Must(p.Close(w.Ctx))
	p = w.begin(r)
	if takesAnother(p) {
		t.Error("the first frame of a stream takes two messages of 8")
	}
	w.Must(p.Close(w.Ctx))
}

// TestCountsByKey: each message counts once in the age of its key, however many frames it takes, and in the epoch in which
// it is sent.
func TestCountsByKey(t *testing.T) {
	w := newWorld(t)
	r := w.Room("counted", ledger.DefaultPolicy())
	p := w.begin(r)
	counted := func(epoch uint32, want uint64) {
		t.Helper()
		w.Must(p.Flush(w.Ctx))
		if got := r.Used.Of(epoch); got != want {
			t.Errorf("of epoch %d are counted %d messages, want %d", epoch, got, want)
		}
	}
	for range 3 {
		w.Must(p.Publish([]byte("text")))
	}
	counted(1, 3)
	w.Must(p.Publish([]byte(strings.Repeat("x", 3*w.Conn.MaxPayload()))))
	counted(1, 4)
	w.Must(room.Changes{Room: r}.Rekey(w.Ctx))
	w.Must(p.Publish([]byte("text")))
	counted(2, 1)
	w.Must(p.Close(w.Ctx))
}

// TestStored: whether a room stores messages is told as of what was acknowledged last, though its policy has changed since.
func TestStored(t *testing.T) {
	w := newWorld(t)
	r := w.Room("stored", live())
	p := w.begin(r)
	is := func(want bool, when string) {
		t.Helper()
		if got := p.Stored(); got != want {
			t.Errorf("%s: stored is %v, want %v", when, got, want)
		}
	}
	publish := func() {
		t.Helper()
		w.Must(p.Publish([]byte("text")))
		w.Must(p.Flush(w.Ctx))
	}
	set := func(retain *ledger.Retain) {
		t.Helper()
		w.Must(room.Changes{Room: r}.SetPolicy(w.Ctx, func(p *room.PolicyChange) { p.Retain = retain }))
	}
	is(false, "before anything was sent")
	publish()
	set(&ledger.Retain{Age: 3600})
	is(false, "when nothing was sent since it began to store")
	publish()
	is(true, "when something was sent since then")
	set(nil)
	is(true, "when nothing was sent since it ceased to")
	publish()
	is(false, "when something was sent since then, too")
	w.Must(p.Close(w.Ctx))
	p = w.begin(w.Room("another", ledger.DefaultPolicy()))
	is(true, "before anything was sent to a room that stores")
	p.Discard()
	p.wait.Wait()
}

// TestNotBegun: who cannot begin a stream is told why the bus ended the connection, and else what was in the way.
func TestNotBegun(t *testing.T) {
	w := newWorld(t)
	r := w.Room("ended", ledger.DefaultPolicy())
	over, cancel := context.WithCancel(w.Ctx)
	cancel()
	w.Must(r.Bus.Sync(w.Ctx))
	w.Conn.Release(r.ID) // so that its rights are to be asked for
	if _, err := w.writer.Begin(over, r); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
	reason := errors.New("a reason")
	w.writer.Refused = func() error { return reason }
	if _, err := w.writer.Begin(over, r); err != reason {
		t.Errorf("after the bus ended the connection: got %v, want %v", err, reason)
	}
}

// looked is a context that says when it was asked for the first time whether it is over.
type looked struct {
	context.Context
	once sync.Once
	at   chan struct{}
}

// Err is that of the context.
func (l *looked) Err() error {
	l.once.Do(func() { close(l.at) })
	return l.Context.Err()
}

// TestFlushIsCalledOff: who waits for acknowledgements that do not come waits no longer than its context says, and the
// stream goes on.
func TestFlushIsCalledOff(t *testing.T) {
	w := newWorld(t)
	r := w.Room("flushed", ledger.DefaultPolicy())
	p := w.begin(r)
	js, err := jetstream.New(w.Node.Links().Store)
	w.Must(err)
	w.Must(js.DeleteStream(w.Ctx, bus.StreamName(r.ID))) // so that nothing is acknowledged
	w.Must(p.Publish([]byte("text")))
	p.mu.Lock()
	for p.busy || p.out.Waiting() > 0 { // nothing else wakes who waits once it was sent
		p.wake.Wait()
	}
	p.mu.Unlock()
	over, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	ctx, flushed := &looked{Context: over, at: make(chan struct{})}, make(chan error)
	go func() { flushed <- p.Flush(ctx) }()
	<-ctx.at
	p.mu.Lock() // it has this until it waits
	cancel()
	p.mu.Unlock()
	if err := <-flushed; !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v, want %v", err, context.Canceled)
	}
	if !p.Usable() {
		t.Error("the stream takes no more")
	}
	p.Discard()
	p.wait.Wait()
}
