package mirror

import (
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// TestRoomIsNamed: of a room that was verified, and that the store says is damaged, the subject is told, which people know,
// and of one that was not verified, and of another failure, what the store says is told alone.
func TestRoomIsNamed(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	id := p.room("ops.alerts").ID()
	for _, c := range []struct {
		name  string
		state string
		err   error
		named bool
	}{
		{"damaged", "state", store.ErrDamagedThere, true},
		{"unavailable", "state", store.ErrUnavailable, false},
		{"damaged, and not verified", "another state", store.ErrDamagedThere, false},
	} {
		p := w.process(w.admin, c.state)
		p.liar.heads = func([]ledger.Head) ([]ledger.Head, error) { return nil, c.err }
		err := p.open(id).Sync(t.Context())
		w.is(err, c.err)
		if named := strings.Contains(err.Error(), "ops.alerts"); named != c.named {
			t.Errorf("%s: got %q", c.name, err)
		}
	}
}

// TestSubjectOfAnother: a room that is met under a subject which means another room is a finding that names the subject, is not
// verified, and is taken once a person has said that it is meant.
func TestSubjectOfAnother(t *testing.T) {
	w := newWorld(t)
	id := w.process(w.admin, "state").room("ops").ID()
	p := w.process(w.admin, "another state")
	other := crypto.ID{7}
	w.must(p.Pins.Subjects.Pin(t.Context(), w.bus, "ops", other))
	l := p.open(id)
	err := l.Sync(t.Context())
	w.is(err, store.ErrIntegrity)
	if r := remedy.Of(err); r.Kind != remedy.ConfirmSubject || r.Room != "ops" || !strings.Contains(err.Error(), other.String()) {
		t.Errorf("got %q, remedy %+v", err, r)
	}
	if l.State().Head.Seq != 0 || l.Confirmed() {
		t.Errorf("it is verified up to entry %d", l.State().Head.Seq)
	}
	w.must(p.Pins.Subjects.Replace(t.Context(), w.bus, "ops", id))
	w.must(l.Sync(t.Context()))
	if l.State().Head.Seq != 1 {
		t.Errorf("once it is meant, it is verified up to entry %d, want 1", l.State().Head.Seq)
	}
}

// TestVerifiedByAnother: what goes on otherwise than another process of the same identity has verified meanwhile is a
// finding, and is not taken in.
func TestVerifiedByAnother(t *testing.T) {
	w := newWorld(t)
	p, other := w.process(w.admin, "state"), w.process(w.admin, "another state")
	l := p.open(w.bus)
	w.must(l.Sync(t.Context()))
	w.must(other.add("bob"))
	verified := other.open(w.bus).State()
	w.forgetting(w.bus, 1)
	w.must(w.process(w.admin, "a third state").add("carol"))
	p.liar.Store = w.store
	w.must(p.Pins.Logs.Advance(t.Context(), verified)) // as another process does that shares the state
	err := l.Sync(t.Context())
	w.is(err, store.ErrIntegrity)
	w.is(err, pins.ErrContradiction)
	if l.State().Head.Seq != 1 {
		t.Errorf("it is verified up to entry %d, want 1", l.State().Head.Seq)
	}
}

// TestOwnEntryConfirms: an entry of one's own that stands says as much of the log as asking the store does.
func TestOwnEntryConfirms(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	l := p.room("ops")
	if !l.Confirmed() {
		t.Error("a room that was just made is not confirmed")
	}
	long := time.Now().Add(-fresh)
	l.confirmed.Store(&long)
	w.must(l.Append(t.Context(), rekeying(crypto.RoomKey{2})))
	asked := p.liar.asked
	w.must(l.Confirm(t.Context()))
	if !l.Confirmed() || p.liar.asked != asked {
		t.Errorf("after an entry of one's own the store is asked %d times more", p.liar.asked-asked)
	}
}
