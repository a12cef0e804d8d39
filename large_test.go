package unibus

import (
	"bytes"
	"errors"
	"slices"
	"testing"
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
		})
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
