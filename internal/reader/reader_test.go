package reader

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sync/semaphore"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// TestHeld: when all was received, no memory is counted as used.
func TestHeld(t *testing.T) {
	w := newWorld(t)
	r := w.Room("large", ledger.DefaultPolicy())
	w.publish(r, string(make([]byte, 3<<20)))
	s := w.read(Options{All: true, End: true}, r)
	for _, err := range s.Messages() {
		w.Must(err)
	}
	if n := s.held.Load(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
}

// TestGiven: what is given to a receiver ahead of it is bounded, and it is alone with a large message.
func TestGiven(t *testing.T) {
	s := &Reading{out: make(chan batch, maxGiven), given: semaphore.NewWeighted(givenBytes)}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	half := batch{size: batchBytes, messages: make([]Message, 1)}
	for range givenBytes / batchBytes {
		must(s.give(t.Context(), half))
	}
	if err := s.give(over, half); !errors.Is(err, context.Canceled) {
		t.Errorf("more than fits is given: %v", err)
	}
	for len(s.out) > 0 {
		s.received(<-s.out)
	}
	large := batch{size: 4 * givenBytes}
	s.held.Add(int64(large.size))
	given := make(chan error, 1)
	go func() { given <- s.give(t.Context(), large) }()
	b := <-s.out
	if s.given.TryAcquire(1) {
		t.Error("something is given beside a large message")
	}
	select {
	case <-given:
		t.Error("it is taken for received")
	default:
	}
	s.received(b)
	must(<-given)
	if n := s.held.Load(); n != 0 || !s.given.TryAcquire(givenBytes) {
		t.Errorf("%d bytes are held after that", n)
	}
}

// TestShed: a message that was given up for want of memory, and came to be whole, is no silent loss.
func TestShed(t *testing.T) {
	w := newWorld(t)
	r := w.Room("shed", ledger.DefaultPolicy())
	s := w.read(Options{}, r)
	s.held.Add(inbox.Budget) // as other rooms may
	w.publish(r, string(make([]byte, 3<<20)))
	w.publish(r, "small")
	for m, err := range s.Messages() {
		w.Must(err)
		if string(m.Body) != "small" {
			t.Errorf("%d bytes were delivered", len(m.Body))
		}
		break
	}
	if err := s.Close(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the reading ends with %v", err)
	}
}

// TestNothingNew: an answer that holds only what was read already, as one does that is asked about a frame in doubt, is
// the end of what was to be read, and not waited behind.
func TestNothingNew(t *testing.T) {
	s := &storedSource{page: []store.Frame{{Seq: 1}}, next: 2, last: 1}
	if f, err := s.Next(t.Context()); !errors.Is(err, errTrimmed) || s.next != 2 {
		t.Errorf("%v, %v, and goes on at %d", f, err, s.next)
	}
}

// TestPileIsBounded: however many senders a server invents, only so many are told apart.
func TestPileIsBounded(t *testing.T) {
	var p forgedFrames
	each := 0
	for i := range 2 * forgedSenders * (16 + 1) {
		frame := store.Frame{Sender: crypto.PublicKey{byte(i), byte(i >> 8)}}
		if !p.onlyCounts(frame) {
			each++
		}
	}
	if len(p.of) > forgedSenders+1 || each > (forgedSenders+1)*16 || p.due().IsZero() {
		t.Errorf("%d senders, %d told one by one", len(p.of), each)
	}
}
