package admin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

// TestMigrateKilled kills a migration before each thing it writes; doing it again completes it.
func TestMigrateKilled(t *testing.T) {
	if n := os.Getenv("UNIBUS_TEST_ITEMS"); n != "" {
		kill(t, n)
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "from.db")
	from := filled(t, path)
	var whole Report
	for n := 1; ; n++ {
		target := filepath.Join(dir, fmt.Sprintf("to-%d.db", n))
		killed := storetest.Killed(t, "TestMigrateKilled", fmt.Sprintf("UNIBUS_TEST_ITEMS=%d", n), "UNIBUS_TEST_FROM="+path, "UNIBUS_TEST_TO="+target)
		to := openAt(t, target)
		if err := store.CheckWhole(t.Context(), to); killed != errors.Is(err, store.ErrUnavailable) {
			t.Errorf("killed at %d: %v", n, err)
		}
		r, err := Migrate(t.Context(), from, to, quiet)
		must(t, err)
		must(t, store.CheckWhole(t.Context(), to))
		if r.Logs != 4 || r.Entries != 11 || r.Keys != 15 || r.Cards != 1 {
			t.Fatalf("killed at %d: %+v", n, r)
		}
		if whole = r; !killed {
			if n < 20 {
				t.Errorf("only %d things were written", n)
			}
			break
		}
	}
	if whole.Missing != 0 {
		t.Errorf("after a whole migration %d logs are missing", whole.Missing)
	}
}

func kill(t *testing.T, n string) {
	limit, err := strconv.Atoi(n)
	must(t, err)
	from, to := openAt(t, os.Getenv("UNIBUS_TEST_FROM")), &mortal{Store: openAt(t, os.Getenv("UNIBUS_TEST_TO")), limit: int64(limit)}
	_, err = Migrate(t.Context(), from, to, quiet)
	must(t, err)
}

// mortal is a store whose process ends before the write that is the limit.
type mortal struct {
	*sqlite.Store
	limit  int64
	writes atomic.Int64
}

func (m *mortal) write() {
	if m.writes.Add(1) == m.limit {
		storetest.KillSelf()
	}
}

func (m *mortal) Append(ctx context.Context, c store.Change) error {
	m.write()
	return m.Store.Append(ctx, c)
}

func (m *mortal) PutCards(ctx context.Context, cards ...store.Card) error {
	m.write()
	return m.Store.PutCards(ctx, cards...)
}

func (m *mortal) CopyKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, copies []store.SealedKey) error {
	m.write()
	return m.Store.CopyKeys(ctx, room, epoch, commit, copies)
}

func (m *mortal) EndCopy(ctx context.Context) error {
	m.write()
	return m.Store.EndCopy(ctx)
}

