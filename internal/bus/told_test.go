package bus

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// stored is what a room has stored, by the word of the servers.
func (p *peered) stored(room crypto.ID) (*store.Stream, error) {
	p.Helper()
	past, err := NewPast(p.server.Links.Store)
	if err != nil {
		p.Fatal(err)
	}
	defer past.Close()
	return past.Stored(p.Context(), room)
}

// publish has a room's stream keep something under a subject.
func (p *peered) publish(subject, data string) {
	p.Helper()
	js, err := jetstream.New(p.server.Links.Store)
	if err == nil {
		_, err = js.Publish(p.Context(), subject, []byte(data))
	}
	if err != nil {
		p.Fatal(err)
	}
}

// TestWhoStored: of what a room has stored is told how much there is, since when and until when, and of each who has sent some of
// it how many frames, and when the last; by key, and of nobody whose subject names no key.
func TestWhoStored(t *testing.T) {
	p := newPeered(t)
	room, alice, bob := crypto.ID{2}, identity(t, 1).Key(), identity(t, 2).Key()
	if _, err := p.stored(room); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("without a stream: got %v, want %v", err, store.ErrNotFound)
	}
	p.storing(room)
	s, err := p.stored(room)
	if err != nil || s.First != 1 || s.Last != 0 || s.Frames != 0 || s.Began != nil || s.Time != nil || len(s.Writers) > 0 {
		t.Fatalf("of an empty room: got %+v, %v", s, err)
	}
	for i, sender := range []crypto.PublicKey{bob, alice, bob} {
		p.publish(StoredSubject(room, sender), fmt.Sprint(i))
	}
	p.publish(StoredSubject(room, alice)[:len(StoredSubject(room, alice))-1], "of nobody")
	if s, err = p.stored(room); err != nil || s.First != 1 || s.Last != 4 || s.Frames != 4 || s.Bytes == 0 {
		t.Fatalf("got %+v, %v", s, err)
	}
	first, second := alice, bob
	if alice.String() > bob.String() {
		first, second = bob, alice
	}
	frames := map[crypto.PublicKey]uint64{alice: 1, bob: 2}
	if len(s.Writers) != 2 || s.Writers[0].Endpoint != first || s.Writers[1].Endpoint != second {
		t.Fatalf("writers are %+v", s.Writers)
	}
	last := map[crypto.PublicKey]*time.Time{}
	for _, w := range s.Writers {
		last[w.Endpoint] = w.Time
		if w.Frames != frames[w.Endpoint] || w.Time == nil {
			t.Errorf("of one are %d frames, the last at %v, want %d", w.Frames, w.Time, frames[w.Endpoint])
		}
	}
	if last[alice] == nil || last[bob] == nil || s.Began == nil || s.Time == nil {
		t.Fatal("some times are not told")
	}
	if !s.Began.Before(*last[alice]) || !last[alice].Before(*last[bob]) || !last[bob].Before(*s.Time) {
		t.Errorf("began %v, alice %v, bob %v, until %v", s.Began, last[alice], last[bob], s.Time)
	}
}

// TestStillLooking: a service is still at its first look at streams, or at their files, while nothing hinders it; what hinders it
// is no look, and one that is not its own to make is none.
func TestStillLooking(t *testing.T) {
	for _, c := range []struct {
		name             string
		status           Status
		looking, reading bool
	}{
		{"begun", Status{Unseen: true, Reads: true}, true, true},
		{"of nothing", Status{}, false, false},
		{"full", Status{Unseen: true, Full: true}, false, false},
		{"tried in vain", Status{Unseen: true, Tried: true}, false, false},
		{"seen", Status{Tried: true}, false, false},
		{"of files that others read", Status{Unread: ""}, false, false},
		{"of files that cannot be read", Status{Reads: true, Unread: "no permission"}, false, false},
		{"read", Status{Reads: true, Looked: true}, false, false},
	} {
		if looking, reading := c.status.Looking(), c.status.Reading(); looking != c.looking || reading != c.reading {
			t.Errorf("%s: looking %v, reading %v, want %v, %v", c.name, looking, reading, c.looking, c.reading)
		}
	}
}
