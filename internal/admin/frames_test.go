package admin

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// exportFile is one of an archive that somebody made.
type exportFile struct {
	name    string
	content []byte
}

// files are those of an export of three frames, without the checksum, which whoever makes one can make.
func (w *audited) files() (all []exportFile) {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "export")
	must(w.t, Export(path, w.logs, []Past{w.past(1, 3, w.frames("alice.1.0 bob.1.0 alice.1.1"))}, ended))
	f, err := os.Open(path)
	must(w.t, err)
	defer f.Close()
	u, err := newUnarchiver(f)
	must(w.t, err)
	for {
		name, content, err := u.next()
		if errors.Is(err, io.EOF) {
			return all
		}
		must(w.t, err)
		all = append(all, exportFile{name, content})
	}
}

// verifies verifies an archive of files, its checksum right.
func (w *audited) verifies(files []exportFile) ([]CheckedLog, error) {
	w.t.Helper()
	raw, err := io.ReadAll(forged(w.t, func(a *archiver) error {
		for _, f := range files {
			if err := a.file(f.name, f.content); err != nil {
				return err
			}
		}
		return nil
	}))
	must(w.t, err)
	return w.verifiesRaw(raw)
}

// verifiesRaw verifies the bytes of an archive.
func (w *audited) verifiesRaw(raw []byte) ([]CheckedLog, error) {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "archive")
	must(w.t, os.WriteFile(path, raw, 0o600))
	_, _, read := ReadArchive(w.t.Context(), path)
	logs, err := VerifyArchive(w.t.Context(), path, knowsNothing, ended, func(Told) {})
	if (read == nil) != (err == nil) {
		w.t.Errorf("verifying says %v, reading %v", err, read)
	}
	return logs, err
}

// An edit is what somebody has done to the files of an export.
type edit func(f []exportFile) []exportFile

func renamed(at int, name string) edit {
	return func(f []exportFile) []exportFile { f[at].name = name; return f }
}

func dropped(at int) edit {
	return func(f []exportFile) []exportFile { return append(f[:at:at], f[at+1:]...) }
}

func swapped(a, b int) edit {
	return func(f []exportFile) []exportFile { f[a], f[b] = f[b], f[a]; return f }
}

func again(at int) edit {
	return func(f []exportFile) []exportFile { return append(f, f[at]) }
}

func reworded(at int, old, now string) edit {
	return func(f []exportFile) []exportFile {
		f[at].content = bytes.Replace(f[at].content, []byte(old), []byte(now), 1)
		return f
	}
}

// Where the files of an export stand that audited.files gives: behind the manifest the entry of the bus, those of the room,
// its places and its frames.
const busAt, roomAt, placesAt, first = 1, 2, 6, 7

// forgery is an export that somebody has edited, and what is said of it; empty: nothing.
type forgery struct {
	what  string
	edit  edit
	tells string
}

// refuses fails unless what was edited is refused for what it is, with whatever checksum somebody has made for it.
func (w *audited) refuses(all []forgery) {
	w.t.Helper()
	for _, c := range all {
		_, err := w.verifies(c.edit(w.files()))
		if c.tells == "" && err != nil || c.tells != "" && (!errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), c.tells)) {
			w.t.Errorf("%s: %v, not %q", c.what, err, c.tells)
		}
	}
}