// TestDiffers: what Migrate says is the same is the same, in each thing a store keeps.
func TestDiffers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, to *sqlite.Store, path string, rooms []*ledger.State)
		tells  string
	}{
		"a card": {func(t *testing.T, to *sqlite.Store, _ string, _ []*ledger.State) {
			card, err := identity(t, 1).Card()
			must(t, err)
			must(t, to.PutCards(t.Context(), store.Card{Endpoint: identity(t, 1).Key(), Statement: card}))
		}, "1 cards in the source, 2 in the target"},
		"a key": {func(t *testing.T, to *sqlite.Store, _ string, rooms []*ledger.State) {
			must(t, to.PutKeys(t.Context(), rooms[0].ID, 2, rooms[0].Room.Epoch().Commit, identity(t, 0).Key(), []store.SealedKey{{Endpoint: identity(t, 3).Key(), Sealed: make([]byte, crypto.SealedSize)}}))
		}, "5 sealed keys in the source, 6 in the target"},
		"a sealer": {func(t *testing.T, to *sqlite.Store, _ string, rooms []*ledger.State) {
			// As one more copy of the admin's: with the same bytes, by another.
			admin, commit := identity(t, 0).Key(), rooms[0].Room.Epoch().Commit
			copies, err := to.Key(t.Context(), rooms[0].ID, 2, admin)
			must(t, err)
			must(t, to.PutKeys(t.Context(), rooms[0].ID, 2, commit, identity(t, 1).Key(), copies))
		}, "5 sealed keys in the source, 6 in the target"},
		"a key's bytes": {func(t *testing.T, _ *sqlite.Store, path string, _ []*ledger.State) {
			change(t, path, `UPDATE room_keys SET sealed = zeroblob(length(sealed)) WHERE sealer <> endpoint`)
		}, "5 sealed keys in the source, 5 in the target, or others"},
		"a key's sealer": {func(t *testing.T, _ *sqlite.Store, path string, _ []*ledger.State) {
			change(t, path, `UPDATE room_keys SET sealer = zeroblob(32) WHERE epoch = 2 AND sealer = endpoint`)
		}, "5 sealed keys in the source, 5 in the target, or others"},
		"a key's member": {func(t *testing.T, _ *sqlite.Store, path string, _ []*ledger.State) {
			change(t, path, `UPDATE room_keys SET endpoint = zeroblob(32) WHERE epoch = 2 AND sealer = endpoint`)
		}, "5 sealed keys in the source, 5 in the target, or others"},
		"a card's bytes": {func(t *testing.T, _ *sqlite.Store, path string, _ []*ledger.State) {
			change(t, path, `UPDATE cards SET statement = zeroblob(length(statement))`)
		}, "1 cards in the source, 1 in the target, or others"},
		"an entry": {func(t *testing.T, to *sqlite.Store, _ string, rooms []*ledger.State) {
			write(t, to, rooms[0], &ledger.Archive{})
		}, "ends at entry 3 in the source, at 4 in the target"},
		"a lost entry": {func(t *testing.T, _ *sqlite.Store, path string, rooms []*ledger.State) {
			change(t, path, fmt.Sprintf(`DELETE FROM entries WHERE log = x'%x' AND seq = 3`, rooms[0].ID[:]))
		}, "ends at entry 3 in the source, at 2 in the target"},
		"a view": {func(t *testing.T, _ *sqlite.Store, path string, _ []*ledger.State) {
			change(t, path, `UPDATE members SET role = 'reader' WHERE room = (SELECT min(room) FROM members)`)
		}, " views of log "},
		"a room": {func(t *testing.T, to *sqlite.Store, _ string, rooms []*ledger.State) {
			newRoom(t, to, rooms[0].Room.Bus, "more", nil)
		}, "the target has 1 log more than the source"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "to.db")
			to := openAt(t, path)
			from, rooms := migrated(t, to)
			must(t, verifySame(t.Context(), from, to, func() {}))
			c.change(t, to, path, rooms)
			if err := verifySame(t.Context(), from, to, func() {}); !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), c.tells) {
				t.Errorf("%v, not %s", err, c.tells)
			}
		})
	}
}

// TestFork: a target whose history is another one is not touched.
func TestFork(t *testing.T) {
	to := openAt(t, filepath.Join(t.TempDir(), "to.db"))
	from, rooms := migrated(t, to)
	for i, s := range []*sqlite.Store{from, to} {
		bus, err := store.Load(t.Context(), s, rooms[0].Room.Bus)
		must(t, err)
		write(t, s, bus, &ledger.Add{Users: []ledger.NewUser{{Key: identity(t, 10+byte(i)).Key(), Name: fmt.Sprintf("n%d", i), Role: ledger.RoleUser}}})
	}
	if _, err := Migrate(t.Context(), from, to, quiet); !errors.Is(err, store.ErrConflict) {
		t.Errorf("%v", err)
	}
}

// TestMigrateGrown: a migration that is repeated brings what came since, and does not take back what the target has more.
func TestMigrateGrown(t *testing.T) {
	to := openAt(t, filepath.Join(t.TempDir(), "to.db"))
	from, rooms := migrated(t, to)
	write(t, from, rooms[0], &ledger.Archive{})
	r, err := Migrate(t.Context(), from, to, quiet)
	if err != nil || r.Missing != 1 {
		t.Errorf("an entry more: %+v, %v", r, err)
	}
	write(t, to, rooms[1], &ledger.Archive{})
	if _, err := Migrate(t.Context(), from, to, quiet); !errors.Is(err, ErrDiffers) {
		t.Errorf("the target is ahead: %v", err)
	}
	if h, err := store.HeadOf(t.Context(), to, rooms[1].ID); err != nil || h != rooms[1].Head {
		t.Errorf("the target's last entry is gone: %v, %v", h, err)
	}
}

// TestMigrateServers: what goes to servers and back is the same, and progress is told to the end.
func TestMigrateServers(t *testing.T) {
	there, back := startNode(t).open(t, 1), openAt(t, filepath.Join(t.TempDir(), "back.db"))
	from, _ := migrated(t, there)
	var steps, most, ended atomic.Int64 // how often progress was told, of how much, and how often that was all
	_, err := Migrate(t.Context(), there, back, func(done, all int64) {
		steps.Add(1)
		most.Store(all)
		if done == all {
			ended.Add(1)
		}
	})
	must(t, err)
	must(t, verifySame(t.Context(), from, back, func() {}))
	if steps.Load() != 8 || most.Load() != 8 || ended.Load() != 1 { // four logs, copied and compared
		t.Errorf("%d steps of %d, to the end %d times", steps.Load(), most.Load(), ended.Load())
	}
}

