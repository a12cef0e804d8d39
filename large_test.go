package unibus

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sync/semaphore"

	"github.com/unibus/unibus/internal/inbox"
)

// TestLargeMessages: a message that came in several frames is whole, joined or in parts, in its order.
func TestLargeMessages(t *testing.T) {
	w := found(t)
	must := orFatal(t)
	room, err := w.c.CreateRoom(w.ctx, "room", DefaultPolicy())
	must(err)
	large := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	sent := [][]byte{[]byte("small"), large, []byte("between"), large[:3<<20], []byte("last")}
	p, err := room.Publisher(w.ctx)
	must(err)
	for _, body := range sent {
		must(p.Publish(body))
	}
	must(p.Close(w.ctx))
	for name, o := range map[string]SubscribeOptions{
		"joined": {All: true, End: true}, "parts": {All: true, End: true, Parts: true}, "the last": {Last: len(sent), End: true},
	} {
		t.Run(name, func(t *testing.T) {
			must := orFatal(t)
			s, err := room.Subscribe(w.ctx, o)
			must(err)
			var got [][]byte
			for m, err := range s.Messages() {
				must(err)
				if in := len(m.Parts) > 0; in != (o.Parts && len(m.Body) == 0) || in && m.Body != nil {
					t.Errorf("%d parts beside a body of %d bytes", len(m.Parts), len(m.Body))
				}
				got = append(got, slices.Concat(append(m.Parts, m.Body)...))
			}
			if !slices.EqualFunc(got, sent, bytes.Equal) {
				t.Errorf("%d messages are not those that were sent", len(got))
			}
			if n := s.held.Load(); n != 0 {
				t.Errorf("%d bytes are held when all was received", n)
			}
		})
	}
}

// TestGiven: what is given to a receiver ahead of it is bounded, and it is alone with a large message.
func TestGiven(t *testing.T) {
	s := &Subscription{out: make(chan batch, maxGiven), given: semaphore.NewWeighted(givenBytes)}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	must := orFatal(t)
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
	w := found(t)
	must := orFatal(t)
	room, err := w.c.CreateRoom(w.ctx, "room", DefaultPolicy())
	must(err)
	s, err := room.Subscribe(w.ctx, SubscribeOptions{})
	must(err)
	s.held.Add(inbox.Budget) // as other rooms may
	must(room.PublishOnce(w.ctx, make([]byte, 3<<20)))
	must(room.PublishOnce(w.ctx, []byte("small")))
	for m, err := range s.Messages() {
		must(err)
		if string(m.Body) != "small" {
			t.Errorf("%d bytes were delivered", len(m.Body))
		}
		break
	}
	if err := s.Close(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the subscription ends with %v", err)
	}
}

// TestHalfOfTheRoom: a message that a room would begin to forget before it is whole is refused, and what expires behind
// those that it takes is no finding, however few they are.
func TestHalfOfTheRoom(t *testing.T) {
	w := found(t)
	must := orFatal(t)
	policy := DefaultPolicy()
	policy.Retain.Age, policy.Retain.Bytes = 0, 1<<20
	room, err := w.c.CreateRoom(w.ctx, "room", policy)
	must(err)
	if err := room.PublishOnce(w.ctx, make([]byte, 1<<19+1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("more than half of it: %v", err)
	}
	for n := range 6 {
		must(room.PublishOnce(w.ctx, make([]byte, 1<<19-n)))
	}
	s, err := room.Subscribe(w.ctx, SubscribeOptions{All: true, End: true})
	must(err)
	read := 0
	for _, err := range s.Messages() {
		must(err)
		read++
	}
	if read == 0 {
		t.Error("nothing is left")
	}
}
