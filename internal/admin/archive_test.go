package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// TestArchive restores what was backed up, and refuses what is not as it was.
func TestArchive(t *testing.T) {
	dir := t.TempDir()
	from := filled(t, filepath.Join(dir, "a.db"))
	path := filepath.Join(dir, "archive")
	var told []int64
	_, err := Backup(t.Context(), from, path, time.UnixMilli(1e12), func(done, all int64) { told = append(told, done, all) })
	must(t, err)
	if !slices.Equal(told, []int64{1, 4, 2, 4, 3, 4, 4, 4}) {
		t.Errorf("of its logs it tells %v", told)
	}
	target := filepath.Join(dir, "b.db")
	r, err := Restore(t.Context(), path, "sqlite:"+target, Access{}, quiet)
	must(t, err)
	to := openAt(t, target)
	if r.Logs != 4 || r.Entries != 11 || r.Keys != 15 || r.Cards != 1 {
		t.Errorf("%+v", r)
	}
	must(t, verifySame(t.Context(), from, to, func() {}))
	finds(t, "restored", kept(t, to, onlyLook), finding{"database", Pass, 0, "whole, and with all that was acknowledged"})
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
	for format, says := range map[int]string{1: "data of an earlier build", framesFormat + 1: "newer unibus needed"} {
		head := fmt.Sprintf(`{"format":%d}`, format)
		if err := new(manifest).read(manifestName, []byte(head)); !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("format %d: %v", format, err)
		}
	}
}

// forged is an archive that somebody made: of a bus's items, its checksum right.
func forged(t *testing.T, write func(a *archiver) error) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	must(t, archiveTo(&b, time.UnixMilli(1e12), write))
	return bytes.NewReader(b.Bytes())
}

// refused fails unless a forged archive is refused for what it says.
func refused(t *testing.T, name string, write func(a *archiver) error, tells string) {
	t.Helper()
	_, err := foldArchive(t.Context(), forged(t, write), new(manifest), func(*ledger.State) {})
	if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), tells) {
		t.Errorf("%s: %v, not %s", name, err, tells)
	}
}

// TestForgedFiles: a file that is no item is refused, whatever its name says, and so is an archive without a manifest.
func TestForgedFiles(t *testing.T) {
	id, hash, key := crypto.ID{2}.String(), crypto.Hash{1}.String(), identity(t, 0).Key().String()
	for name, tells := range map[string]string{
		manifestName:                            "manifest.json: nothing of its kind",
		"rooms/" + id:                           "rooms/" + id + ": nothing of its kind belongs in an archive",
		"../../logs/" + id + "/1":               "nothing of its kind",
		"logs/1":                                "nothing of its kind",
		"logs/a/1":                              "logs/a/1: ",
		"logs/" + id + "/-1":                    "/-1: ",
		"logs/" + id + "/1":                     ErrArchive.Error(), // which is no statement
		"cards/a":                               "cards/a: ",
		"keys/" + id + "/1/" + hash + "/" + key: "nothing of its kind",
		"keys/a/1/" + hash + "/" + key + "/" + key:                   "keys/a/1",
		"keys/" + id + "/4294967296/" + hash + "/" + key + "/" + key: "value out of range",
		"keys/" + id + "/1/a/" + key + "/" + key:                     "/1/a/",
		"keys/" + id + "/1/" + hash + "/a/" + key:                    "/a/",
		"keys/" + id + "/1/" + hash + "/" + key + "/a":               "/a: ",
	} {
		refused(t, name, func(a *archiver) error {
			return errors.Join(a.begin(manifest{Bus: crypto.ID{2}}), a.file(name, []byte("content")))
		}, tells)
	}
	const begins = "it does not begin as one of unibus does"
	refused(t, "nothing", func(*archiver) error { return nil }, "the log of its bus is missing")
	refused(t, "a manifest alone", func(a *archiver) error { return a.begin(manifest{Bus: crypto.ID{2}}) }, "the log of its bus is missing")
	refused(t, "no manifest", func(a *archiver) error { return a.file("cards/"+key, nil) }, begins)
	refused(t, "a manifest of nothing", func(a *archiver) error { return a.file(manifestName, []byte("{")) }, begins)
	refused(t, "a card that is none", func(a *archiver) error {
		return errors.Join(a.begin(manifest{Bus: crypto.ID{2}}), a.file("cards/"+key, []byte("content")))
	}, "the card of "+key+" is none: card: ")
	refused(t, "a large file", func(a *archiver) error { return a.file("logs/a/1", make([]byte, maxItem+1)) }, "logs/a/1 is too large")
}

