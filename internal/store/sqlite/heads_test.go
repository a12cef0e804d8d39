package sqlite

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// founded opens a new store's file with a bus in it, until the test ends.
func founded(t *testing.T, path string) (*Store, *ledger.State) {
	t.Helper()
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	bus, err := store.Found(t.Context(), s, admin(t), "admin", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s, bus
}

// grown is a store's file with a bus log of so many entries, each of which adds a user, and the last of which
// revokes the first.
func grown(t *testing.T, path string, users int) (revoked crypto.PublicKey) {
	t.Helper()
	s, bus := founded(t, path)
	next := func(body ledger.Body) {
		t.Helper()
		storetest.Write(t, s, bus, admin(t), body)
	}
	var keys []crypto.PublicKey
	for n := range users {
		id, err := crypto.NewIdentity([32]byte{'u', byte(n), byte(n >> 8)})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, id.Key())
		next(&ledger.Add{Users: []ledger.NewUser{{Key: id.Key(), Name: fmt.Sprint("user", n), Role: ledger.RoleUser}}})
	}
	next(&ledger.Revoke{Keys: keys[:1]})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return keys[0]
}

// reopened says how a file opens: the error, and whether somebody is on the allowlist of what is there.
func reopened(t *testing.T, path string, key crypto.PublicKey) (allowed bool, err error) {
	t.Helper()
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		return false, err
	}
	defer s.Close()
	allowed, err = s.IsAuthorized(t.Context(), key)
	return allowed, err
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// crashed is what a power failure leaves of a store: its file, the write-ahead log and the heads.
func crashed(t *testing.T) (dir string, revoked crypto.PublicKey) {
	t.Helper()
	live := filepath.Join(t.TempDir(), "bus.db")
	keep, err := Open(t.Context(), live, Options{}) // while it is open, nobody removes the write-ahead log
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	revoked = grown(t, live, 20)
	dir = t.TempDir()
	for _, name := range []string{"bus.db", "bus.db-wal", "heads.bus.db"} {
		copyFile(t, filepath.Join(filepath.Dir(live), name), filepath.Join(dir, name))
	}
	return dir, revoked
}

