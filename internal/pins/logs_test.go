package pins

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

func TestAdvance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x", "pins.db")
	p, other := open(t, path), open(t, path) // another process
	s := states(t, "bob", "carol")
	forked := states(t, "bob", "mallory")
	log := s[0].ID
	if empty, err := p.Logs.State(t.Context(), log); err != nil || empty.Head.Seq != 0 {
		t.Fatalf("%v, %v", empty, err)
	}
	for _, step := range []struct {
		pins  *Pins
		state *ledger.State
		want  error
		seq   uint64
	}{
		{p, s[0], nil, 1},
		{other, s[1], nil, 2},
		{p, s[0], nil, 2}, // behind: nothing moves back
		{p, s[1], nil, 2},
		{p, s[2], nil, 3},
		{other, forked[2], ErrContradiction, 3},
		{other, forked[1], nil, 3}, // the same history so far
	} {
		if err := step.pins.Logs.Advance(t.Context(), step.state); !errors.Is(err, step.want) {
			t.Errorf("to %d: %v", step.state.Head.Seq, err)
		}
		got, err := other.Logs.State(t.Context(), log)
		if err != nil || got.Head.Seq != step.seq {
			t.Errorf("pinned at %d, want %d (%v)", got.Head.Seq, step.seq, err)
		}
	}
}

// TestPinsSubject: pinning a room has its subject mean it, unless it means another: then a log that is new is refused, and one that
// was pinned goes on; a subject that was freed, or is given to a room, is that room's.
func TestPinsSubject(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "pins.db"))
	id, err := crypto.NewIdentity([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	room := func(nonce byte) *ledger.State {
		var fold ledger.Fold
		entry, err := new(ledger.State).Next(id, &ledger.Create{Bus: crypto.ID{1}, Subject: "ops", Policy: ledger.Policy{Encryption: "none", History: "shared"}, Nonce: bytes.Repeat([]byte{nonce}, 16)}, time.Unix(1, 0))
		if err == nil {
			_, err = fold.Add(entry)
		}
		if err != nil {
			t.Fatal(err)
		}
		return fold.State()
	}
	means := func(want crypto.ID) {
		t.Helper()
		if got, err := p.Subjects.Room(t.Context(), crypto.ID{1}, "ops"); err != nil || got != want {
			t.Errorf("it means %s, not %s (%v)", got, want, err)
		}
	}
	first, second := room(1), room(2)
	if err := p.Logs.Advance(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	means(first.ID)
	var taken *SubjectTaken
	if err := p.Logs.Advance(t.Context(), second); !errors.As(err, &taken) || !errors.Is(err, ErrContradiction) || taken.Room != first.ID {
		t.Errorf("another is pinned: %v", err)
	}
	if s, err := p.Logs.State(t.Context(), second.ID); err != nil || s.Head.Seq != 0 {
		t.Errorf("and stays: %+v, %v", s.Head, err)
	}
	for _, to := range []crypto.ID{{}, second.ID} { // freed, or given
		if err := p.Subjects.Replace(t.Context(), crypto.ID{1}, "ops", to); err != nil {
			t.Fatal(err)
		}
		if err := p.Logs.Advance(t.Context(), second); err != nil {
			t.Errorf("it is not pinned: %v", err)
		}
		means(second.ID)
	}
	if err := p.Logs.Return(t.Context(), first); err != nil {
		t.Errorf("one that was pinned does not go on: %v", err)
	}
	means(second.ID)
}
