package bus

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// roomStreams is a server, and what keeps the streams of rooms there as their policies say.
type roomStreams struct {
	*testing.T
	server  *Server
	js      jetstream.JetStream
	streams *Streams
}

func newRoomStreams(t *testing.T) *roomStreams {
	t.Helper()
	server, js := startServer(t, serverOptions(t))
	streams, err := NewStreams(server.Links.Store, func(context.Context) (int, error) { return 1, nil })
	if err != nil {
		t.Fatal(err)
	}
	return &roomStreams{t, server, js, streams}
}

// ensure makes a room's stream what a policy says.
func (s *roomStreams) ensure(room crypto.ID, p ledger.Policy) {
	s.Helper()
	if err := s.streams.Ensure(s.Context(), room, says(p)); err != nil {
		s.Fatal(err)
	}
}

// publish stores a message in a room.
func (s *roomStreams) publish(room crypto.ID) {
	s.Helper()
	if _, err := s.js.Publish(s.Context(), StoredSubject(room, crypto.PublicKey{1}), nil); err != nil {
		s.Fatal(err)
	}
}

// holds is how many messages a room's stream has.
func (s *roomStreams) holds(room crypto.ID) uint64 {
	s.Helper()
	stream, err := s.js.Stream(s.Context(), StreamName(room))
	if err != nil {
		s.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

// says is a log that has a policy, whenever it is asked.
func says(p ledger.Policy) Logged {
	return func(context.Context) (ledger.Policy, error) { return p, nil }
}

// policies are of a room that stores messages, and of one that does not.
func policies() (stored, live ledger.Policy) {
	stored, live = ledger.DefaultPolicy(), ledger.DefaultPolicy()
	live.Retain = nil
	return stored, live
}

// TestEmptiedTooLate: what is stored after a room began to store messages again stays, however late a service comes to
// empty its stream of what was there before.
func TestEmptiedTooLate(t *testing.T) {
	s := newRoomStreams(t)
	stored, live := policies()
	for name, c := range map[string]struct {
		then []ledger.Policy // that it has, each time that it is asked; before the second a message comes
		left uint64
	}{
		"stored again at once": {[]ledger.Policy{live, stored}, 3},
		"stored again":         {[]ledger.Policy{live, live, stored}, 1},
		"not stored":           {[]ledger.Policy{live, live, live}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := &roomStreams{t, s.server, s.js, s.streams}
			room := crypto.ID{byte(c.left)}
			s.ensure(room, stored)
			s.publish(room)
			s.publish(room)
			asked := 0
			err := s.streams.Ensure(t.Context(), room, func(context.Context) (ledger.Policy, error) {
				if asked++; asked == 2 {
					s.publish(room)
				}
				return c.then[asked-1], nil
			})
			if err != nil || asked != len(c.then) {
				t.Fatalf("%v, asked %d times", err, asked)
			}
			if n := s.holds(room); n != c.left {
				t.Errorf("%d messages are left, want %d", n, c.left)
			}
			s.ensure(room, live)
			if n := s.holds(room); n != 0 {
				t.Errorf("it is not emptied: %d messages", n)
			}
		})
	}
}
