package bus

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
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

// config is the configuration that a room's stream has.
func (s *roomStreams) config(room crypto.ID) jetstream.StreamConfig {
	s.Helper()
	stream, err := s.js.Stream(s.Context(), StreamName(room))
	if err != nil {
		s.Fatal(err)
	}
	return stream.CachedInfo().Config
}

// TestEnsure: a room that stores messages has a stream as its policy says, and one that does not is not given any.
func TestEnsure(t *testing.T) {
	s := newRoomStreams(t)
	stored, live := policies()
	room := crypto.ID{1}
	s.ensure(room, live)
	if _, err := s.js.Stream(t.Context(), StreamName(room)); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("a room that stores nothing: %v", err)
	}
	if any, err := s.streams.Any(t.Context()); any != "" || err != nil {
		t.Errorf("there is the stream %q, %v", any, err)
	}
	s.ensure(room, stored)
	if d := Deviations(s.config(room), StreamForm(room, stored)); len(d) > 0 {
		t.Errorf("it is made with other %v", d)
	}
	if any, err := s.streams.Any(t.Context()); any != StreamName(room) || err != nil {
		t.Errorf("there is the stream %q, %v", any, err)
	}
	smaller := stored
	smaller.Retain = &ledger.Retain{Age: 30, Bytes: 1 << 20}
	s.ensure(room, smaller)
	if c := s.config(room); c.MaxBytes != 1<<20 || c.MaxAge != 30*time.Second || c.Duplicates != 30*time.Second {
		t.Errorf("it is changed to %d bytes, %v, %v", c.MaxBytes, c.MaxAge, c.Duplicates)
	}
	unread := errors.New("the log is not read")
	fails := func(context.Context) (ledger.Policy, error) { return ledger.Policy{}, unread }
	if err := s.streams.Ensure(t.Context(), room, fails); !errors.Is(err, unread) {
		t.Errorf("without its log: %v", err)
	}
	noReplicas, err := NewStreams(s.server.Links.Store, func(context.Context) (int, error) { return 0, store.ErrUnavailable })
	if err != nil {
		t.Fatal(err)
	}
	if err := noReplicas.Ensure(t.Context(), crypto.ID{2}, says(stored)); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without a number of copies: %v", err)
	}
	s.server.Links.Store.Close()
	if err := s.streams.Ensure(t.Context(), room, says(stored)); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("over a closed connection: %v", err)
	}
	if err := s.streams.Ensure(t.Context(), room, says(live)); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("over a closed connection: %v", err)
	}
}

// TestEnsureListed: what the store lists tells whether there is something to do, and the log what.
func TestEnsureListed(t *testing.T) {
	s := newRoomStreams(t)
	stored, live := policies()
	smaller := stored
	smaller.Retain = &ledger.Retain{Bytes: 1 << 20}
	room := crypto.ID{1}
	asked := 0
	for _, c := range []struct {
		what           string
		listed, logged ledger.Policy
		asked          int
		stored         bool // there is a stream then
		bytes          int64
	}{
		{"it stores nothing", live, live, 0, false, 0},
		{"it stores by now", stored, stored, 1, true, -1},
		{"nothing changed", stored, stored, 0, true, -1},
		{"it is smaller by now", smaller, smaller, 1, true, 1 << 20},
		{"what is listed is old", stored, smaller, 1, true, 1 << 20},
		{"it stores nothing any more, and is empty", live, live, 0, true, 1 << 20},
	} {
		asked = 0
		err := s.streams.EnsureListed(t.Context(), room, c.listed, func(context.Context) (ledger.Policy, error) { asked++; return c.logged, nil })
		if err != nil || asked != c.asked {
			t.Errorf("%s: asked %d times, %v", c.what, asked, err)
		}
		if c.stored {
			if n := s.config(room).MaxBytes; n != c.bytes && c.bytes > 0 {
				t.Errorf("%s: %d bytes", c.what, n)
			}
		}
	}
	s.publish(room)
	if err := s.streams.EnsureListed(t.Context(), room, live, says(live)); err != nil || s.holds(room) != 0 {
		t.Errorf("it is not emptied: %v", err)
	}
	s.server.Links.Store.Close()
	if err := s.streams.EnsureListed(t.Context(), room, stored, says(stored)); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("over a closed connection: %v", err)
	}
	if _, err := s.streams.Any(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("over a closed connection: %v", err)
	}
}

// TestHolds: a stream holds something when there is a message in it.
func TestHolds(t *testing.T) {
	s := newRoomStreams(t)
	stored, _ := policies()
	room := crypto.ID{1}
	holds := func(want bool) {
		t.Helper()
		if got, err := s.streams.Holds(t.Context(), StreamName(room)); got != want || err != nil {
			t.Errorf("%v, %v", got, err)
		}
	}
	holds(false)
	s.ensure(room, stored)
	holds(false)
	s.publish(room)
	holds(true)
	s.server.Links.Store.Close()
	if _, err := s.streams.Holds(t.Context(), StreamName(room)); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("over a closed connection: %v", err)
	}
}

// TestEarlierBuild: a stream whose messages stand under other subjects is not touched.
func TestEarlierBuild(t *testing.T) {
	s := newRoomStreams(t)
	stored, _ := policies()
	room := crypto.ID{1}
	if _, err := s.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: StreamName(room), Subjects: []string{"unibus.old.>"}}); err != nil {
		t.Fatal(err)
	}
	if err := s.streams.Ensure(t.Context(), room, says(stored)); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if c := s.config(room); c.Subjects[0] != "unibus.old.>" {
		t.Errorf("it has the subjects %v now", c.Subjects)
	}
}

// TestCurrent: a stream is current when there are all the copies that it is to have, and each follows a leader.
func TestCurrent(t *testing.T) {
	peer := func(current, offline bool) *jetstream.PeerInfo {
		return &jetstream.PeerInfo{Current: current, Offline: offline}
	}
	of := func(replicas int, leader string, peers ...*jetstream.PeerInfo) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: replicas}, Cluster: &jetstream.ClusterInfo{Leader: leader, Replicas: peers}}
	}
	for what, c := range map[string]struct {
		info *jetstream.StreamInfo
		want bool
	}{
		"alone":            {&jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: 1}}, true},
		"alone, to be 3":   {&jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: 3}}, false},
		"all follow":       {of(3, "a", peer(true, false), peer(true, false)), true},
		"no leader":        {of(3, "", peer(true, false), peer(true, false)), false},
		"one is missing":   {of(3, "a", peer(true, false)), false},
		"one lags":         {of(3, "a", peer(true, false), peer(false, false)), false},
		"one is not there": {of(3, "a", peer(true, false), peer(true, true)), false},
	} {
		if Current(c.info) != c.want {
			t.Errorf("%s: %v", what, !c.want)
		}
	}
}
