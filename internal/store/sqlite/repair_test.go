package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file damages the views of a store, as only a disk does, and has them mended from the logs.

// TestHeal: a room whose record a disk lost, or has of earlier, is behind its log until it is healed; a log that is not
// behind is left as it is, and one that is not there is no error.
func TestHeal(t *testing.T) {
	s, bus := founded(t, filepath.Join(t.TempDir(), "bus.db"))
	state, c := newRoom(t, bus)
	if err := s.Append(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	want, err := s.Room(t.Context(), state.ID)
	if err != nil {
		t.Fatal(err)
	}
	behind := func(n int) {
		t.Helper()
		if list, err := s.Behind(t.Context()); err != nil || len(list) != n {
			t.Errorf("%d logs are ahead of their views, want %d (%v)", len(list), n, err)
		}
	}
	behind(0)
	for _, damage := range []string{`DELETE FROM rooms`, `UPDATE rooms SET seq = 0, subject = 'another'`} {
		damaged(t, s, damage)
		behind(1)
		for _, log := range []crypto.ID{state.ID, state.ID, bus.ID, {1}} {
			if err := s.Heal(t.Context(), log); err != nil {
				t.Errorf("%s: heal: %v", damage, err)
			}
		}
		behind(0)
		if got, err := s.Room(t.Context(), state.ID); err != nil || got.Subject != want.Subject || got.Seq != want.Seq || got.Members != want.Members {
			t.Errorf("%s: healed to %+v, %v", damage, got, err)
		}
	}
	damaged(t, s, `DELETE FROM rooms`)
	damaged(t, s, `UPDATE entries SET statement = x'00' WHERE log NOT IN (SELECT log FROM bus)`)
	if err := s.Heal(t.Context(), state.ID); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("views of a damaged log: %v", err)
	}
}

// TestStrays: records of rooms that have no log, as only damage leaves them, are counted, and go when the views of the bus
// are written anew, or when a room that has a log needs their subject.
func TestStrays(t *testing.T) {
	s, bus := founded(t, filepath.Join(t.TempDir(), "bus.db"))
	state, c := newRoom(t, bus)
	if err := s.Append(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	strays := func(want int) {
		t.Helper()
		if n, err := s.Differs(t.Context(), bus); n != want || err != nil {
			t.Errorf("%d records of no log, want %d (%v)", n, want, err)
		}
	}
	rebuild := func(of *ledger.State, want int) {
		t.Helper()
		if wrong, err := s.Differs(t.Context(), of); wrong != want || err != nil {
			t.Errorf("%d records differ, want %d (%v)", wrong, want, err)
		}
		if wrong, err := s.Rebuild(t.Context(), of); wrong != want || err != nil {
			t.Errorf("%d records were wrong, want %d (%v)", wrong, want, err)
		}
	}
	strays(0)
	damaged(t, s, `UPDATE rooms SET id = x'01'`)
	damaged(t, s, `UPDATE members SET room = x'01'`)
	damaged(t, s, `UPDATE epochs SET room = x'01'`)
	strays(3)
	rebuild(state, 3)
	strays(2) // the record with its subject had to go
	rebuild(bus, 2)
	strays(0)
	rebuild(bus, 0)
	rebuild(state, 0)
}

// TestUnrecorded: a log of which nothing beside the file says what was acknowledged is counted, until a person takes what is
// there for that.
func TestUnrecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	s, bus := founded(t, path)
	_, c := newRoom(t, bus)
	if err := s.Append(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	unrecorded := func(want int) {
		t.Helper()
		if n, err := s.Unrecorded(t.Context()); n != want || err != nil {
			t.Errorf("%d logs are not recorded, want %d (%v)", n, want, err)
		}
	}
	unrecorded(0)
	if err := os.Remove(headsFile(path)); err != nil {
		t.Fatal(err)
	}
	unrecorded(2)
	if err := s.ResetHeads(t.Context()); err != nil {
		t.Fatal(err)
	}
	unrecorded(0)
	if err := os.WriteFile(headsFile(path), make([]byte, 2*headRecord), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unrecorded(t.Context()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a damaged record: %v", err)
	}
}

// TestIsDisk: a file that cannot be written is told from one that is held by others, and from one that is damaged.
func TestIsDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "bus.db")
	d, err := openDatabase(path, store.DefaultOpTimeout, Full)
	if err != nil {
		t.Fatal(err)
	}
	defer d.closeFiles()
	_, err = d.write.ExecContext(t.Context(), `CREATE TABLE a (b)`)
	if !IsDisk(err) || IsBusy(err) || IsDamaged(err) {
		t.Errorf("a file in a folder that is not there: %v", err)
	}
	for _, other := range []error{nil, errors.New("disk"), store.ErrUnavailable} {
		if IsDisk(other) {
			t.Errorf("%v is taken for an error of the disk", other)
		}
	}
}

// damaged makes a change that no store makes.
func damaged(t *testing.T, s *Store, statement string) {
	t.Helper()
	if _, err := s.write.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}
