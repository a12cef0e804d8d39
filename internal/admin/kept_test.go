package admin

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// kept examines what a store is kept in.
func kept(t *testing.T, s store.Backend, look Look) func(func(Check)) {
	return func(report func(Check)) {
		look.Report = report
		Kept(t.Context(), s, look)
	}
}

// headsOf is where what was acknowledged of a database is recorded.
func headsOf(path string) string {
	return filepath.Join(filepath.Dir(path), "heads."+filepath.Base(path))
}

// TestKeptFile: a database that is behind what was acknowledged is told of, until a repair takes it for all there is.
func TestKeptFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s := filled(t, path)
	finds(t, "whole", kept(t, s, onlyLook), finding{"database", Pass, 0, "whole, and with all"})
	change(t, path, `DELETE FROM entries WHERE n IN (SELECT max(n) FROM entries)`)
	finds(t, "an entry lost", kept(t, s, onlyLook), finding{"database", Fail, remedy.RestoreOrAccept, "lost entry 3"})
	finds(t, "an entry lost, repaired", kept(t, s, repair), finding{"database", Warn, 0, "taken for all there is (integrity: it has lost entry 3"})
	finds(t, "after the repair", kept(t, s, onlyLook), finding{"database", Pass, 0, "whole"})
	must(t, os.Remove(headsOf(path)))
	finds(t, "no record", kept(t, s, onlyLook), finding{"database", Warn, remedy.StartService, "what was acknowledged of 4 logs"})
}

// TestKeptRecord: a record of what was acknowledged that cannot be written anew is no record.
func TestKeptRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s := filled(t, path)
	must(t, os.Remove(headsOf(path)))
	must(t, os.MkdirAll(filepath.Join(headsOf(path), "in the way"), 0o700))
	finds(t, "no file", kept(t, s, onlyLook), finding{"database", Fail, remedy.RestoreOrAccept, ""})
	finds(t, "no file, repaired", kept(t, s, repair), finding{"database", Fail, remedy.RestoreStore, ""})
}

// TestKeptDamaged: a database that SQLite finds damaged is told of, and no repair says otherwise.
func TestKeptDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	filled(t, path).Close() // all of it is in the file then
	raw, err := os.ReadFile(path)
	must(t, err)
	at := bytes.LastIndex(raw, []byte("r.1")) // in a page of rooms, or of the index of their names
	copy(raw[at:], "r.9")
	must(t, os.WriteFile(path, raw, 0o600))
	s := openAt(t, path)
	for _, look := range []Look{onlyLook, repair} {
		finds(t, "a page", kept(t, s, look), finding{"database", Fail, remedy.RestoreStore, ""})
	}
}

// TestKeptRecords: servers that cannot read what they have are told of, with where a backup of it goes.
func TestKeptRecords(t *testing.T) {
	n := startNode(t)
	s := n.open(t, 1)
	migrated(t, s)
	finds(t, "whole", kept(t, s, onlyLook), finding{"records", Pass, 0, "can read all that they keep"})
	n.acc.Step = time.Second / 2 // nobody will answer
	impatient := n.open(t, 1)
	must(t, n.streams(t).DeleteStream(t.Context(), "KV_unibus_members"))
	var got Check
	kept(t, impatient, onlyLook)(func(c Check) { got = c })
	if got.Status != Fail || got.Help != (remedy.Remedy{Kind: remedy.RestoreStore, InServers: true}) {
		t.Errorf("a bucket is gone: %+v", got)
	}
}

// TestCards: a card that is not what was signed is named, with whose it is.
func TestCards(t *testing.T) {
	s := filled(t, filepath.Join(t.TempDir(), "a.db"))
	cards := func(ctx context.Context) func(func(Check)) {
		return func(report func(Check)) { Cards(ctx, s, Look{Report: report}) }
	}
	finds(t, "whole", cards(t.Context()), finding{"cards", Pass, 0, "1, each signed"})
	over, end := context.WithCancel(t.Context())
	end()
	finds(t, "nobody waits", cards(over), finding{"cards", Fail, 0, "context canceled"})
	for card, err := range s.AllCards(t.Context()) {
		must(t, err)
		card.Statement = bytes.Clone(card.Statement)
		card.Statement[80] ^= 1
		must(t, s.PutCards(t.Context(), card))
	}
	finds(t, "a byte changed", cards(t.Context()), finding{"cards", Fail, remedy.MendCards, "1 of 1 are not what was signed: " + identity(t, 0).Key().String()})
	_, err := Backup(t.Context(), s, filepath.Join(t.TempDir(), "a.tar.gz"), time.Now(), func(int64, int64) {})
	if !errors.Is(err, store.ErrDamaged) || remedy.Of(err).Kind != remedy.MendCard {
		t.Errorf("a backup of that: %v", err)
	}
}