// TestForgedFrames: frames that are not those that were written, or not in their order, are refused.
func TestForgedFrames(t *testing.T) {
	w := newAudited(t, ledger.EncryptionNone, &ledger.Retain{})
	room, alice := w.room.ID.String(), w.people["alice"].Key().String()
	stranger := crypto.ID{9}.String()
	w.refuses([]forgery{
		{"as it was written", func(f []exportFile) []exportFile { return f }, ""},
		{"two frames in each other's place", swapped(first, first+1), "stands behind frame 2"},
		{"a frame twice", again(first + 2), "stands behind frame 3"},
		{"a frame before the places", swapped(placesAt, first), "stands where none of that room can"},
		{"no places", dropped(placesAt), "stands where none of that room can"},
		{"places of another room", renamed(placesAt, "places/"+stranger+"/1/3"), "without its log"},
		{"places of the bus", renamed(placesAt, "places/"+w.logs[0].ID.String()+"/1/3"), "without its log"},
		{"the room's places again", again(placesAt), "not where they belong"},
		{"its places with another end", func(f []exportFile) []exportFile { return append(f, exportFile{"places/" + room + "/4/9", nil}) }, "not where they belong"},
		{"frames behind the last place", renamed(placesAt, "places/"+room+"/1/2"), "stands behind frame 2, of the places 1 to 2"},
		{"frames before the first", renamed(placesAt, "places/"+room+"/2/3"), "of the places 2 to 3"},
		{"places that cannot be", renamed(placesAt, "places/"+room+"/9/3"), "no room has such places"},
		{"places from 0", renamed(placesAt, "places/"+room+"/0/3"), "no room has such places"},
		{"places without an end", renamed(placesAt, "places/"+room+"/1/18446744073709551615"), "no room has such places"},
		{"places written otherwise", renamed(placesAt, "places/"+room+"/01/3"), "no room has such places"},
		{"places with content", func(f []exportFile) []exportFile { f[placesAt].content = []byte("x"); return f }, "no room has such places"},
		{"places of no room", renamed(placesAt, "places/x/1/3"), "places/x/1/3: "},
		{"a place that is no number", renamed(first, "frames/"+room+"/x/1/"+alice), "/x/1/"},
		{"a place written otherwise", renamed(first, "frames/"+room+"/01/1/"+alice), "no frame is named so"},
		{"a time that is none", renamed(first, "frames/"+room+"/1/x/"+alice), "/1/x/"},
		{"a sender who is none", renamed(first, "frames/"+room+"/1/1/"+alice+"X"), "frames/"},
		{"a frame of another room", renamed(first, "frames/"+stranger+"/1/1/"+alice), "stands where none of that room can"},
		{"an entry behind frames", again(roomAt), "stands behind frames"},
	})
}

// TestForgedLogs: so are entries and logs that are, and a manifest of something else.
func TestForgedLogs(t *testing.T) {
	w := newAudited(t, ledger.EncryptionNone, &ledger.Retain{})
	other := newAudited(t, ledger.EncryptionE2E, &ledger.Retain{}) // of the same bus
	stranger := crypto.ID{9}.String()
	w.refuses([]forgery{
		{"an entry left out", dropped(roomAt + 1), "is not valid"},
		{"the first entry left out", dropped(roomAt), "is not valid"},
		{"two entries in each other's place", swapped(roomAt, roomAt+1), "is not valid"},
		{"the last entry left out", dropped(roomAt + 3), ""}, // a log may end there: its frames then say more
		{"the log of the room left out", func(f []exportFile) []exportFile { return append(f[:roomAt:roomAt], f[placesAt:]...) }, "without its log"},
		{"and its frames", func(f []exportFile) []exportFile { return f[:roomAt] }, "it has 1 logs, and its manifest says 2"},
		{"the log of the bus left out", dropped(busAt), "is not where the log of the bus has to be"},
		{"a log twice", func(f []exportFile) []exportFile {
			return append(append(f[:placesAt:placesAt], f[busAt]), f[placesAt:]...)
		}, "stands in it twice"},
		{"a room of another bus", func(f []exportFile) []exportFile { return append(f[:roomAt:roomAt], strangerRoom(t)...) }, "is of another bus"},
		{"another room's log for its own", func(f []exportFile) []exportFile {
			return append(append(f[:roomAt:roomAt], other.files()[roomAt:placesAt]...), f[placesAt:]...)
		}, "without its log"},
		{"another bus in the manifest", reworded(0, w.logs[0].ID.String(), stranger), "is not where the log of the bus has to be"},
		{"frames that the manifest does not tell of", reworded(0, `"format":3,`, `"format":2,`), "does not fit"},
		{"frames that it denies", func(f []exportFile) []exportFile {
			return reworded(0, `,"frames":true`, "")(reworded(0, `"format":3,`, `"format":2,`)(f))
		}, "its manifest says nothing of frames"},
		{"a backup with frames", reworded(0, `"export":true,`, ""), "does not fit"},
	})
}

