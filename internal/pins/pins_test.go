package pins

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens the pins at a path for as long as a test runs.
func open(t *testing.T, path string) *Pins {
	t.Helper()
	p, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// newPins are those of a test, which remember nothing.
func newPins(t *testing.T) *Pins { return open(t, filepath.Join(t.TempDir(), "pins.db")) }

// statements are the entries of a bus log, which names are added to one after the other.
func statements(t *testing.T, names ...string) (log [][]byte) {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	add := func(body ledger.Body) {
		t.Helper()
		s, err := ledger.Verify(log)
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Next(id, body, time.UnixMilli(1))
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, e)
	}
	add(&ledger.Found{Name: "alice", Key: id.Key()})
	for i, name := range names {
		user, err := crypto.NewIdentity([32]byte{2, byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		add(&ledger.Add{Users: []ledger.NewUser{{Key: user.Key(), Name: name, Role: ledger.RoleUser}}})
	}
	return log
}

// states are those of such a log after each of its entries.
func states(t *testing.T, names ...string) (all []*ledger.State) {
	t.Helper()
	var fold ledger.Fold
	for _, e := range statements(t, names...) {
		if _, err := fold.Add(e); err != nil {
			t.Fatal(err)
		}
		all = append(all, fold.State())
	}
	return all
}

// TestOwner: what another identity verified is not taken for one's own.
func TestOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	for i, v := range []struct {
		owner crypto.PublicKey
		want  error
	}{{crypto.PublicKey{1}, nil}, {crypto.PublicKey{1}, nil}, {crypto.PublicKey{2}, ErrDamaged}, {crypto.PublicKey{1}, nil}} {
		if err := open(t, path).CheckOwner(t.Context(), v.owner); !errors.Is(err, v.want) {
			t.Errorf("%d: %v, want %v", i, err, v.want)
		}
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
			errs[i] = errors.Join(p.Logs.Advance(t.Context(), s[i%len(s)]), p.Settings.Set(t.Context(), fmt.Sprint(i), "x"), p.Close())
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	p := open(t, path)
	if got, err := p.Logs.State(t.Context(), s[0].ID); err != nil || got.Head != s[3].Head {
		t.Errorf("%v, %v", got.Head, err)
	}
}

// TestDurability: each change is written as it is to be, whatever came before it on the same connection.
func TestDurability(t *testing.T) {
	p := newPins(t)
	for _, how := range []durability{durable, lax, lax, durable, lax, durable} {
		var sync int // as SQLite counts: 1 is NORMAL, 2 is FULL
		err := p.db.change(t.Context(), how, func(tx *sql.Tx) error { return tx.QueryRow("PRAGMA synchronous").Scan(&sync) })
		if want := map[durability]int{durable: 2, lax: 1}[how]; err != nil || sync != want {
			t.Errorf("a change that is to be written %v: synchronous is %d, want %d: %v", how, sync, want, err)
		}
	}
}

// TestBusy: a file that others hold for too long is unavailable, and nothing worse.
func TestBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	tx, err := p.db.file.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	hasty, err := openDatabase(path, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer hasty.Close()
	other := pinsOf(hasty)
	if err := other.Settings.Set(t.Context(), "name", "value"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("set: %v", err)
	}
}

// TestNotKept: a folder that cannot be written, or is none, is unavailable; nothing is read in its place.
func TestNotKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), filepath.Join(file, "pins.db")); !errors.Is(err, ErrNotKept) {
		t.Errorf("below a file: %v", err)
	}
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	for _, full := range []string{"PRAGMA max_page_count = 1", "PRAGMA query_only = 1"} {
		if _, err := p.db.file.Exec(full); err != nil {
			t.Fatal(err)
		}
		if err := p.Settings.Set(t.Context(), "name", strings.Repeat("x", 1<<20)); !errors.Is(err, ErrNotKept) {
			t.Errorf("%s: %v", full, err)
		}
	}
}