// TestSurvey: what a migration would do is counted, and nothing is written.
func TestSurvey(t *testing.T) {
	to := openAt(t, filepath.Join(t.TempDir(), "to.db"))
	from, rooms := migrated(t, to)
	write(t, from, rooms[0], &ledger.Archive{})
	empty := openAt(t, filepath.Join(t.TempDir(), "empty.db"))
	for _, c := range []struct {
		what    string
		to      store.Backend
		missing int64
	}{{"no target", nil, 4}, {"an empty target", empty, 4}, {"one that lacks an entry", to, 1}, {"itself", from, 0}} {
		r, err := Survey(t.Context(), from, c.to)
		if want := (Report{Bus: rooms[0].Room.Bus, Missing: c.missing}); err != nil || r != want {
			t.Errorf("%s: %+v, %v", c.what, r, err)
		}
	}
	if _, err := BusOf(t.Context(), empty); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("something was written: %v", err)
	}
}

// TestMigrateRefuses: a source that is not a bus by the rules is not copied any further, nor is one bus into another's
// store; both sides say which of them it is.
func TestMigrateRefuses(t *testing.T) {
	const middle = ` WHERE seq = 2 AND log = (SELECT id FROM rooms WHERE subject = 'r.1')`
	for name, c := range map[string]struct {
		statement string // that changes the source
		kind      error
		tells     string
	}{
		"a card":              {`UPDATE cards SET statement = zeroblob(length(statement))`, store.ErrDamaged, "card of "},
		"an entry":            {`UPDATE entries SET statement = zeroblob(200)` + middle, store.ErrDamaged, ""},
		"an entry left out":   {`DELETE FROM entries` + middle, store.ErrDamaged, ""},
		"another's log":       {`UPDATE entries SET log = zeroblob(20) WHERE log = (SELECT id FROM rooms WHERE subject = 'r.1')`, store.ErrDamaged, "stands under the id aaaa"},
		"the bus's beginning": {`UPDATE entries SET statement = zeroblob(200) WHERE seq = 1 AND log = (SELECT log FROM bus)`, store.ErrDamaged, "the source: "},
		"a view that is gone": {`DELETE FROM bus`, store.ErrDamaged, "the source: "},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "from.db")
			from, to := filled(t, path), openAt(t, filepath.Join(t.TempDir(), "to.db"))
			change(t, path, c.statement)
			if _, err := Migrate(t.Context(), from, to, quiet); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.tells) {
				t.Errorf("%v, not %v: %s", err, c.kind, c.tells)
			}
		})
	}
	from := filled(t, filepath.Join(t.TempDir(), "from.db"))
	other := otherBus(t, filepath.Join(t.TempDir(), "other.db"))
	closed := openAt(t, filepath.Join(t.TempDir(), "closed.db"))
	closed.Close()
	for _, c := range []struct {
		what  string
		to    store.Backend
		kind  error
		tells string
	}{
		{"another bus's store", other, store.ErrExists, "the target: already exists: it holds another bus, "},
		{"a store that does not answer", closed, store.ErrUnavailable, "the target: "},
	} {
		_, surveyed := Survey(t.Context(), from, c.to)
		_, err := Migrate(t.Context(), from, c.to, quiet)
		for _, err := range []error{surveyed, err} {
			if !errors.Is(err, c.kind) || !strings.HasPrefix(err.Error(), c.tells) {
				t.Errorf("%s: %v, not %s", c.what, err, c.tells)
			}
		}
	}
}

// TestMigrateInterrupted: a migration that is not waited for any more ends, wherever it is.
func TestMigrateInterrupted(t *testing.T) {
	from := filled(t, filepath.Join(t.TempDir(), "from.db"))
	for at := int64(1); at <= 8; at++ {
		ctx, end := context.WithCancel(t.Context())
		to := openAt(t, filepath.Join(t.TempDir(), "to.db"))
		_, err := Migrate(ctx, from, to, func(done, _ int64) {
			if done == at {
				end()
			}
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("after %d steps: %v", at, err)
		}
		if copying, left := to.Copying(t.Context()); left != nil || copying != (err != nil) {
			t.Errorf("after %d steps: %v, but being copied: %v, %v", at, err, copying, left)
		}
		end()
	}
}
