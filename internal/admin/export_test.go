package admin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// exported is a file with the logs of a filled store, and what a client knows of these logs.
type exported struct {
	path  string
	logs  []Log
	known map[crypto.ID][]crypto.Hash // the hashes of the entries that were verified
	err   error                       // what is known cannot be read
}

// export writes the logs of a filled store to a file. Nothing is known of them.
func export(t *testing.T) *exported {
	t.Helper()
	from := filled(t, filepath.Join(t.TempDir(), "a.db"))
	e := &exported{path: filepath.Join(t.TempDir(), "export"), known: map[crypto.ID][]crypto.Hash{}}
	for id, err := range from.Logs(t.Context()) {
		must(t, err)
		l := Log{ID: id}
		for e, err := range from.Entries(t.Context(), id, 0) {
			must(t, err)
			l.Statements = append(l.Statements, e.Statement)
		}
		e.logs = append(e.logs, l)
	}
	must(t, Export(e.path, e.logs, nil, time.UnixMilli(1e12)))
	return e
}

// verify verifies a file against what is known, and learns what it says of logs that are whole.
func (e *exported) verify(t *testing.T, path string) error {
	t.Helper()
	found, err := VerifyArchive(t.Context(), path, func(_ context.Context, log crypto.ID) (func(uint64) ([32]byte, bool), error) {
		hashes := e.known[log]
		return func(seq uint64) (h [32]byte, ok bool) {
			if ok = seq <= uint64(len(hashes)); ok {
				h = hashes[seq-1]
			}
			return h, ok
		}, e.err
	}, time.UnixMilli(1e12), func(n Told) { t.Errorf("%+v", n) })
	if err != nil {
		return err
	}
	if len(found) != len(e.logs) {
		t.Errorf("%d logs", len(found))
	}
	for _, s := range found {
		e.known[s.ID] = nil
		for seq := range s.Head.Seq {
			h, _ := s.HashAt(seq + 1)
			e.known[s.ID] = append(e.known[s.ID], h)
		}
	}
	return nil
}

// TestExport: logs that were written to a file are what they were, whether nothing is known of them, all, or more.
func TestExport(t *testing.T) {
	e := export(t)
	must(t, e.verify(t, e.path)) // nothing is known
	for _, l := range e.logs {
		if len(e.known[l.ID]) != len(l.Statements) {
			t.Errorf("log %s has %d entries, not %d", l.ID, len(e.known[l.ID]), len(l.Statements))
		}
	}
	must(t, e.verify(t, e.path)) // all is
	for id, hashes := range e.known {
		e.known[id] = append(hashes, crypto.Hash{1}) // more than the file has
	}
	must(t, e.verify(t, e.path))
}

// TestExportKnown: a log whose entry is another than the one that is known, the first as the last, is told of; and so is
// that what is known cannot be read.
func TestExportKnown(t *testing.T) {
	e := export(t)
	must(t, e.verify(t, e.path))
	hashes := e.known[e.logs[1].ID]
	for n, known := range hashes {
		hashes[n] = crypto.Hash{1}
		if err := e.verify(t, e.path); !errors.Is(err, store.ErrIntegrity) {
			t.Errorf("another entry %d: %v", n+1, err)
		}
		hashes[n] = known
	}
	e.err = errors.New("broken")
	if err := e.verify(t, e.path); !errors.Is(err, e.err) {
		t.Errorf("what is known cannot be read: %v", err)
	}
}

// TestExportRefuses: a file is not replaced, nor written where there is no folder; one that is damaged or is not there is
// not verified; and what has no keys is no backup.
func TestExportRefuses(t *testing.T) {
	e := export(t)
	if err := Export(e.path, e.logs, nil, time.UnixMilli(1e12)); !errors.Is(err, store.ErrExists) {
		t.Errorf("written over: %v", err)
	}
	nowhere := filepath.Join(filepath.Dir(e.path), "no", "export")
	if err := Export(nowhere, e.logs, nil, time.UnixMilli(1e12)); err == nil || !strings.HasPrefix(err.Error(), nowhere+": ") {
		t.Errorf("written to no folder: %v", err)
	}
	if err := e.verify(t, nowhere); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	raw, err := os.ReadFile(e.path)
	must(t, err)
	raw[len(raw)/2] ^= 1
	bad := filepath.Join(t.TempDir(), "bad")
	must(t, os.WriteFile(bad, raw, 0o600))
	if err := e.verify(t, bad); !errors.Is(err, ErrArchive) {
		t.Errorf("damaged: %v", err)
	}
	if _, err := Restore(t.Context(), e.path, "sqlite:"+filepath.Join(t.TempDir(), "b.db"), Access{}, quiet); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("restored: %v", err)
	}
}

// knowsNothing is what somebody knows who has verified nothing before.
func knowsNothing(context.Context, crypto.ID) (func(uint64) ([32]byte, bool), error) {
	return func(uint64) (h [32]byte, ok bool) { return h, false }, nil
}
