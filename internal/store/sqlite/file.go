package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	sqlitedriver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// This file is what any SQLite file of unibus needs, that of a store and that of a client's pins alike: how it is
// opened (DSN), brought to the newest schema (Migrate), and what its driver's errors mean.

// Sync says when SQLite waits for the disk.
type Sync string

const (
	Full   Sync = "FULL"   // what was committed survives a power failure
	Normal Sync = "NORMAL" // a power failure may lose the last commits, and never damages the file
)

// pageSize is that of new files. A sealing key, a card and a sealed key have 1.2 to 1.4 KiB: of pages of half the size each of
// these takes a second one, which every comparison of its key reads as well.
const pageSize = 8 << 10

// DSN is the data source name of a SQLite file that several processes use, in WAL mode. A call waits for as long as
// busy says while another process holds the file. A transaction takes the right to write when it begins.
func DSN(path string, busy time.Duration, sync Sync) string {
	q := url.Values{"_txlock": {"immediate"}, "_journal_mode": {"WAL"}} // after the pragmas: the size of pages is settled with it
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()))
	q.Add("_pragma", fmt.Sprintf("page_size(%d)", pageSize))
	q.Add("_pragma", "synchronous("+string(sync)+")")
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: q.Encode()}).String()
}

// Migrate applies the migrations that a file does not have yet, each in a transaction of its own; the first makes
// the version oldest of an empty file. store.ErrInvalid for a file from a newer version, and for one from before
// oldest.
func Migrate(ctx context.Context, db *sql.DB, oldest int, migrations []string) error {
	version, err := settledVersion(ctx, db)
	if err != nil {
		return err
	}
	newest := oldest + len(migrations) - 1
	if err := supported(version, oldest, newest); err != nil {
		return err
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

// supported refuses the files that this build cannot use; version 0 is an empty one.
func supported(version, oldest, newest int) error {
	switch {
	case version > newest:
		return fmt.Errorf("%w: the file has schema version %d, this unibus knows %d: newer unibus needed", store.ErrInvalid, version, newest)
	case version > 0 && version < oldest:
		return fmt.Errorf("%w: the file holds data of an earlier build of unibus, which this one cannot read", store.ErrInvalid)
	}
	return nil
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

// While several processes make one file, SQLite tells all but one of them that it is busy, and waits for none.
const (
	makingWait  = 10 * time.Second // for the others
	makingAgain = 5 * time.Millisecond
)

// settledVersion returns a file's schema version, once no other process is making the file any more.
func settledVersion(ctx context.Context, db *sql.DB) (version int, err error) {
	for began := time.Now(); ; {
		err = db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
		if !IsBusy(err) || time.Since(began) > makingWait {
			return version, err
		}
		if err := tasks.Pause(ctx, makingAgain); err != nil {
			return 0, err
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

// isNoDatabase reports whether an error says that a file is something else than a SQLite database.
func isNoDatabase(err error) bool { return code(err) == sqlite3.SQLITE_NOTADB }

// code is SQLite's primary error code; 0 for an error that is not SQLite's.
func code(err error) int {
	var e *sqlitedriver.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}
