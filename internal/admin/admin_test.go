package admin

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet(int64, int64) {}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func identity(t testing.TB, n byte) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'u', n})
	must(t, err)
	return id
}

func openAt(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{OpTimeout: 20 * time.Second})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func write(t testing.TB, s store.Store, state *ledger.State, body ledger.Body) {
	t.Helper()
	statement, err := state.Next(identity(t, 0), body, time.UnixMilli(1e12))
	must(t, err)
	c, err := storetest.Advance(state, statement)
	must(t, err)
	must(t, s.Append(t.Context(), c))
}

// filled is a bus of three rooms, with some history: members come and go, keys change.
func filled(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s := openAt(t, path)
	admin, bob := identity(t, 0), identity(t, 1)
	bus, err := store.Found(t.Context(), s, admin, "admin", time.UnixMilli(1e12))
	must(t, err)
	write(t, s, bus, &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}}})
	for i := range byte(3) {
		state := new(ledger.State)
		put := func(epoch uint32, to ...*crypto.Identity) crypto.RoomKey {
			key := crypto.RoomKey{i, byte(epoch)}
			create := &ledger.Create{Bus: bus.ID, Subject: "r." + strconv.Itoa(int(i)), Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16)}
			commit := key.Commit(epoch)
			create.Commit = &commit
			id := state.ID
			if epoch == 1 {
				statement, err := new(ledger.State).Next(admin, create, time.UnixMilli(1e12))
				must(t, err)
				id, _, _, err = ledger.Place(statement)
				must(t, err)
			}
			own := make([]byte, crypto.SealedSize) // the member's, of its own making
			must(t, s.PutKeys(t.Context(), id, epoch, commit, bob.Key(), []store.SealedKey{{Endpoint: bob.Key(), Sealed: own}}))
			var sealed []store.SealedKey
			for _, m := range to {
				sealed = append(sealed, store.SealedKey{Endpoint: m.Key(), Sealed: bytes.Repeat([]byte{byte(epoch), m.Key()[0]}, crypto.SealedSize/2)})
			}
			must(t, s.PutKeys(t.Context(), id, epoch, commit, admin.Key(), sealed))
			if epoch == 1 {
				write(t, s, state, create)
			}
			return key
		}
		first := put(1, admin, bob)
		write(t, s, state, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}})
		second := put(2, admin)
		previous, err := crypto.SealPrevious(second, state.ID, 2, first, [24]byte{1})
		must(t, err)
		write(t, s, state, &ledger.Remove{Keys: []crypto.PublicKey{bob.Key()}, Rekey: &ledger.Rekey{Epoch: 2, Commit: second.Commit(2), Previous: previous}})
	}
	return s
}

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
		if err := store.Whole(t.Context(), to); killed != errors.Is(err, store.ErrUnavailable) {
			t.Errorf("killed at %d: %v", n, err)
		}
		r, err := Migrate(t.Context(), from, to, quiet)
		must(t, err)
		must(t, store.Whole(t.Context(), to))
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
	for name, change := range map[string]func(t *testing.T, to *sqlite.Store, rooms []*ledger.State){
		"a card": func(t *testing.T, to *sqlite.Store, _ []*ledger.State) {
			card, err := identity(t, 1).Card()
			must(t, err)
			must(t, to.PutCards(t.Context(), store.Card{Endpoint: identity(t, 1).Key(), Statement: card}))
		},
		"a key": func(t *testing.T, to *sqlite.Store, rooms []*ledger.State) {
			must(t, to.PutKeys(t.Context(), rooms[0].ID, 2, rooms[0].Room.Epoch().Commit, identity(t, 0).Key(), []store.SealedKey{{Endpoint: identity(t, 3).Key(), Sealed: make([]byte, crypto.SealedSize)}}))
		},
		"a sealer": func(t *testing.T, to *sqlite.Store, rooms []*ledger.State) {
			// As one more copy of the admin's: with the same bytes, by another.
			admin, commit := identity(t, 0).Key(), rooms[0].Room.Epoch().Commit
			copies, err := to.Key(t.Context(), rooms[0].ID, 2, admin)
			must(t, err)
			must(t, to.PutKeys(t.Context(), rooms[0].ID, 2, commit, identity(t, 1).Key(), copies))
		},
		"an entry": func(t *testing.T, to *sqlite.Store, rooms []*ledger.State) {
			write(t, to, rooms[0], &ledger.Archive{})
		},
		"a room": func(t *testing.T, to *sqlite.Store, rooms []*ledger.State) {
			write(t, to, new(ledger.State), &ledger.Create{Bus: rooms[0].Room.Bus, Subject: "more", Policy: ledger.Policy{Encryption: "none", History: "shared"}, Nonce: make([]byte, 16)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from, to := filled(t, filepath.Join(dir, "a.db")), openAt(t, filepath.Join(dir, "b.db"))
			_, err := Migrate(t.Context(), from, to, quiet)
			must(t, err)
			must(t, verifySame(t.Context(), from, to, func() {}))
			var rooms []*ledger.State
			for log, err := range to.Logs(t.Context()) {
				must(t, err)
				state, err := store.Load(t.Context(), to, log)
				must(t, err)
				if state.Room != nil {
					rooms = append(rooms, state)
				}
			}
			change(t, to, rooms)
			if err := verifySame(t.Context(), from, to, func() {}); !errors.Is(err, ErrDiffers) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestFork: a target whose history is another one is not touched.
func TestFork(t *testing.T) {
	dir := t.TempDir()
	from, to := filled(t, filepath.Join(dir, "a.db")), openAt(t, filepath.Join(dir, "b.db"))
	_, err := Migrate(t.Context(), from, to, quiet)
	must(t, err)
	statement, err := from.Bus(t.Context())
	must(t, err)
	id, _, _, err := ledger.Place(statement)
	must(t, err)
	for i, s := range []*sqlite.Store{from, to} {
		bus, err := store.Load(t.Context(), s, id)
		must(t, err)
		write(t, s, bus, &ledger.Add{Users: []ledger.NewUser{{Key: identity(t, 10+byte(i)).Key(), Name: fmt.Sprintf("n%d", i), Role: ledger.RoleUser}}})
	}
	if _, err := Migrate(t.Context(), from, to, quiet); !errors.Is(err, store.ErrConflict) {
		t.Errorf("%v", err)
	}
}

// TestArchive restores what was backed up, and refuses what is not as it was.
func TestArchive(t *testing.T) {
	dir := t.TempDir()
	from := filled(t, filepath.Join(dir, "a.db"))
	path := filepath.Join(dir, "archive")
	_, err := Backup(t.Context(), from, path, time.UnixMilli(1e12), quiet)
	must(t, err)
	target := filepath.Join(dir, "b.db")
	r, err := Restore(t.Context(), path, "sqlite:"+target, Access{}, quiet)
	must(t, err)
	to := openAt(t, target)
	if r.Logs != 4 || r.Entries != 11 || r.Keys != 15 || r.Cards != 1 {
		t.Errorf("%+v", r)
	}
	must(t, verifySame(t.Context(), from, to, func() {}))
	raw, err := os.ReadFile(path)
	must(t, err)
	refused := func(what string, raw []byte) {
		t.Helper()
		bad := filepath.Join(dir, "bad")
		must(t, os.WriteFile(bad, raw, 0o600))
		into := t.TempDir()
		if _, err := Restore(t.Context(), bad, "sqlite:"+filepath.Join(into, "c.db"), Access{}, quiet); !errors.Is(err, ErrArchive) {
			t.Errorf("%s: %v", what, err)
		}
		if left, err := os.ReadDir(into); err != nil || len(left) > 0 {
			t.Errorf("%s: something was written: %v, %v", what, left, err)
		}
	}
	refused("empty", nil)
	refused("another behind it", append(bytes.Clone(raw), raw...))
	refused("something behind it", append(bytes.Clone(raw), 0))
	for n := 1; n < len(raw); n += 211 {
		refused(fmt.Sprintf("%d bytes of it", n), raw[:n])
		flipped := bytes.Clone(raw)
		flipped[n] ^= 0x10
		if n > 9 { // before are gzip's time and system
			refused(fmt.Sprintf("byte %d flipped", n), flipped)
		}
	}
}

// TestEarlierArchive: an archive of an earlier build is refused with one clear line.
func TestEarlierArchive(t *testing.T) {
	for format, says := range map[int]string{1: "data of an earlier build", archiveFormat + 1: "newer unibus needed"} {
		head := fmt.Sprintf(`{"format":%d}`, format)
		if err := new(manifest).read(manifestName, []byte(head)); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("format %d: %v", format, err)
		}
	}
}

// TestRestoreCutOff: a restore that ends before it is done leaves no file, and one into a file that is there
// leaves what was there.
func TestRestoreCutOff(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "archive")
	_, err := Backup(t.Context(), filled(t, filepath.Join(dir, "a.db")), path, time.UnixMilli(1e12), quiet)
	must(t, err)
	into := t.TempDir()
	target := filepath.Join(into, "b.db")
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Restore(ctx, path, "sqlite:"+target, Access{}, func(int64, int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(into); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	for range 2 { // the second time into what is there
		if _, err := Restore(t.Context(), path, "sqlite:"+target, Access{}, quiet); err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(into)
		left = slices.DeleteFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "heads.") })
		if err != nil || len(left) != 1 {
			t.Errorf("there is %v, %v", left, err)
		}
	}
}

// TestDoctor: damage is told, and what can be repaired is.
func TestDoctor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s := filled(t, path)
	status := func(repair bool, name string) (status string) {
		Views(t.Context(), s, Look{Repair: repair, Report: func(c Check) {
			if c.Name == name {
				status = c.Status
			}
		}})
		return status
	}
	if status(false, "views") != Pass || status(false, "owners") != Warn || status(false, "stale rooms") != Pass || status(false, "room keys") != Pass {
		t.Error("a good store is not well")
	}
	db, err := sql.Open("sqlite", path)
	must(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `DELETE FROM room_keys WHERE rowid IN (SELECT max(rowid) FROM room_keys)`)
	must(t, err)
	if status(false, "room keys") != Fail {
		t.Error("a member without a key is not told of")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	passes := Look{Report: func(c Check) {
		if c.Status == Pass {
			t.Errorf("passes: %+v", c)
		}
	}}
	Views(ctx, s, passes) // could not be looked at
	Cards(ctx, s, passes)
	for card, err := range s.AllCards(t.Context()) {
		must(t, err)
		card.Statement = bytes.Clone(card.Statement)
		card.Statement[80] ^= 1
		must(t, s.PutCards(t.Context(), card))
	}
	Cards(t.Context(), s, passes)
}

// TestRepairEnds: servers that do not answer about one stream are not asked about all the others.
func TestRepairEnds(t *testing.T) {
	rooms := roomStreams{}
	var found []foundStream
	for i := range 100 {
		r := &store.Room{ID: crypto.ID{byte(i)}, Subject: strconv.Itoa(i), Policy: ledger.DefaultPolicy()}
		rooms[bus.StreamName(r.ID)] = r
		found = append(found, foundStream{name: bus.StreamName(r.ID)})
	}
	asked := 0
	var told []Check
	rooms.settings(found, func(store.Room) error {
		asked++
		return fmt.Errorf("%w: no answer", store.ErrUnavailable)
	}, reporter{"stream settings", func(c Check) { told = append(told, c) }})
	if asked != 1 || len(told) != 1 || told[0].Status != Fail {
		t.Errorf("asked %d times, told %+v", asked, told)
	}
}

func FuzzArchive(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "archive")
	_, err := Backup(f.Context(), filled(f, filepath.Join(dir, "a.db")), path, time.UnixMilli(1e12), quiet)
	must(f, err)
	raw, err := os.ReadFile(path)
	must(f, err)
	f.Add(raw)
	f.Add(raw[:100])
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m manifest
		heads, err := foldArchive(t.Context(), bytes.NewReader(raw), &m, func(*ledger.State) {})
		if err == nil && len(heads) == 0 {
			t.Error("an archive of nothing")
		}
	})
}
