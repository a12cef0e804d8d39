// Package sqlite is the default store: one SQLite file in WAL mode with synchronous=FULL, which
// several processes may have open at once. An Append is one transaction over the log and its views.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	sqlitedriver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
)

// Options of Open. The zero value is the default.
type Options struct {
	OpTimeout time.Duration // 0: store.DefaultOpTimeout
	Relaxed   bool          // synchronous=NORMAL: a power failure may lose the last writes
	Existing  bool          // fail with ErrNotFound when there is no store in the file, instead of making one
	Unchecked bool          // for whoever repairs it: it may lack what was acknowledged, as CheckHeads then says
}

// Store is an open file.
type Store struct {
	write   *sql.DB // one connection
	read    *sql.DB
	timeout time.Duration
	relaxed bool
	acked   *heads

	mu       sync.Mutex
	watchers map[chan struct{}]bool // poked after an Append of this process
	closing  chan struct{}
	closed   sync.Once
}

var _ store.Store = (*Store)(nil)

// Open opens or makes the file at path and brings its schema up to date. ErrDamaged when it is damaged, or lacks
// an entry that was acknowledged.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	if path == "" {
		return nil, fmt.Errorf("open the store: %w: sqlite: needs a path", store.ErrInvalid)
	}
	if err := prepare(path, o.Existing); err != nil {
		return nil, err
	}
	if o.OpTimeout == 0 {
		o.OpTimeout = store.DefaultOpTimeout
	}
	s := &Store{timeout: o.OpTimeout, relaxed: o.Relaxed, acked: newHeads(path), watchers: map[chan struct{}]bool{}, closing: make(chan struct{})}
	var err error
	if s.write, err = sql.Open("sqlite", DSN(path, o.OpTimeout, o.Relaxed)); err != nil {
		return nil, err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", DSN(path, o.OpTimeout, o.Relaxed)); err != nil {
		return nil, err
	}
	s.read.SetMaxOpenConns(4)
	s.read.SetMaxIdleConns(4)
	if err := s.existing(ctx, path, o.Existing); err != nil {
		s.Close()
		return nil, err
	}
	err = Migrate(ctx, s.write, oldest, migrations)
	if err == nil && !o.Unchecked {
		err = s.CheckHeads(ctx)
	}
	if err != nil {
		s.Close()
		return nil, cannotOpen(path, err)
	}
	return s, nil
}

// CheckHeads compares the store with the last entries that were acknowledged: ErrDamaged when it lacks one, or
// has another.
func (s *Store) CheckHeads(ctx context.Context) error { return failure(s.acked.check(ctx, s.read)) }

// Unrecorded counts the logs of which nothing says what was acknowledged: the record was lost, or its beginning.
func (s *Store) Unrecorded(ctx context.Context) (int, error) {
	n, err := s.acked.unrecorded(ctx, s.read)
	return n, failure(err)
}

// ResetHeads takes what the store has for what was acknowledged, as a person has decided.
func (s *Store) ResetHeads(ctx context.Context) error { return failure(s.acked.reset(ctx, s.read)) }

// CheckFile has SQLite look at every page of the file: ErrDamaged when one is damaged.
func (s *Store) CheckFile(ctx context.Context) error {
	var said string
	err := s.read.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&said)
	if err == nil && said != "ok" {
		return fmt.Errorf("%w: %s", store.ErrDamaged, said)
	}
	return failure(err)
}

// existing fails with ErrNotFound when a file that has to hold a store holds nothing, or something else.
func (s *Store) existing(ctx context.Context, path string, must bool) error {
	if !must {
		return nil
	}
	version, err := settled(ctx, s.read)
	if err != nil {
		return cannotOpen(path, err)
	}
	if version == 0 {
		return noStore(path)
	}
	return nil
}

// cannotOpen says why a file is not opened. One that is something else is a mistake of whoever named it; later,
// the same error of SQLite means that the file was damaged.
func cannotOpen(path string, err error) error {
	if _, kept := os.Stat(headsFile(path)); code(err) == sqlite3.SQLITE_NOTADB && kept != nil {
		return fmt.Errorf("open the store %s: %w: it is no SQLite database", path, store.ErrInvalid)
	}
	return fmt.Errorf("open the store %s: %w", path, failure(err))
}

func noStore(path string) error {
	return fmt.Errorf("open the store: %w: there is no store in the file %s", store.ErrNotFound, path)
}