// TestShortLog: a log whose last entry is left out is one by the rules; what was written since shows that there was more.
func TestShortLog(t *testing.T) {
	w := newAudited(t, ledger.EncryptionE2E, &ledger.Retain{})
	files := w.files()
	logs, err := w.verifies(append(files[:5:5], files[6:]...))
	if err != nil || len(logs) != 2 || logs[1].Head.Seq != 3 || logs[1].Frames.Findings != 3 {
		t.Errorf("%+v, %v", logs, err)
	}
}

// TestFramesLeftOut: a file that has messages of rooms, and nothing of those of a room that stores them, has lost them.
func TestFramesLeftOut(t *testing.T) {
	for _, retain := range []*ledger.Retain{{}, nil} {
		w := newAudited(t, ledger.EncryptionE2E, retain)
		files := slices.DeleteFunc(w.files(), func(f exportFile) bool {
			return strings.HasPrefix(f.name, "frames/") || strings.HasPrefix(f.name, "places/")
		})
		logs, err := w.verifies(files)
		if stores := retain != nil; err != nil || len(logs) != 2 || (logs[1].Frames != nil) != stores || stores && logs[1].Frames.Findings != 1 {
			t.Errorf("the room stores messages: %v, and found is %+v, %v", stores, logs, err)
		}
	}
}

// strangerRoom is a room of another bus, as files.
func strangerRoom(t *testing.T) []exportFile {
	t.Helper()
	s := new(ledger.State)
	create := &ledger.Create{Bus: crypto.ID{7}, Subject: "x", Nonce: make([]byte, 16), Policy: ledger.Policy{Encryption: ledger.EncryptionNone, History: ledger.HistoryShared}}
	statement, err := s.Next(identity(t, 0), create, began)
	must(t, err)
	id, _, _, err := ledger.Place(statement)
	must(t, err)
	return []exportFile{{"logs/" + id.String() + "/1", statement}}
}

// TestDamagedExport: an export that was cut anywhere, or of which a bit is another, is refused; and so is one that is none.
func TestDamagedExport(t *testing.T) {
	w := newAudited(t, ledger.EncryptionE2E, &ledger.Retain{})
	path := filepath.Join(t.TempDir(), "export")
	must(t, Export(path, w.logs, []Past{w.past(1, 3, w.frames("alice.1.0 bob.1.0 alice.1.1"))}, ended))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	raw, err := os.ReadFile(path)
	must(t, err)
	refused := func(what string, raw []byte) {
		t.Helper()
		if _, err := w.verifiesRaw(raw); !errors.Is(err, ErrArchive) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := 10; n < len(raw); n += 37 { // before are gzip's time and system
		refused(fmt.Sprintf("%d bytes of it", n), raw[:n])
		flipped := bytes.Clone(raw)
		flipped[n] ^= 1 << (n % 8)
		refused(fmt.Sprintf("byte %d flipped", n), flipped)
	}
	refused("nothing", nil)
	refused("one behind the other", append(bytes.Clone(raw), raw...))
	zeros := func(header ...tar.Header) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		for _, h := range header {
			_ = tar.NewWriter(z).WriteHeader(&h)
		}
		_, err := io.CopyN(z, zero{}, 32<<20)
		must(t, errors.Join(err, z.Close()))
		return b.Bytes()
	}
	refused("zeros", zeros())
	refused("a file larger than any", zeros(tar.Header{Name: manifestName, Size: 1 << 40}))
	refused("a large manifest", zeros(tar.Header{Name: manifestName, Size: maxItem}))
}

// zero reads as zeros, without end.
type zero struct{}

func (zero) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestExportNotRestored: of an export with frames nothing is restored.
func TestExportNotRestored(t *testing.T) {
	w := newAudited(t, ledger.EncryptionNone, &ledger.Retain{})
	path, into := filepath.Join(t.TempDir(), "export"), filepath.Join(t.TempDir(), "b.db")
	must(t, Export(path, w.logs, []Past{w.past(1, 1, w.frames("alice.1.0"))}, ended))
	if _, err := Restore(t.Context(), path, "sqlite:"+into, Access{}, quiet); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("restored: %v", err)
	}
	if _, err := os.Stat(into); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a store is there: %v", err)
	}
}
