package ledger

import (
	"bytes"
	"testing"
)

// apply has s say what it does once a statement stands, if it may.
func apply(s *State, statement []byte) (*Entry, error) {
	e, err := s.Check(statement)
	if err == nil {
		*s = *s.With(e)
	}
	return e, err
}

func snapshotOf(t *testing.T, s *State) []byte {
	t.Helper()
	if s.Head.Seq == 0 {
		return nil
	}
	b, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// histories are a bus and a room in which every op occurs.
var histories = map[string]string{
	"bus": `
		alice found alice
		alice add bob:user carol:user dave:user
		alice user bob:admin
		bob   revoke carol
		alice user bob:user
		alice add carol:user
		alice revoke bob`,
	"room": `
		alice create x live
		alice invite bob:member carol:reader
		alice role bob:owner
		alice role bob:member
		alice remove carol rekey
		bob   leave
		alice rekey
		alice policy joined rekey:noprev
		alice policy anew
		alice invite dave:member rekey
		alice archive`,
}

// TestStateIsAValue: whatever is folded onto a state, it says what it did before, also when it is continued in two ways,
// or by a Fold that has given it away.
func TestStateIsAValue(t *testing.T) {
	for name, text := range histories {
		t.Run(name, func(t *testing.T) {
			var statements [][]byte
			watch(t, text, func(_ *State, e *Entry) { statements = append(statements, e.Statement) })
			var f Fold
			states, want := []*State{f.State()}, [][]byte{nil}
			for _, statement := range statements {
				if _, err := f.Add(statement); err != nil {
					t.Fatal(err)
				}
				states, want = append(states, f.State()), append(want, snapshotOf(t, f.State()))
			}
			for i, s := range states[:len(statements)] {
				e, err := s.Check(statements[i])
				if err != nil {
					t.Fatal(err)
				}
				one, two := s.With(e), s.With(e)
				if i+1 < len(statements) {
					further, err := one.Check(statements[i+1])
					if err != nil {
						t.Fatal(err)
					}
					one.With(further)
				}
				if !bytes.Equal(snapshotOf(t, one), want[i+1]) || !bytes.Equal(snapshotOf(t, two), want[i+1]) {
					t.Errorf("entry %d does not fold to the same, or what followed it changed that", e.Seq)
				}
			}
			for i, s := range states {
				if !bytes.Equal(snapshotOf(t, s), want[i]) {
					t.Errorf("the state at entry %d has changed", i)
				}
			}
		})
	}
}

// TestFoldKeeps: a statement that breaks a rule leaves a Fold as it was.
func TestFoldKeeps(t *testing.T) {
	var f Fold
	if f.Head() != (Head{}) || f.State().Head != (Head{}) {
		t.Error("an empty Fold has a head")
	}
	s := watch(t, "alice create x\nalice invite bob:member", func(*State, *Entry) {})
	g := s.Fold()
	if _, err := g.Add([]byte("rubbish")); err == nil || g.State() != s || g.Head() != s.Head {
		t.Errorf("%v: %v, want %v", err, g.Head(), s.Head)
	}
}

// TestEntryWords: every op reads as something, or its name says it all.
func TestEntryWords(t *testing.T) {
	want := map[string][]string{
		"bus": {
			"the bus, with alice as its first admin", "bob (user), carol (user), dave (user)", "bob is now admin", "carol",
			"bob is now user", "carol (user)", "bob",
		},
		"room": {
			"x: encryption e2e; history shared; stores nothing", "bob (member), carol (reader)", "bob is now owner", "bob is now member",
			"carol; epoch 2", "", "epoch 3", "encryption e2e; history joined; stores nothing; epoch 4",
			"encryption e2e; history joined; stores nothing; what is stored begins anew", "dave (member); epoch 5", "",
		},
	}
	for kind, text := range histories {
		watch(t, text, func(_ *State, e *Entry) {
			if got := e.Words(nameOf); got != want[kind][e.Seq-1] {
				t.Errorf("%s: %q, want %q", e.Op, got, want[kind][e.Seq-1])
			}
		})
	}
}

// TestPolicyCopy: whoever changes a copy of a policy changes no state.
func TestPolicyCopy(t *testing.T) {
	p := DefaultPolicy()
	q := p.Copy()
	q.Retain.Age = 1
	q.Pad = true
	if *p.Retain != *DefaultPolicy().Retain || p.Pad {
		t.Errorf("%v", p)
	}
	p.Retain = nil
	if p.Copy().Retain != nil {
		t.Error("a policy that stores nothing does")
	}
}
