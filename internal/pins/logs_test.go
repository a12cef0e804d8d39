package pins

import (
	"errors"
	"path/filepath"
	"testing"

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
