package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func admin(t *testing.T) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'a'})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		path := filepath.Join(t.TempDir(), "sub", "bus.db")
		s, err := Open(t.Context(), path, Options{OpTimeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		// A second opening of the same file stands for another process.
		other, err := Open(t.Context(), path, Options{OpTimeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(); other.Close() })
		id := admin(t)
		return storetest.Subject{
			Admin: id, OpTimeout: 5 * time.Second,
			As: func(by *crypto.Identity) store.Store {
				if by == id {
					return s
				}
				return other
			},
			Break: func() { s.Close() },
			Staged: func(t *testing.T, room crypto.ID, epoch uint32, commit crypto.Hash) (n int) {
				t.Helper()
				err := s.read.QueryRow(`SELECT count(*) FROM room_keys WHERE room = ? AND epoch = ? AND commitment = ?`, room[:], epoch, commit[:]).Scan(&n)
				if err != nil {
					t.Fatal(err)
				}
				return n
			},
		}
	})
}

// TestMuch: a call that writes much has longer than OpTimeout.
func TestMuch(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "bus.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bus, err := store.Found(t.Context(), s, admin(t), "admin", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.timeout = time.Nanosecond
	storetest.Much(t, s)
	storetest.Write(t, s, bus, admin(t), storetest.Many(t, 300))
}

func TestFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	var mode, level string
	if err := s.write.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal mode %s, %v", mode, err)
	}
	if err := s.write.QueryRow("PRAGMA synchronous").Scan(&level); err != nil || level != "2" {
		t.Errorf("synchronous %s, %v", level, err)
	}
}

// TestOpenRefuses: what is no store's file is not opened, and nothing is written to it.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(t.Context(), "", Options{}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("no path: %v", err)
	}
	if _, err := Open(t.Context(), filepath.Join(dir, "none"), Options{Existing: true}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no file: %v", err)
	}
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte("this is not a database, but long enough to be looked at as one"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, existing := range []bool{false, true} {
		if _, err := Open(t.Context(), garbage, Options{Existing: existing}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("garbage: %v", err)
		}
	}
	if _, err := Open(t.Context(), dir, Options{Existing: true}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a folder: %v", err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), empty, Options{Existing: true}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an empty file: %v", err)
	}
	if info, err := os.Stat(empty); err != nil || info.Size() != 0 {
		t.Errorf("an empty file was written to: %v, %v", info, err)
	}
	theirs := filepath.Join(dir, "theirs")
	other, err := sql.Open("sqlite", DSN(theirs, time.Second, Full))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Exec("CREATE TABLE t (a)"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), theirs, Options{Existing: true}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a database of something else: %v", err)
	}
	var tables int
	if err := other.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil || tables != 1 {
		t.Errorf("a database of something else has %d tables now (%v)", tables, err)
	}
}

// TestOpenVersions: a file that was written by a build too old or too new is refused with one line that says so.
func TestOpenVersions(t *testing.T) {
	for version, says := range map[int]string{oldest - 1: "data of an earlier build", oldest + len(migrations): "newer unibus needed", 999: "newer unibus needed"} {
		path := filepath.Join(t.TempDir(), "bus.db")
		db, err := sql.Open("sqlite", DSN(path, time.Second, Full))
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.Exec(fmt.Sprintf("PRAGMA user_version = %d", version))
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

// TestCreator: who created a room is known again when the next entry or a rebuild has said so.
func TestCreator(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	db, err := sql.Open("sqlite", DSN(path, time.Second, Full))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	bus, err := store.Found(t.Context(), s, admin(t), "admin", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	room, create := newRoom(t, bus)
	if err := s.Append(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	is := func(want int) {
		t.Helper()
		if n, err := s.Created(t.Context(), admin(t).Key()); err != nil || n != want {
			t.Errorf("%d rooms were created, want %d (%v)", n, want, err)
		}
	}
	is(1)
	forget := func() {
		t.Helper()
		if _, err := db.Exec(`UPDATE rooms SET creator = x''`); err != nil {
			t.Fatal(err)
		}
		is(0)
	}
	forget()
	if n, err := s.Rebuild(t.Context(), room); n != 1 || err != nil {
		t.Errorf("%d records were wrong, %v", n, err)
	}
	is(1)
	forget()
	storetest.Write(t, s, room, admin(t), &ledger.Invite{Members: []ledger.NewMember{{Key: busMember(t), Role: ledger.RoleReader}}})
	is(1)
}

func busMember(t *testing.T) crypto.PublicKey {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'m'})
	if err != nil {
		t.Fatal(err)
	}
	return id.Key()
}

// TestLocked: another process that holds the file for ever makes calls fail in time, and kindly.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	s, err := Open(t.Context(), path, Options{OpTimeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	holder, err := sql.Open("sqlite", DSN(path, time.Second, Full))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	tx, err := holder.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	_, err = store.Found(t.Context(), s, admin(t), "admin", time.Now())
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a locked file: %v", err)
	}
	if ok, err := s.HasAdmin(t.Context()); ok || err != nil {
		t.Errorf("readers do not wait for writers: %v, %v", ok, err)
	}
}

