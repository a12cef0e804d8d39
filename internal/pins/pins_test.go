package pins

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, path string) *Pins {
	t.Helper()
	p, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// states are those of one log after each of its entries.
func states(t *testing.T, names ...string) []*ledger.State {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	var log [][]byte
	var out []*ledger.State
	next := func(body ledger.Body) {
		s, err := ledger.Fold(log)
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Next(id, body, time.UnixMilli(1))
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, e)
		if s, err = ledger.Fold(log); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	next(&ledger.Found{Name: "alice", Key: id.Key()})
	for i, name := range names {
		user, err := crypto.NewIdentity([32]byte{2, byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		next(&ledger.Add{Users: []ledger.NewUser{{Key: user.Key(), Name: name, Role: ledger.RoleUser}}})
	}
	return out
}

func TestAdvance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x", "pins.db")
	p, other := open(t, path), open(t, path) // another process
	s := states(t, "bob", "carol")
	forked := states(t, "bob", "mallory")
	log := s[0].ID
	if empty, err := p.State(t.Context(), log); err != nil || empty.Head.Seq != 0 {
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
		if err := step.pins.Advance(t.Context(), step.state); !errors.Is(err, step.want) {
			t.Errorf("to %d: %v", step.state.Head.Seq, err)
		}
		got, err := other.State(t.Context(), log)
		if err != nil || got.Head.Seq != step.seq {
			t.Errorf("pinned at %d, want %d (%v)", got.Head.Seq, step.seq, err)
		}
	}
}

func TestMeanings(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "pins.db"))
	ctx, bus, room, key := t.Context(), crypto.ID{1}, crypto.ID{2}, crypto.PublicKey{3}
	steps := []func() error{
		func() error { return p.PinServer(ctx, "nats://a", bus) },
		func() error { return p.PinName(ctx, bus, "bob", key, false) },
		func() error { return p.PinSubject(ctx, bus, "ops", room, false) },
	}
	for i, pin := range append(steps, steps...) { // again the same is fine
		if err := pin(); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	for i, err := range []error{
		p.PinServer(ctx, "nats://a", crypto.ID{9}), p.PinName(ctx, bus, "bob", crypto.PublicKey{9}, false), p.PinSubject(ctx, bus, "ops", crypto.ID{9}, false),
	} {
		if !errors.Is(err, ErrContradiction) {
			t.Errorf("another meaning %d: %v", i, err)
		}
	}
	if id, err := p.Server(ctx, "nats://a"); err != nil || id != bus {
		t.Errorf("%v, %v", id, err)
	}
	if id, err := p.Server(ctx, "nats://b"); err != nil || !id.IsZero() {
		t.Errorf("%v, %v", id, err)
	}
	if err := p.PinSubject(ctx, bus, "ops", crypto.ID{9}, true); err != nil {
		t.Error(err)
	}
	if id, err := p.Subject(ctx, bus, "ops"); err != nil || id != (crypto.ID{9}) {
		t.Errorf("confirmed, it means %v, %v", id, err)
	}
	if id, err := p.Subject(ctx, crypto.ID{8}, "ops"); err != nil || !id.IsZero() {
		t.Errorf("on another bus it means %v, %v", id, err)
	}
	if v, err := p.Setting(ctx, "s"); v != "" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if err := errors.Join(p.Set(ctx, "s", "1"), p.Set(ctx, "s", "2")); err != nil {
		t.Error(err)
	}
	if v, err := p.Setting(ctx, "s"); v != "2" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if s, err := p.Unanswered(ctx, room); s != nil || err != nil {
		t.Errorf("%x, %v", s, err)
	}
	if err := p.Offering(ctx, room, []byte("entry")); err != nil {
		t.Error(err)
	}
	if s, err := p.Unanswered(ctx, room); !bytes.Equal(s, []byte("entry")) || err != nil {
		t.Errorf("%x, %v", s, err)
	}
	if err := p.Answered(ctx, room); err != nil {
		t.Error(err)
	}
	if s, err := p.Unanswered(ctx, room); s != nil || err != nil {
		t.Errorf("%x, %v", s, err)
	}
}

// TestMany: many processes on one file lose nothing and wait for one another.
func TestMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	s := states(t, "bob", "carol", "dave")
	var wait sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wait.Go(func() {
			p, err := Open(t.Context(), path)
			if err != nil {
				errs[i] = err
				return
			}
			errs[i] = errors.Join(p.Advance(t.Context(), s[i%len(s)]), p.Set(t.Context(), fmt.Sprint(i), "x"), p.Close())
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	p := open(t, path)
	if got, err := p.State(t.Context(), s[0].ID); err != nil || got.Head != s[3].Head {
		t.Errorf("%v, %v", got.Head, err)
	}
}
