package admin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// TestExport: logs that were written to a file are what they were, are compared with what was known, and are no backup.
func TestExport(t *testing.T) {
	dir := t.TempDir()
	from := filled(t, filepath.Join(dir, "a.db"))
	var logs []Log
	for id, err := range from.Logs(t.Context()) {
		must(t, err)
		l := Log{ID: id}
		for e, err := range from.Entries(t.Context(), id, 0) {
			must(t, err)
			l.Statements = append(l.Statements, e.Statement)
		}
		logs = append(logs, l)
	}
	path := filepath.Join(dir, "export")
	must(t, Export(path, logs, time.UnixMilli(1e12)))
	if err := Export(path, logs, time.UnixMilli(1e12)); !errors.Is(err, store.ErrExists) {
		t.Errorf("written over: %v", err)
	}
	known := map[crypto.ID][]crypto.Hash{}
	broken := errors.New("broken")
	var unread error
	check := func(path string) error {
		t.Helper()
		found, err := VerifyArchive(t.Context(), path, func(_ context.Context, log crypto.ID) (func(uint64) ([32]byte, bool), error) {
			hashes := known[log]
			return func(seq uint64) (h [32]byte, ok bool) {
				if ok = seq <= uint64(len(hashes)); ok {
					h = hashes[seq-1]
				}
				return h, ok
			}, unread
		})
		if err == nil && len(found) != len(logs) {
			t.Errorf("%d logs", len(found))
		}
		for _, s := range found {
			known[s.ID] = nil
			for seq := range s.Head.Seq {
				h, _ := s.HashAt(seq + 1)
				known[s.ID] = append(known[s.ID], h)
			}
		}
		return err
	}
	must(t, check(path)) // nothing is known
	must(t, check(path)) // all is
	for id, hashes := range known {
		known[id] = append(hashes, crypto.Hash{1}) // more than the file has
	}
	must(t, check(path))
	last := known[logs[1].ID]
	last[len(last)-1] = crypto.Hash{1}
	if err := check(path); !errors.Is(err, store.ErrIntegrity) {
		t.Errorf("another history: %v", err)
	}
	unread = broken
	if err := check(path); !errors.Is(err, broken) {
		t.Errorf("what is known cannot be read: %v", err)
	}
	unread = nil
	raw, err := os.ReadFile(path)
	must(t, err)
	raw[len(raw)/2] ^= 1
	bad := filepath.Join(dir, "bad")
	must(t, os.WriteFile(bad, raw, 0o600))
	if err := check(bad); !errors.Is(err, ErrArchive) {
		t.Errorf("damaged: %v", err)
	}
	if _, err := Restore(t.Context(), path, "sqlite:"+filepath.Join(dir, "b.db"), Access{}, quiet); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("restored: %v", err)
	}
}
