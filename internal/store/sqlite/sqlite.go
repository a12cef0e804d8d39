// Package sqlite is the default store: one SQLite file in WAL mode with synchronous=FULL, which several processes
// may have open at once. An Append is one transaction over the log and its views, so that views are never behind.
// Beside the file stands a record of the last entry of each log that was acknowledged (heads.go): a store that has
// lost one is not used.
//
// The interfaces of package store are implemented by a type each, in the file of its name; they share an open
// database. What entries mean, and whether they may be appended at all, is package ledger's.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
)

// Options of Open. The zero value is the default.
type Options struct {
	OpTimeout time.Duration // that one call may take; 0: store.DefaultOpTimeout
	Relaxed   bool          // synchronous=NORMAL: a power failure may lose the last writes
	Existing  bool          // fail with ErrNotFound when there is no store in the file, instead of making one
	Unchecked bool          // for whoever repairs it: it may lack what was acknowledged, as CheckHeads then says
}

// Store is an open file: a store.Backend, and what is to be asked of a file beyond that.
type Store struct {
	*database
	*entryLog
	*watches
	*directory
	*keyring
	*staging
	*allowlist
	*inventory
	*repairer
	*acknowledged

	closed sync.Once
}

var _ store.Backend = (*Store)(nil)

// Open opens or makes the file at path and brings its schema up to date. Its folder is made, too. ErrInvalid when
// path is empty, a folder, another program's file, or of a newer or too old unibus; ErrNotFound with Existing;
// ErrDamaged when the file is damaged, or lacks an entry that was acknowledged.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	if path == "" {
		return nil, fmt.Errorf("open the store: %w: sqlite: needs a path", store.ErrInvalid)
	}
	if err := prepare(path, o); err != nil {
		return nil, err
	}
	if o.OpTimeout == 0 {
		o.OpTimeout = store.DefaultOpTimeout
	}
	sync := Full
	if o.Relaxed {
		sync = Normal
	}
	d, err := openDatabase(path, o.OpTimeout, sync)
	if err != nil {
		return nil, err
	}
	s := assemble(d, path, sync)
	if err := s.begin(ctx, path, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// assemble makes the parts of a store on an open database.
func assemble(d *database, path string, sync Sync) *Store {
	heads := newHeads(path)
	w := newWatches(d)
	l := &entryLog{database: d, watches: w, step: func(string) {}}
	if sync == Full {
		l.acked = heads
	}
	return &Store{
		database: d, entryLog: l, watches: w, directory: &directory{d}, keyring: &keyring{d}, staging: &staging{d}, allowlist: &allowlist{d},
		inventory: &inventory{d}, repairer: &repairer{database: d, log: l}, acknowledged: &acknowledged{d, heads},
	}
}

// begin looks at what is in the file, and brings it up to date.
func (s *Store) begin(ctx context.Context, path string, o Options) error {
	if o.Existing {
		version, err := settledVersion(ctx, s.read)
		if err != nil {
			return cannotOpen(path, err)
		}
		if version == 0 { // nothing, or something else
			return noStore(path)
		}
	}
	err := Migrate(ctx, s.write, oldest, migrations)
	if err == nil && !o.Unchecked {
		err = s.CheckHeads(ctx)
	}
	if err != nil {
		return cannotOpen(path, err)
	}
	return nil
}

// Close closes the file; watches end.
func (s *Store) Close() (err error) {
	s.closed.Do(func() {
		s.endAll()
		err = s.closeFiles()
	})
	return err
}

// cannotOpen says why a file is not opened. One that is something else is a mistake of whoever named it; later,
// the same error of SQLite means that the file was damaged.
func cannotOpen(path string, err error) error {
	if _, kept := os.Stat(headsFile(path)); isNoDatabase(err) && kept != nil {
		return fmt.Errorf("open the store %s: %w: it is no SQLite database", path, store.ErrInvalid)
	}
	return fmt.Errorf("open the store %s: %w", path, failure(err))
}

// noStore says that there is no store in a file that is there, or is empty.
func noStore(path string) error {
	return fmt.Errorf("open the store: %w: there is no store in the file %s", store.ErrNotFound, path)
}

// prepare makes the file's folder, and the file itself readable by its owner only. Nothing is made in the place of a
// store that was lost.
func prepare(path string, o Options) error {
	info, err := os.Stat(path)
	missing := errors.Is(err, os.ErrNotExist)
	empty := missing || err == nil && info.Size() == 0
	if kept, err := os.Stat(headsFile(path)); empty && err == nil && kept.Size() > 0 {
		return fmt.Errorf("open the store: %w: %s is empty or not there, and what was acknowledged of it is, in %s", store.ErrDamaged, path, headsFile(path))
	}
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("open the store: %w: %s is a folder", store.ErrInvalid, path)
	case o.Existing && missing:
		return fmt.Errorf("open the store: %w: there is no file %s", store.ErrNotFound, path)
	case o.Existing && empty:
		return noStore(path)
	}
	if err := newfile.Touch(path); err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	return nil
}