// TestCrash kills a process at each step of an Append: all of it is there afterwards, or nothing, and it
// can be done again.
func TestCrash(t *testing.T) {
	if at := os.Getenv("UNIBUS_TEST_CRASH"); at != "" {
		crash(t, at)
	}
	for _, at := range []string{"view 0", "view 1", "view 2", "written", "committed"} {
		t.Run(at, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bus.db")
			s, bus := founded(t, path)
			if !storetest.Killed(t, "TestCrash", "UNIBUS_TEST_CRASH="+at, "UNIBUS_TEST_PATH="+path) {
				t.Fatal("the process was not killed")
			}
			there := 0
			if at == "committed" {
				there = 1
			}
			room, create := newRoom(t, bus)
			if rooms, err := s.ListRoomsForEndpoint(t.Context(), admin(t).Key()); err != nil || len(rooms) != there {
				t.Errorf("%d rooms, %v", len(rooms), err)
			}
			if _, err := store.HeadOf(t.Context(), s, room.ID); (err == nil) != (there == 1) {
				t.Errorf("its log: %v", err)
			}
			if err := s.Append(t.Context(), create); err != nil {
				t.Errorf("again: %v", err)
			}
			if n, err := s.Differs(t.Context(), room); n != 0 || err != nil {
				t.Errorf("%d records are wrong, %v", n, err)
			}
		})
	}
}

// newRoom is an entry that is the same every time.
func newRoom(t *testing.T, bus *ledger.State) (*ledger.State, store.Change) {
	t.Helper()
	s := new(ledger.State)
	commit := crypto.RoomKey{1}.Commit(1)
	create := &ledger.Create{Bus: bus.ID, Subject: "r", Policy: ledger.DefaultPolicy(), Nonce: []byte("a nonce of 16 by"), Commit: &commit}
	statement, err := s.Next(admin(t), create, time.UnixMilli(0))
	if err != nil {
		t.Fatal(err)
	}
	c, err := storetest.Advance(s, statement)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// crash is the process that is killed.
func crash(t *testing.T, at string) {
	s, err := Open(t.Context(), os.Getenv("UNIBUS_TEST_PATH"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	bus, err := store.Load(t.Context(), s, busID(t, s))
	if err != nil {
		t.Fatal(err)
	}
	s.entryLog.step = func(name string) {
		if name == at {
			storetest.KillSelf()
		}
	}
	_, create := newRoom(t, bus)
	t.Fatalf("it was to be killed: %v", s.Append(t.Context(), create))
}

func busID(t *testing.T, s *Store) crypto.ID {
	t.Helper()
	statement, err := s.Bus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, _, _, err := ledger.Place(statement)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestInOnePage: a card and a sealed key have a page's room: what goes on in another page costs a read of it with every
// comparison.
func TestInOnePage(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "bus.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	id := admin(t)
	card, err := id.Card()
	if err != nil {
		t.Fatal(err)
	}
	opened, err := crypto.OpenCard(card, id.Key())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := crypto.SealKey(crypto.RoomKey{}, crypto.ID{}, 1, id.Key(), opened.Sealing)
	if err != nil {
		t.Fatal(err)
	}
	cards, keys := make([]store.Card, 40), make([]store.SealedKey, 40)
	for i := range cards {
		member := crypto.PublicKey{byte(i)}
		cards[i], keys[i] = store.Card{Endpoint: member, Statement: card}, store.SealedKey{Endpoint: member, Sealed: sealed}
	}
	if err := s.PutCards(t.Context(), cards...); err != nil {
		t.Fatal(err)
	}
	if err := s.PutKeys(t.Context(), crypto.ID{}, 1, crypto.Hash{}, id.Key(), keys); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"cards", "room_keys"} {
		var pages, further int
		err := s.read.QueryRow(`SELECT count(*), total(pagetype = 'overflow') FROM dbstat WHERE name = ?`, table).Scan(&pages, &further)
		if err != nil || pages < 2 || further > 0 {
			t.Errorf("%s: %d of %d pages go on from others, %v", table, further, pages, err)
		}
	}
}
