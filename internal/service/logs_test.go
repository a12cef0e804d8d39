package service

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// TestAppendFails: an entry that the store did not take is not there for those who waited meanwhile, and
// who offer it again.
func TestAppendFails(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "bus.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{OpTimeout: 500 * time.Millisecond})
	must(err)
	defer s.Close()
	admin, err := crypto.NewIdentity([32]byte{'a'})
	must(err)
	bob, err := crypto.NewIdentity([32]byte{'b'})
	must(err)
	bus, err := store.Found(t.Context(), s, admin, "admin", time.Now())
	must(err)
	statement, err := bus.Next(admin, &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}}}, time.Now())
	must(err)

	l := newLogs(s)
	anything := func(*ledger.State, *ledger.Entry) error { return nil }
	waiting := l.entry(bus.ID) // as someone has it who waits for the one before
	holder, err := sql.Open("sqlite", sqlite.DSN(path, time.Second, sqlite.Full))
	must(err)
	defer holder.Close()
	tx, err := holder.BeginTx(t.Context(), nil)
	must(err)
	if _, _, err := l.append(t.Context(), bus.ID, statement, anything); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("a locked file: %v", err)
	}
	must(tx.Rollback())
	if n := waiting.state.Load().Head.Seq; n > 1 {
		t.Errorf("they are shown entry %d, which is not there", n)
	}
	l.states[bus.ID] = waiting
	place, added, err := l.append(t.Context(), bus.ID, statement, anything)
	if err != nil || added == nil {
		t.Errorf("again: %v, %v", added, err)
	}
	if h, err := store.HeadOf(t.Context(), s, bus.ID); err != nil || h.Seq != 2 || h.Hash != place.Hash {
		t.Errorf("the log ends at %v, %v", h, err)
	}
}
