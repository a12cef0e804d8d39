package pins

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
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

// TestGoneBack: whatever part of what was written last is taken back, pins never say what they said before.
func TestGoneBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	s := states(t, "bob", "carol")
	key := crypto.PublicKey{1}
	remember := func(s *ledger.State, n uint64) {
		t.Helper()
		if err := errors.Join(
			p.Of(t.Context(), key), p.Advance(t.Context(), s), p.PinServer(t.Context(), "here", s.ID), p.PinName(t.Context(), s.ID, "bob", crypto.PublicKey{byte(n)}, true),
			p.PinSubject(t.Context(), s.ID, "ops", s.ID, false), p.Reached(t.Context(), s.ID, Place{Seq: n}),
		); err != nil {
			t.Fatal(err)
		}
	}
	checkpoint := func() {
		t.Helper()
		if _, err := p.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			t.Fatal(err)
		}
	}
	remember(s[0], 1)
	checkpoint()
	before := take(t, path)
	remember(s[1], 2)
	after := take(t, path)
	checkpoint()
	settled := take(t, path)

	told := 0
	try := func(what, path string) {
		t.Helper()
		p, err := Open(t.Context(), path)
		var now *ledger.State
		var at Place
		if err == nil {
			now, err = p.State(t.Context(), s[0].ID)
			if err == nil {
				at, err = p.Place(t.Context(), s[0].ID)
			}
			err = errors.Join(err, p.PinName(t.Context(), s[0].ID, "bob", crypto.PublicKey{2}, false), p.Close())
		}
		switch {
		case errors.Is(err, ErrDamaged):
			told++
		case err != nil:
			t.Errorf("%s: %v", what, err)
		case now.Head != s[1].Head || at.Seq != 2:
			t.Errorf("%s: it says what it said before: %v, %v", what, now.Head, at)
		}
	}
	try("nothing", after.put(t, "", after[""]))
	if told > 0 {
		t.Fatal("what is whole is damaged")
	}
	try("all but the count of changes", before.put(t, changesSuffix, after[changesSuffix]))
	try("the log of SQLite", after.put(t, "-wal", nil))
	for at := 0; at < len(after["-wal"]); at += 211 {
		flipped := bytes.Clone(after["-wal"])
		flipped[at] ^= 1 << (at % 8)
		try("a bit of the log", after.put(t, "-wal", flipped))
		try("the end of the log", after.put(t, "-wal", flipped[:at]))
	}
	const page = 4096
	for at := 0; at < len(settled[""]) && at < len(before[""]); at += page {
		stale := bytes.Clone(settled[""])
		copy(stale[at:], before[""][at:min(at+page, len(before[""]))])
		try("a page", settled.put(t, "", stale))
	}
	for at := range changesSize {
		flipped := bytes.Clone(after[changesSuffix])
		flipped[at] ^= 1
		try("the count of changes", after.put(t, changesSuffix, flipped))
	}
	try("the count of changes, emptied", after.put(t, changesSuffix, []byte{}))
	if told < 100 {
		t.Errorf("%d times it was told", told)
	}
	if err := os.Remove(path); err != nil { // a person wants to begin anew
		t.Fatal(err)
	}
	if now, err := open(t, path).State(t.Context(), s[0].ID); err != nil || now.Head.Seq != 0 {
		t.Errorf("what was removed is remembered: %v, %v", now, err)
	}
}