// TestFlippedLog flips bits of the write-ahead log, all over: whatever is lost with them, the revoked stay out, or
// everyone does.
func TestFlippedLog(t *testing.T) {
	from, revoked := crashed(t)
	wal, err := os.ReadFile(filepath.Join(from, "bus.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	denied := 0
	const flips = 60
	r := rand.New(rand.NewPCG(1, 2))
	for range flips {
		at := r.IntN(len(wal))
		dir := t.TempDir()
		path := filepath.Join(dir, "bus.db")
		copyFile(t, filepath.Join(from, "bus.db"), path)
		copyFile(t, filepath.Join(from, "heads.bus.db"), headsFile(path))
		flipped := append([]byte(nil), wal...)
		flipped[at] ^= 1 << r.IntN(8)
		if err := os.WriteFile(path+"-wal", flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		allowed, err := reopened(t, path, revoked)
		if allowed {
			t.Fatalf("byte %d of %d flipped, and a revocation is undone", at, len(wal))
		}
		if err != nil {
			if denied++; !errors.Is(err, store.ErrIntegrity) && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("byte %d flipped: %v", at, err)
			}
		}
	}
	if denied < flips/2 {
		t.Errorf("only %d of %d flips were noticed", denied, flips)
	}
	if allowed, err := reopened(t, filepath.Join(from, "bus.db"), revoked); allowed || err != nil {
		t.Errorf("nothing flipped: %v, %v", allowed, err)
	}
}

// TestHeads: a store that is behind what was acknowledged, or has something else there, is not used until somebody
// says that it is what there is.
func TestHeads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	key := grown(t, path, 3)
	before := filepath.Join(t.TempDir(), "before.db")
	copyFile(t, path, before)
	if _, err := reopened(t, path, key); err != nil {
		t.Fatal(err)
	}
	// The database is lost, and nothing is founded beside what is left of it.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := reopened(t, path, key); !errors.Is(err, store.ErrIntegrity) {
		t.Errorf("an empty store beside the heads of another: %v", err)
	}
	// Another bus at its place.
	other := filepath.Join(t.TempDir(), "other.db")
	grown(t, other, 1)
	copyFile(t, other, path)
	if _, err := reopened(t, path, key); !errors.Is(err, store.ErrIntegrity) {
		t.Errorf("another bus: %v", err)
	}
	s, err := Open(t.Context(), path, Options{Unchecked: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.CheckHeads(t.Context()); !errors.Is(err, store.ErrIntegrity) {
		t.Errorf("another bus, opened to be repaired: %v", err)
	}
	if err := errors.Join(s.ResetHeads(t.Context()), s.CheckHeads(t.Context())); err != nil {
		t.Error(err)
	}
	if _, err := reopened(t, path, key); err != nil {
		t.Errorf("repaired: %v", err)
	}
	// Its heads went with it.
	copyFile(t, before, path)
	if err := MoveHeads(path, before); err != nil {
		t.Fatal(err)
	}
	if _, err := reopened(t, path, key); err != nil {
		t.Errorf("no heads: %v", err)
	}
}

// readHeads reads the record of heads beside a database.
func readHeads(path string) (*heads, error) {
	h := newHeads(path)
	return h, h.read()
}

// TestHeadsFile: others' records are kept, an earlier entry is none, and the file does not grow without end.
func TestHeadsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	a, b := newHeads(path), newHeads(path)
	log := func(n int) crypto.ID { return crypto.ID{byte(n)} }
	for seq := uint64(1); seq <= 2*headsSlack; seq++ {
		for n, h := range []*heads{a, b} {
			if err := h.record(log(n), ledger.Head{Seq: seq, Hash: crypto.Hash{byte(seq)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.record(log(0), ledger.Head{Seq: 1}); err != nil || a.known[log(0)].Seq != 2*headsSlack {
		t.Errorf("an earlier entry again: %v", err)
	}
	info, err := os.Stat(headsFile(path))
	if err != nil || info.Size() > (2*headsSlack+10)*headRecord {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	h, err := readHeads(path)
	if err != nil || h.known[log(0)].Seq != 2*headsSlack || h.known[log(1)].Seq != 2*headsSlack {
		t.Errorf("%v, %v", h.known, err)
	}
}

// TestHeadsCut: what was cut off is no record, and is written over.
func TestHeadsCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	written, log := newHeads(path), crypto.ID{1}
	for seq := uint64(1); seq <= 3; seq++ {
		if err := written.record(log, ledger.Head{Seq: seq}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(headsFile(path), 3*headRecord-7); err != nil {
		t.Fatal(err)
	}
	if h, err := readHeads(path); err != nil || h.known[log].Seq != 2 {
		t.Errorf("cut off: %v, %v", h.known, err)
	}
	if err := written.record(log, ledger.Head{Seq: 9999}); err != nil {
		t.Fatal(err)
	}
	if h, err := readHeads(path); err != nil || h.known[log].Seq != 9999 {
		t.Errorf("written over what was cut off: %v, %v", h.known, err)
	}
	if info, err := os.Stat(headsFile(path)); err != nil || info.Size() != 3*headRecord {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
}

// TestHeadsDamaged: what is damaged before other records is told, and so is a file without any.
func TestHeadsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	written := newHeads(path)
	for seq := uint64(1); seq <= 3; seq++ {
		if err := written.record(crypto.ID{1}, ledger.Head{Seq: seq}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(headsFile(path))
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-headRecord-1] ^= 1
	for _, damaged := range []string{string(data), "", "zzzz"} {
		if err := os.WriteFile(headsFile(path), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readHeads(path); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%d damaged bytes: %v", len(damaged), err)
		}
	}
}

// TestDamagedPages: a page of the database that was zeroed is found when the file is checked, and what meets it says
// what it is.
func TestDamagedPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	key := grown(t, path, 200)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	unnoticed := 0
	for at := pageSize; at < len(data); at += pageSize {
		damaged := append([]byte(nil), data...)
		clear(damaged[at : at+pageSize])
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), path, Options{Unchecked: true})
		if err == nil {
			err = s.CheckFile(t.Context())
			s.Close()
		}
		if err == nil {
			unnoticed++
		} else if !errors.Is(err, store.ErrIntegrity) {
			t.Errorf("page %d zeroed: %v", at/pageSize, err)
		}
		if _, err := reopened(t, path, key); err != nil && !errors.Is(err, store.ErrIntegrity) {
			t.Errorf("page %d zeroed, and used: %v", at/pageSize, err)
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	free := 0
	if err := s.read.QueryRow("PRAGMA freelist_count").Scan(&free); err != nil {
		t.Fatal(err)
	}
	if unnoticed > free {
		t.Errorf("%d pages were zeroed unnoticed, and %d are free", unnoticed, free)
	}
}

// TestHeadsTogether: entries that are noted at once are all on the disk when that is said, by whichever process.
func TestHeadsTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	processes := []*heads{newHeads(path), newHeads(path)}
	const logs, entries = 50, 20
	var noting sync.WaitGroup
	for n := range logs {
		noting.Go(func() {
			log := crypto.ID{byte(n)}
			for seq := uint64(1); seq <= entries; seq++ {
				h := processes[(n+int(seq))%len(processes)]
				if err := h.record(log, ledger.Head{Seq: seq, Hash: crypto.Hash{byte(seq)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	noting.Wait()
	on := newHeads(path)
	if err := on.read(); err != nil || len(on.known) != logs {
		t.Fatalf("%d logs, %v", len(on.known), err)
	}
	for log, head := range on.known {
		if head != (ledger.Head{Seq: entries, Hash: crypto.Hash{entries}}) {
			t.Errorf("log %d ends at %d", log[0], head.Seq)
		}
	}
	// What could not be written is noted again when it is offered again.
	h := newHeads(filepath.Join(t.TempDir(), "missing", "bus.db"))
	for range 2 {
		if err := h.record(crypto.ID{1}, ledger.Head{Seq: 1}); err == nil {
			t.Error("noted nowhere")
		}
	}
}

// TestFlippedFile: with any bit of the file flipped, what is in the store is read, or the store is damaged; nothing else
// comes of it.
func TestFlippedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus.db")
	s, bus := founded(t, path)
	room, create := newRoom(t, bus)
	epoch := room.Room.Epoch()
	sealed := []store.SealedKey{{Endpoint: admin(t).Key(), Sealed: make([]byte, crypto.SealedSize)}}
	card, err := admin(t).Card()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		s.PutKeys(t.Context(), room.ID, epoch.Number, epoch.Commit, admin(t).Key(), sealed),
		s.PutCards(t.Context(), store.Card{Endpoint: admin(t).Key(), Statement: card}),
		s.Append(t.Context(), create), s.Close(),
	); err != nil {
		t.Fatal(err)
	}
	storetest.DamagedFile(t, path, []string{
		`UPDATE entries SET log = x'01' WHERE log = (SELECT id FROM rooms)`, `UPDATE rooms SET id = x'01'`, `UPDATE rooms SET policy = '{'`, `UPDATE members SET endpoint = x'01'`,
		`UPDATE epochs SET author = x'01'`, `UPDATE room_keys SET sealer = x'01'`, `UPDATE cards SET endpoint = x'01'`, `UPDATE users SET added_by = x'01'`,
	}, 211, func() error { return readAll(t, path, bus.ID, room.ID) }, store.ErrDamaged)
}

// readAll reads what a store holds of a bus and a room, with the first error that is met but for what is not there.
func readAll(t *testing.T, path string, logs ...crypto.ID) error {
	t.Helper()
	ctx, key := t.Context(), admin(t).Key()
	s, err := Open(ctx, path, Options{Unchecked: true})
	if err != nil {
		return err
	}
	defer s.Close()
	room := logs[len(logs)-1]
	for _, read := range []func() error{
		func() error { _, err := s.Bus(ctx); return err },
		func() error { _, err := s.Heads(ctx, logs...); return err },
		func() error { return first(s.Entries(ctx, room, 0)) },
		func() error { _, err := s.Room(ctx, room); return err },
		func() error { return first(s.Rooms(ctx, crypto.ID{})) },
		func() error { _, err := s.Members(ctx, room); return err },
		func() error { _, err := s.ListRoomsForEndpoint(ctx, key); return err },
		func() error { _, err := s.Key(ctx, room, 0, key); return err },
		func() error { _, err := s.Cards(ctx, key); return err },
		func() error { _, err := s.User(ctx, key); return err },
		func() error { return first(s.Users(ctx, crypto.PublicKey{})) },
		func() error { return first(s.Logs(ctx)) },
		func() error { return first(s.Sealed(ctx, room, 1)) },
		func() error { return first(s.AllCards(ctx)) },
		func() error { _, err := s.arrived(ctx, 0); return err },
	} {
		if err := read(); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

// first is the first error of what a sequence yields.
func first[V any](seq iter.Seq2[V, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}
