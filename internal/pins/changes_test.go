package pins

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// pinned are the files of pins, as a process that is killed leaves them.
type pinned map[string][]byte

var parts = []string{"", "-wal", changesSuffix}

func take(t *testing.T, path string) pinned {
	t.Helper()
	files := pinned{}
	for _, part := range parts {
		data, err := os.ReadFile(path + part)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		files[part] = data
	}
	return files
}

// put writes the files to a new folder, a part of them as it is given.
func (files pinned) put(t *testing.T, part string, data []byte) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "pins.db")
	for name, is := range files {
		if name == part {
			is = data
		}
		if err := os.WriteFile(path+name, is, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// history is pins whose last change may be taken back: their files before it, after it, and once SQLite has moved it from
// its log to the file.
type history struct {
	states                 []*ledger.State
	before, after, settled pinned
}

// named is the key that a name means after a change.
func named(n uint64) crypto.PublicKey { return crypto.PublicKey{byte(n)} }

// remember tells pins one thing of each kind, as of a state.
func remember(t *testing.T, p *Pins, s *ledger.State, n uint64) {
	t.Helper()
	if err := errors.Join(
		p.CheckOwner(t.Context(), named(1)), p.Logs.Advance(t.Context(), s), p.Servers.Pin(t.Context(), "here", s.ID), p.Names.Replace(t.Context(), s.ID, "bob", named(n)),
		p.Subjects.Pin(t.Context(), s.ID, "ops", s.ID), p.Places.Reached(t.Context(), s.ID, Place{Seq: n}),
	); err != nil {
		t.Fatal(err)
	}
}

func newHistory(t *testing.T) *history {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	checkpoint := func() {
		t.Helper()
		if _, err := p.db.file.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			t.Fatal(err)
		}
	}
	h := &history{states: states(t, "bob", "carol")}
	remember(t, p, h.states[0], 1)
	checkpoint()
	h.before = take(t, path)
	remember(t, p, h.states[1], 2)
	h.after = take(t, path)
	checkpoint()
	h.settled = take(t, path)
	return h
}

// told reports whether pins that were written at a path say that they are damaged. Else they have to say what they were
// told last.
func (h *history) told(t *testing.T, path string) bool {
	t.Helper()
	log := h.states[0].ID
	p, err := Open(t.Context(), path)
	var now *ledger.State
	var at Place
	if err == nil {
		now, err = p.Logs.State(t.Context(), log)
		if err == nil {
			at, err = p.Places.Of(t.Context(), log)
		}
		err = errors.Join(err, p.Names.Pin(t.Context(), log, "bob", named(2)), p.Close())
	}
	switch {
	case errors.Is(err, ErrDamaged):
		return true
	case err != nil:
		t.Error(err)
	case now.Head != h.states[1].Head || at.Seq != 2:
		t.Errorf("it says what it said before: %v, %v", now.Head, at)
	}
	return false
}

// TestGoneBack: whatever part of what was written last is taken back, pins never say what they said before.
func TestGoneBack(t *testing.T) {
	h := newHistory(t)
	if h.told(t, h.after.put(t, "", h.after[""])) {
		t.Fatal("what is whole is damaged")
	}
	t.Run("all but the count of changes", func(t *testing.T) {
		if !h.told(t, h.before.put(t, changesSuffix, h.after[changesSuffix])) {
			t.Error("not told")
		}
	})
	t.Run("the log of SQLite", func(t *testing.T) {
		if !h.told(t, h.after.put(t, "-wal", nil)) {
			t.Error("not told")
		}
	})
	t.Run("a part of that log", func(t *testing.T) {
		told := 0
		for at := 0; at < len(h.after["-wal"]); at += 211 {
			flipped := bytes.Clone(h.after["-wal"])
			flipped[at] ^= 1 << (at % 8)
			for _, damaged := range [][]byte{flipped, flipped[:at]} {
				if h.told(t, h.after.put(t, "-wal", damaged)) {
					told++
				}
			}
		}
		if told < 100 {
			t.Errorf("%d times it was told", told)
		}
	})
	t.Run("a page", func(t *testing.T) {
		const page = 4096
		for at := 0; at < len(h.settled[""]) && at < len(h.before[""]); at += page {
			stale := bytes.Clone(h.settled[""])
			copy(stale[at:], h.before[""][at:min(at+page, len(h.before[""]))])
			h.told(t, h.settled.put(t, "", stale))
		}
	})
}

// TestChangesDamaged: a count of changes that is damaged is no count, and says nothing of what there was.
func TestChangesDamaged(t *testing.T) {
	h := newHistory(t)
	for at := range changesSize {
		flipped := bytes.Clone(h.after[changesSuffix])
		flipped[at] ^= 1
		if !h.told(t, h.after.put(t, changesSuffix, flipped)) {
			t.Errorf("with bit 0 of byte %d flipped it is taken for one", at)
		}
	}
	if !h.told(t, h.after.put(t, changesSuffix, []byte{})) {
		t.Error("emptied it is taken for one")
	}
}

// TestChangesBehind: pins that were changed more often than the file beside them says were written by a process that was
// killed before it said so.
func TestChangesBehind(t *testing.T) {
	h := newHistory(t)
	if h.told(t, h.after.put(t, changesSuffix, h.before[changesSuffix])) {
		t.Error("they are taken for damaged")
	}
}

// TestRemoved: pins that a person has removed, to begin anew, remember nothing, whatever is left beside them.
func TestRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	s := states(t, "bob")
	p := open(t, path)
	remember(t, p, s[1], 1)
	if err := errors.Join(p.Close(), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	if now, err := open(t, path).Logs.State(t.Context(), s[0].ID); err != nil || now.Head.Seq != 0 {
		t.Errorf("what was removed is remembered: %v, %v", now, err)
	}
}

// TestPowerCut: what did not wait for the disk may be gone after the machine was, and its count not; it is no damage then, and
// it is while the machine runs on. What waited is never gone.
func TestPowerCut(t *testing.T) {
	ctx, room := t.Context(), crypto.ID{1}
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	if err := p.Settings.Set(ctx, "name", "value"); err != nil {
		t.Fatal(err)
	}
	before := take(t, path)
	for seq := range uint64(5) {
		if err := p.Places.Reached(ctx, room, Place{Seq: seq + 1}); err != nil {
			t.Fatal(err)
		}
	}
	after := take(t, path)
	again := func(boot uint64, database, changes pinned) error {
		fresh := filepath.Join(t.TempDir(), "pins.db")
		for _, part := range parts {
			from := database
			if part == changesSuffix {
				from = changes
			}
			if err := os.WriteFile(fresh+part, from[part], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		db, err := openDatabase(fresh, busy)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		db.changes.boot = boot
		return db.check(ctx)
	}
	if err := again(p.db.changes.boot, before, after); !errors.Is(err, ErrDamaged) {
		t.Errorf("changes are gone from a machine that runs on: %v", err)
	}
	if err := again(p.db.changes.boot+1, before, after); err != nil {
		t.Errorf("after another start of the machine: %v", err)
	}
	earlier := pinned{changesSuffix: binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(after[changesSuffix]))}
	earlier[changesSuffix] = binary.BigEndian.AppendUint32(earlier[changesSuffix], crc32.ChecksumIEEE(earlier[changesSuffix]))
	if err := again(p.db.changes.boot+1, before, earlier); err != nil {
		t.Errorf("after another start of the machine, as an earlier build had counted: %v", err)
	}
	if err := p.Settings.Set(ctx, "name", "another"); err != nil {
		t.Fatal(err)
	}
	if err := again(p.db.changes.boot+1, after, take(t, path)); !errors.Is(err, ErrDamaged) {
		t.Errorf("what waited for the disk is gone: %v", err)
	}
}

// TestEarlierCount: of what an earlier build has counted, which did not say how, nothing is known to have waited for the disk:
// what a power cut takes of it is no damage.
func TestEarlierCount(t *testing.T) {
	record := binary.BigEndian.AppendUint64(nil, 7)
	record = binary.BigEndian.AppendUint32(record, crc32.ChecksumIEEE(record))
	n, ok := readCount(record)
	if !ok || n != (changeCount{all: 7}) || n.least(1) != 0 {
		t.Errorf("%+v, %v", n, ok)
	}
	c := changesFile{filepath.Join(t.TempDir(), "pins.db"), 1}
	if err := os.WriteFile(c.path(), record, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct {
		number uint64
		how    durability
		after  changeCount
	}{{8, lax, changeCount{8, 0, 1}}, {9, durable, changeCount{9, 9, 1}}} {
		if err := c.write(change.number, change.how); err != nil {
			t.Fatal(err)
		}
		if n, err := c.read(); err != nil || n != change.after {
			t.Errorf("after change %d it is %+v, %v", change.number, n, err)
		}
	}
}

// TestChangesAtOnce: of two that count at once, as two processes do, neither takes back what the other has counted.
func TestChangesAtOnce(t *testing.T) {
	c := changesFile{filepath.Join(t.TempDir(), "pins.db"), 1}
	for n := uint64(1); n < 400; n += 2 {
		var errs [2]error
		var both sync.WaitGroup
		start := make(chan struct{})
		for i, how := range []durability{durable, lax} {
			both.Go(func() {
				<-start
				errs[i] = c.write(n+uint64(i), how)
			})
		}
		close(start)
		both.Wait()
		if now, err := c.read(); errors.Join(err, errs[0], errs[1]) != nil || now != (changeCount{n + 1, n, 1}) {
			t.Fatalf("after the changes %d, which waited, and %d it is %+v, %v", n, n+1, now, errors.Join(err, errs[0], errs[1]))
		}
	}
}

// TestBootWithoutAName: a machine that has no name for its boots cannot tell one from another: only what waited for the disk is
// insisted on.
func TestBootWithoutAName(t *testing.T) {
	n := changeCount{}.after(3, durable, 0).after(7, lax, 0)
	if n != (changeCount{7, 3, 0}) || n.least(0) != 3 {
		t.Errorf("%+v: at least %d", n, n.least(0))
	}
}

// TestCountOfNoBuild: a record that no build has written, by its length, is none, whatever its checksum.
func TestCountOfNoBuild(t *testing.T) {
	for size := range 2 * changesSize {
		body := make([]byte, size)
		if n, ok := readCount(binary.BigEndian.AppendUint32(body, crc32.ChecksumIEEE(body))); ok != (size+4 == changesSize || size+4 == oldSize) {
			t.Errorf("of %d bytes: %+v, %v", size+4, n, ok)
		}
	}
}