// TestForgedEntries: an entry that is left out before others, said twice, changed, or put in another's place is refused.
func TestForgedEntries(t *testing.T) {
	from := filled(t, filepath.Join(t.TempDir(), "a.db"))
	bus, err := BusOf(t.Context(), from)
	must(t, err)
	archived := func(of crypto.ID, change func(n int, e store.Entry) []store.Entry) func(*archiver) error {
		return func(a *archiver) error {
			err := a.begin(manifest{Bus: of})
			n := 0
			for i, failed := range walk(t.Context(), from) {
				err = errors.Join(err, failed)
				if i.entry == nil {
					err = errors.Join(err, a.item(i))
					continue
				}
				n++
				for _, e := range change(n, *i.entry) {
					err = errors.Join(err, a.item(item{entry: &e}))
				}
			}
			return err
		}
	}
	for _, c := range []struct {
		what   string
		change func(e store.Entry) []store.Entry // of the log of the bus
		at     int                               // which one
		tells  string
	}{
		{"the first left out", func(store.Entry) []store.Entry { return nil }, 1, ErrArchive.Error()},
		{"one in the middle left out", func(store.Entry) []store.Entry { return nil }, 4, ErrArchive.Error()},
		{"said twice", func(e store.Entry) []store.Entry { return []store.Entry{e, e} }, 2, ErrArchive.Error()},
		{"changed", func(e store.Entry) []store.Entry {
			e.Statement = bytes.Clone(e.Statement)
			e.Statement[9] ^= 1
			return []store.Entry{e}
		}, 2, ErrArchive.Error()},
		{"at another's place", func(e store.Entry) []store.Entry { e.Seq = 3; return []store.Entry{e} }, 2, "entry 3 of log " + bus.String() + " stands in another's place"},
		{"in another's log", func(e store.Entry) []store.Entry { e.Log = crypto.ID{1}; return []store.Entry{e} }, 2, "stands in another's place"},
	} {
		refused(t, c.what, archived(bus, func(n int, e store.Entry) []store.Entry {
			if n == c.at {
				return c.change(e)
			}
			return []store.Entry{e}
		}), c.tells)
	}
	whole := func(_ int, e store.Entry) []store.Entry { return []store.Entry{e} }
	refused(t, "another's manifest", archived(crypto.ID{1}, whole), "the log of its bus is missing")
	if heads, err := foldArchive(t.Context(), forged(t, archived(bus, whole)), new(manifest), func(*ledger.State) {}); err != nil || len(heads) != 4 {
		t.Errorf("as it is: %d logs, %v", len(heads), err)
	}
}

// TestForgedSeal: a checksum that is of other files, and one that is none.
func TestForgedSeal(t *testing.T) {
	for _, sum := range []string{"", strings.Repeat("0", 64)} {
		_, err := foldArchive(t.Context(), forged(t, func(a *archiver) error { return a.file(sumName, []byte(sum)) }), new(manifest), nil)
		if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "its checksum is wrong") {
			t.Errorf("%q: %v", sum, err)
		}
	}
}

