package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// TestDamagedLast: a log whose last entry is damaged has no head, is not gone on with, and is not taken for what was
// acknowledged, and other logs are as they were.
func TestDamagedLast(t *testing.T) {
	s, bus := founded(t, filepath.Join(t.TempDir(), "bus.db"))
	room, create := newRoom(t, bus)
	if err := s.Append(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	invite := &ledger.Invite{Members: []ledger.NewMember{{Key: busMember(t), Role: ledger.RoleReader}}}
	next := storetest.Next(t, room, admin(t), invite)
	damaged(t, s, `UPDATE entries SET statement = x'00' WHERE log NOT IN (SELECT log FROM bus)`)
	for name, call := range map[string]func() error{
		"Heads":      func() error { _, err := s.Heads(t.Context(), bus.ID, create.Entry.Log); return err },
		"Append":     func() error { return s.Append(t.Context(), next) },
		"Rebuild":    func() error { _, err := s.Rebuild(t.Context(), room); return err },
		"Differs":    func() error { _, err := s.Differs(t.Context(), room); return err },
		"CheckHeads": func() error { return s.CheckHeads(t.Context()) },
	} {
		if err := call(); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: got %v, want %v", name, err, store.ErrDamaged)
		}
	}
	if heads, err := s.Heads(t.Context(), bus.ID, crypto.ID{1}); err != nil || heads[0] != bus.Head || heads[1] != (ledger.Head{}) {
		t.Errorf("the heads of others are %v, %v", heads, err)
	}
	if err := s.ResetHeads(t.Context()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("it is taken for what was acknowledged: %v", err)
	}
	if err := s.CheckHeads(t.Context()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("after that it is checked with %v, want %v", err, store.ErrDamaged)
	}
}

// TestRebuildOfAnotherState: views are written anew of the state that the log in the store has, and not of an earlier one,
// nor of a log that is not there.
func TestRebuildOfAnotherState(t *testing.T) {
	s, bus := founded(t, filepath.Join(t.TempDir(), "bus.db"))
	room, create := newRoom(t, bus)
	calls := map[string]func(context.Context, *ledger.State) (int, error){"Rebuild": s.Rebuild, "Differs": s.Differs}
	for what, call := range calls {
		if _, err := call(t.Context(), room); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of a log that is not there: got %v, want %v", what, err, store.ErrNotFound)
		}
	}
	if err := s.Append(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	earlier, _ := newRoom(t, bus)
	member := busMember(t)
	storetest.Write(t, s, room, admin(t), &ledger.Invite{Members: []ledger.NewMember{{Key: member, Role: ledger.RoleReader}}})
	for what, call := range calls {
		if _, err := call(t.Context(), earlier); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s of an earlier state: got %v, want %v", what, err, store.ErrConflict)
		}
	}
	if m, err := s.Member(t.Context(), room.ID, member); err != nil || m.Role != ledger.RoleReader {
		t.Errorf("who came since then is %+v, %v", m, err)
	}
}

// TestWatchIsNotRead: a watch that nobody reads ends all the same when it is called off, and when its store is closed.
func TestWatchIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	grown(t, path, 3)
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, end := range []string{"called off", "closed"} {
		w := newWatches(s.database)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		told, waker := make(chan store.Notice), make(chan struct{}, 1)
		waker <- struct{}{}
		w.running.Go(func() { w.run(ctx, 0, waker, told) })
		for want := range uint64(2) { // it has more to tell
			if n := <-told; n.Seq != want+1 {
				t.Errorf("told of entry %d, want %d", n.Seq, want+1)
			}
		}
		if end == "called off" {
			cancel()
			w.running.Wait()
		} else {
			w.endAll()
		}
	}
}

// TestRelaxed: of a store that does not wait for its disk nothing is recorded as acknowledged, since it may be lost, and
// one that does records its last entry of each log.
func TestRelaxed(t *testing.T) {
	for _, relaxed := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "bus.db")
		s, err := Open(t.Context(), path, Options{Relaxed: relaxed})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		if _, err := store.Found(t.Context(), s, admin(t), "admin", time.Now()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(headsFile(path))
		if recorded := err == nil && info.Size() > 0; recorded == relaxed {
			t.Errorf("relaxed %v: recorded %v, %v", relaxed, recorded, err)
		}
		if n, err := s.Unrecorded(t.Context()); err != nil || n == 1 != relaxed {
			t.Errorf("relaxed %v: %d logs are not recorded, %v", relaxed, n, err)
		}
	}
}
