package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// An archive is restored in three steps: the whole of it is verified (foldArchive), its items are copied into the store as
// those of another store would be (copyItems), and what the store then holds is held against what was verified. The
// archive is read twice for that, and each time to its checksum.

// Restore puts an archive into the store at a URL, after checking the whole of it, and then checks the store. A
// store that is a file is whole afterwards or not there; of one that is there already nothing is changed or
// removed, only what it lacks is added. ErrConflict and ErrExists as with Migrate.
func Restore(ctx context.Context, path, url string, a Access, progress Progress) (r Report, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, fmt.Errorf("%w: there is no file %s", store.ErrNotFound, path)
	}
	if err != nil {
		return r, err
	}
	defer f.Close()
	return RestoreFrom(ctx, f, url, a, progress)
}

// RestoreFrom is Restore of an archive that is read more than once.
func RestoreFrom(ctx context.Context, f io.ReadSeeker, url string, a Access, progress Progress) (r Report, err error) {
	var m manifest
	heads, err := foldArchive(ctx, f, &m, func(*ledger.State) {})
	if err != nil {
		return r, err
	}
	// A bus without keys looks well until somebody wants to read.
	if m.Export {
		return r, fmt.Errorf("%w: it is an export, without keys: only what backup writes can be restored", store.ErrInvalid)
	}
	r.Bus = m.Bus
	err = writeAside(url, func(url string) error {
		to, done, err := Open(ctx, url, a, open.Make)
		if err != nil {
			return err
		}
		defer done()
		return restoreInto(ctx, f, heads, to, &r, progress)
	})
	return r, err
}

// restoreInto puts a checked archive into a store, and checks that the store then holds the same.
func restoreInto(ctx context.Context, f io.ReadSeeker, heads map[crypto.ID]ledger.Head, to store.Backend, r *Report, progress Progress) error {
	if err := mayHold(ctx, to, r.Bus); err != nil {
		return fmt.Errorf("the store: %w", err)
	}
	var done atomic.Int64
	tick := func() { progress(done.Add(1), 2*int64(len(heads))) }
	return receive(ctx, to, func() error {
		if err := copyItems(ctx, readArchive(f, new(manifest)), to, &r.Totals, tick); err != nil {
			return err
		}
		_, err := eachLog(ctx, to, func(ctx context.Context, log crypto.ID) error {
			defer tick()
			h, ok := heads[log]
			if !ok {
				return fmt.Errorf("%w: the store has a log %s that the archive has not", ErrDiffers, log)
			}
			return verifyLog(ctx, to, log, h)
		})
		return err
	})
}

// writeAside calls write with the URL of a store to write. A file that is not there yet is written beside its place,
// and put there when write is done, so that nobody finds a part of it.
func writeAside(url string, write func(url string) error) error {
	u, err := open.Parse(url)
	if err != nil {
		return err
	}
	path := u.Path
	if _, err := os.Stat(path); path == "" || !errors.Is(err, os.ErrNotExist) {
		return write(url)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".unibus-new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The record of what was acknowledged goes with the file, behind it: that a file has none can be told.
	made := filepath.Join(dir, "store")
	if err := write(open.FileURL(made)); err != nil {
		return err
	}
	if err := os.Link(made, path); errors.Is(err, os.ErrExist) { // another process was quicker
		return fmt.Errorf("%s: %w", path, store.ErrExists)
	} else if err != nil {
		return err
	}
	return sqlite.MoveHeads(made, path)
}
