package pins

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// create makes a file that remembers nothing yet. It is made aside, and moved to its place when it is whole, so that a
// file which is empty is never a new one: it has lost what it remembered.
func create(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), ".unibus-new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	aside := filepath.Join(folder, "pins")
	if err := newfile.Touch(aside); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", sqlite.DSN(aside, busy, sqlite.Full))
	if err != nil {
		return err
	}
	if err := errors.Join(sqlite.Migrate(ctx, db, schema, migrations()), db.Close()); err != nil {
		return err
	}
	return moveTo(path, aside)
}

// lockOf is the file beside the pins that a process holds locked while it changes another one beside them.
func lockOf(pins string) *flock.Flock { return flock.New(pins+".lock", flock.SetPermissions(0o600)) }

// moveTo puts a new file where there is none, without anything of an earlier one; another process may have been quicker.
func moveTo(path, aside string) (err error) {
	lock := lockOf(path)
	if err := lock.Lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, of := range []string{"-wal", "-shm", changesSuffix} {
		if err := os.Remove(path + of); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Rename(aside, path)
}