// prepare makes the file's folder, and the file itself readable by its owner only.
func prepare(path string, existing bool) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		if kept, err := os.Stat(headsFile(path)); err == nil && kept.Size() > 0 {
			return fmt.Errorf("open the store: %w: %s is empty or not there, and what was acknowledged of it is, in %s", store.ErrDamaged, path, headsFile(path))
		}
	}
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("open the store: %w: %s is a folder", store.ErrInvalid, path)
	case existing && errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("open the store: %w: there is no file %s", store.ErrNotFound, path)
	case existing && err == nil && info.Size() == 0:
		return noStore(path)
	}
	if err := newfile.Touch(path); err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	return nil
}

// DSN is the data source name of a SQLite file opened for durable use by several processes.
func DSN(path string, busy time.Duration, relaxed bool) string {
	level := "FULL"
	if relaxed {
		level = "NORMAL"
	}
	q := url.Values{"_txlock": {"immediate"}}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()))
	q.Add("_pragma", "journal_mode(WAL)")
	q.Add("_pragma", "synchronous("+level+")")
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}).String()
}

// Migrate applies the migrations a file does not have yet, each in a transaction of its own; the first makes
// the version oldest of an empty file. A file from a newer version is refused, and one from before oldest.
func Migrate(ctx context.Context, db *sql.DB, oldest int, migrations []string) error {
	version, err := settled(ctx, db)
	if err != nil {
		return err
	}
	newest := oldest + len(migrations) - 1
	if version > newest {
		return fmt.Errorf("%w: the file has schema version %d, this unibus knows %d: newer unibus needed", store.ErrInvalid, version, newest)
	}
	if version > 0 && version < oldest {
		return fmt.Errorf("%w: the file holds data of an earlier build of unibus, which this one cannot read", store.ErrInvalid)
	}
	for version < newest {
		next, err := migrate(ctx, db, oldest, migrations)
		if err != nil {
			return fmt.Errorf("schema after version %d: %w", version, err)
		}
		version = next
	}
	return nil
}

// While several processes make one file, SQLite tells all but one of them that it is busy, and waits for none.
const (
	makingWait  = 10 * time.Second // for the others
	makingAgain = 5 * time.Millisecond
)

// settled returns a file's schema version, when nobody is making the file any more.
func settled(ctx context.Context, db *sql.DB) (version int, err error) {
	for began := time.Now(); ; {
		err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
		if !IsBusy(err) || time.Since(began) > makingWait {
			return version, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(makingAgain):
		}
	}
}

// IsBusy reports whether an error says that other processes held a file for longer than one waits.
func IsBusy(err error) bool { return code(err) == sqlite3.SQLITE_BUSY }

// IsDisk reports whether an error says that a file cannot be written, or read: its disk is full or fails, or it is not
// this process's to write.
func IsDisk(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return true
	}
	return false
}

// code is SQLite's error code; 0 for an error that is not SQLite's.
func code(err error) int {
	var e *sqlitedriver.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// migrate applies the next migration and returns the version then reached.
func migrate(ctx context.Context, db *sql.DB, oldest int, migrations []string) (int, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return 0, err
	}
	next := max(version+1, oldest)
	if next-oldest >= len(migrations) { // another process was quicker
		return version, nil
	}
	if _, err := tx.ExecContext(ctx, migrations[next-oldest]); err != nil {
		return 0, err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", next)); err != nil {
		return 0, err
	}
	return next, tx.Commit()
}

// Close closes the file; watchers end.
func (s *Store) Close() error {
	var err error
	s.closed.Do(func() {
		close(s.closing)
		if s.read != nil {
			err = s.read.Close()
		}
		err = errors.Join(err, s.write.Close())
	})
	return err
}

// op bounds one call.
func (s *Store) op(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// IsDamaged reports whether an error says that a file is damaged, holds what it never was given, or is no database.
func IsDamaged(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return true
	case sqlite3.SQLITE_ERROR: // the statements are well-formed: the file's schema is not what they were written for
		return true
	}
	return isMistyped(err)
}

// failure turns what the driver says into the store's errors.
func failure(err error) error {
	if err == nil || store.IsKind(err) {
		return err
	}
	if errors.Is(err, sql.ErrNoRows) {
		return store.ErrNotFound
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	switch {
	case IsBusy(err):
		return fmt.Errorf("%w: another process holds the file", store.ErrUnavailable)
	case IsDamaged(err):
		return fmt.Errorf("%w: the database is damaged: %v", store.ErrDamaged, err)
	}
	return fmt.Errorf("%w: %v", store.ErrUnavailable, err)
}