// TestBackupRefuses: what cannot be written whole is not there, and a file is not replaced.
func TestBackupRefuses(t *testing.T) {
	dir := t.TempDir()
	from, none := filled(t, filepath.Join(dir, "a.db")), openAt(t, filepath.Join(dir, "none.db"))
	there := filepath.Join(dir, "there")
	must(t, os.WriteFile(there, []byte("mine"), 0o600))
	over, end := context.WithCancel(t.Context())
	end()
	path := filepath.Join(dir, "archive")
	for _, c := range []struct {
		what string
		ctx  context.Context
		from store.Backend
		path string
		kind error // nil: any
		tell string
	}{
		{"a file that is there", t.Context(), from, there, store.ErrExists, there + ": already exists"},
		{"a folder that is not there", t.Context(), from, filepath.Join(dir, "no", "archive"), nil, "there is no folder " + filepath.Join(dir, "no")},
		{"a folder that is a file", t.Context(), from, filepath.Join(there, "archive"), nil, "there is no folder " + there},
		{"a store without a bus", t.Context(), none, path, store.ErrNotFound, "the source: "},
		{"nobody waits", over, from, path, context.Canceled, ""},
	} {
		if _, err := Backup(c.ctx, c.from, c.path, time.UnixMilli(1e12), quiet); err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.tell) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if raw, err := os.ReadFile(there); err != nil || string(raw) != "mine" {
		t.Errorf("the file that was there: %q, %v", raw, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a part of an archive is there: %v", err)
	}
}

// TestBackupMeanwhile: a file that comes while the archive is written is not replaced, and a store that stops answering
// leaves none.
func TestBackupMeanwhile(t *testing.T) {
	dir := t.TempDir()
	from := filled(t, filepath.Join(dir, "a.db"))
	path := filepath.Join(dir, "archive")
	_, err := Backup(t.Context(), from, path, time.UnixMilli(1e12), func(int64, int64) { must(t, os.WriteFile(path, []byte("mine"), 0o600)) })
	if raw, readErr := os.ReadFile(path); !errors.Is(err, store.ErrExists) || readErr != nil || string(raw) != "mine" {
		t.Errorf("%v, and there is %q, %v", err, raw, readErr)
	}
	must(t, os.Remove(path))
	ctx, end := context.WithCancel(t.Context())
	_, err = Backup(ctx, from, path, time.UnixMilli(1e12), func(int64, int64) { end() })
	if _, there := os.Stat(path); !errors.Is(err, context.Canceled) || !errors.Is(there, os.ErrNotExist) {
		t.Errorf("%v, and there is an archive: %v", err, there)
	}
}

// full is what has room for so many bytes.
type full struct{ room int }

var errFull = errors.New("full")

func (f *full) Write(b []byte) (int, error) {
	if f.room -= len(b); f.room < 0 {
		return 0, errFull
	}
	return len(b), nil
}

// TestBackupFull: wherever the archive's reader stops taking it, whoever makes it is told.
func TestBackupFull(t *testing.T) {
	from := filled(t, filepath.Join(t.TempDir(), "a.db"))
	var whole bytes.Buffer
	r, err := BackupTo(t.Context(), from, &whole, time.UnixMilli(1e12), quiet)
	if err != nil || r.Missing != 0 || r.Logs != 4 || r.Entries != 11 || r.Keys != 15 || r.Cards != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	for room := 0; room < whole.Len(); room += whole.Len()/20 + 1 {
		if _, err := BackupTo(t.Context(), from, &full{room}, time.UnixMilli(1e12), quiet); !errors.Is(err, errFull) {
			t.Errorf("room for %d of %d bytes: %v", room, whole.Len(), err)
		}
	}
}

// TestRestoreRefuses: where an archive cannot be restored to, and what is none.
func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	from := filled(t, filepath.Join(dir, "a.db"))
	path := filepath.Join(dir, "archive")
	_, err := Backup(t.Context(), from, path, time.UnixMilli(1e12), quiet)
	must(t, err)
	otherBus(t, filepath.Join(dir, "other.db"))
	ahead := openAt(t, filepath.Join(dir, "ahead.db"))
	_, err = Migrate(t.Context(), from, ahead, quiet)
	must(t, err)
	room := newRoom(t, ahead, roomsIn(t, from)[0].Room.Bus, "more", nil)
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for _, c := range []struct {
		what, path, url string
		kind            error // nil: any
		tells           string
	}{
		{"no archive", filepath.Join(dir, "no"), "sqlite:" + filepath.Join(dir, "b.db"), store.ErrNotFound, "there is no file"},
		{"a folder", dir, "sqlite:" + filepath.Join(dir, "b.db"), ErrArchive, "not compressed"},
		{"a path through a file", filepath.Join(dir, "file", "archive"), "sqlite:" + filepath.Join(dir, "b.db"), nil, ""},
		{"no store", path, "jetstream", store.ErrInvalid, ""},
		{"a folder that is a file", path, "sqlite:" + filepath.Join(dir, "file", "x", "b.db"), nil, ""},
		{"another bus's store", path, "sqlite:" + filepath.Join(dir, "other.db"), store.ErrExists, "the store: already exists: it holds another bus"},
		{"a store with more", path, "sqlite:" + filepath.Join(dir, "ahead.db"), ErrDiffers, "the store has a log " + room.ID.String() + " that the archive has not"},
		{"servers that are not there", path, "nats://127.0.0.1:1", store.ErrUnavailable, ""},
	} {
		_, err := Restore(t.Context(), c.path, c.url, Access{Timeout: time.Second}, quiet)
		if err == nil || c.kind != nil && !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.tells) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "b.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}

// TestRestoreMeanwhile: a store that somebody makes meanwhile is not replaced. A folder that is not there is made.
func TestRestoreMeanwhile(t *testing.T) {
	dir := t.TempDir()
	path, target := filepath.Join(dir, "archive"), filepath.Join(dir, "new", "folder", "b.db")
	_, err := Backup(t.Context(), filled(t, filepath.Join(dir, "a.db")), path, time.UnixMilli(1e12), quiet)
	must(t, err)
	_, err = Restore(t.Context(), path, "sqlite:"+target, Access{}, func(int64, int64) { must(t, os.WriteFile(target, []byte("mine"), 0o600)) })
	if raw, readErr := os.ReadFile(target); !errors.Is(err, store.ErrExists) || readErr != nil || string(raw) != "mine" {
		t.Errorf("%v, and there is %q, %v", err, raw, readErr)
	}
}

// TestRestoreServers: an archive goes into servers as into a file, and again into what is there.
func TestRestoreServers(t *testing.T) {
	n, path := startNode(t), filepath.Join(t.TempDir(), "archive")
	from := filled(t, filepath.Join(t.TempDir(), "a.db"))
	_, err := Backup(t.Context(), from, path, time.UnixMilli(1e12), quiet)
	must(t, err)
	for range 2 {
		_, err := Restore(t.Context(), path, n.URL(), n.acc, quiet)
		must(t, err)
		must(t, verifySame(t.Context(), from, n.open(t, 1), func() {}))
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

// rekeying is a store in which a room is rekeyed as soon as its keys were listed.
type rekeying struct {
	store.Backend
	rekey func(room crypto.ID)
}

func (g rekeying) Sealed(ctx context.Context, room crypto.ID, from uint32) iter.Seq2[store.SealedCopy, error] {
	return func(yield func(store.SealedCopy, error) bool) {
		for k, err := range g.Backend.Sealed(ctx, room, from) {
			if !yield(k, err) {
				return
			}
		}
		g.rekey(room)
	}
}

// TestRekeyedMeanwhile: a backup of a room that is rekeyed while it is made has no entry without the copies of its key.
func TestRekeyedMeanwhile(t *testing.T) {
	s := filled(t, filepath.Join(t.TempDir(), "a.db"))
	admin, rekeyed := identity(t, 0), 0
	from := rekeying{s, func(room crypto.ID) {
		state, err := store.Load(t.Context(), s, room)
		must(t, err)
		key := crypto.RoomKey{9}
		must(t, s.PutKeys(t.Context(), room, 3, key.Commit(3), admin.Key(), []store.SealedKey{{Endpoint: admin.Key(), Sealed: make([]byte, crypto.SealedSize)}}))
		write(t, s, state, &ledger.Rekey{Epoch: 3, Commit: key.Commit(3), Previous: make([]byte, crypto.PreviousSize)})
		rekeyed++
	}}
	copies, folds := map[crypto.Hash]bool{}, map[crypto.ID]*ledger.Fold{}
	for i, err := range walk(t.Context(), from) {
		must(t, err)
		switch {
		case i.key != nil:
			copies[i.key.Commit] = true
		case i.entry != nil:
			if folds[i.entry.Log] == nil {
				folds[i.entry.Log] = new(ledger.Fold)
			}
			e, err := folds[i.entry.Log].Add(i.entry.Statement)
			must(t, err)
			if k := e.NewEpoch(); k != nil && !copies[k.Commit] {
				t.Errorf("entry %d of log %s has a key of which there is no copy", i.entry.Seq, i.entry.Log)
			}
		}
	}
	if rekeyed != 3 {
		t.Errorf("%d rooms were rekeyed", rekeyed)
	}
}
