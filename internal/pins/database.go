package pins

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// busy is how long a call waits for another process of the same identity.
const busy = 10 * time.Second

// emptiest is how long a SQLite file is at least that holds anything.
const emptiest = 512

// database is the SQLite file. Before a table is used it is held against what was written last, and after each change the
// file of changes is brought up to it, so that a disk which forgets is found out (schema.go, changes.go).
type database struct {
	path    string
	file    *sql.DB // one connection, so that a process waits for itself as it does for others
	changes changesFile
	commits durability // how the connection commits now, or unknown; whoever holds the connection may touch it

	mu     sync.Mutex
	looked map[string]trust // by table
}

// durability is how a change is written.
type durability int

const (
	durable durability = iota // it waits for the disk
	lax                       // it does not: it may be lost with the machine's power, and costs only a check then
)

// unknown is none of them.
const unknown durability = -1

// syncs is what SQLite calls it.
var syncs = [...]sqlite.Sync{durable: sqlite.Full, lax: sqlite.Normal}

// trust is how well a table was looked at.
type trust int

const (
	counted trust = iota + 1 // it has as many rows as were written, with the checksums that they were given
	whole                    // and each row is what its checksum says
)

// openDatabase opens the file. How long a call waits for other processes that hold it is patience.
func openDatabase(path string, patience time.Duration) (*database, error) {
	file, err := sql.Open("sqlite", sqlite.DSN(path, patience, sqlite.Full))
	if err != nil {
		return nil, err
	}
	file.SetMaxOpenConns(1)
	return &database{path: path, file: file, changes: changesFile{path, thisBoot()}, looked: map[string]trust{}}, nil
}

// Close closes the file.
func (d *database) Close() error { return d.file.Close() }

// connection takes the connection, which commits as it is told from then on. Until it is closed, nobody else has it.
func (d *database) connection(ctx context.Context, how durability) (*sql.Conn, error) {
	c, err := d.file.Conn(ctx)
	if err != nil || d.commits == how {
		return c, err
	}
	d.commits = unknown // whether an error means that it was not done
	if _, err := c.ExecContext(ctx, "PRAGMA synchronous = "+string(syncs[how])); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	d.commits = how
	return c, nil
}

// check refuses a file of another form, an empty one, and one that has lost changes.
func (d *database) check(ctx context.Context) error {
	info, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	if info.Size() < emptiest {
		return fmt.Errorf("%w: the file has %d bytes", ErrDamaged, info.Size())
	}
	before, err := d.changes.least()
	if err == nil {
		err = sqlite.Migrate(ctx, d.file, schema, migrations())
	}
	if err != nil {
		return err
	}
	switch now, err := countChanges(ctx, d.file); {
	case err != nil:
		return err
	case now < before:
		return fmt.Errorf("%w: its last %d changes are gone", ErrDamaged, before-now)
	}
	return nil
}

// querier is the file, or a transaction of it.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// sound makes sure, once, that a table is what was written last: ErrDamaged when it is not.
func (d *database) sound(ctx context.Context, in querier, table string) error {
	return d.look(ctx, in, table, counted, "SELECT count(*) AS n, coalesce(sum(checksum), 0) AS sum FROM "+table)
}

// absent makes sure, once, that a row which is not found in a table never was: ErrDamaged when one that was written
// is gone, or could not be found because its key is another now.
func (d *database) absent(ctx context.Context, in querier, table string) error {
	return d.look(ctx, in, table, whole, "SELECT count(*) AS n, (SELECT coalesce(sum(checksum), 0) FROM "+table+") AS sum FROM intact_"+table)
}

// look compares a table, as a query counts it, with what it is said to have. A table that was looked at as well, or better,
// is not looked at again: each row is held against its checksum whenever it is read.
func (d *database) look(ctx context.Context, in querier, table string, how trust, query string) error {
	d.mu.Lock()
	looked := d.looked[table]
	d.mu.Unlock()
	if looked >= how {
		return nil
	}
	var n, rows, sum, checksums int64
	err := in.QueryRowContext(ctx, "SELECT n, rows, sum, checksums FROM counts, ("+query+") WHERE name = ?", table).Scan(&n, &rows, &sum, &checksums)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: nothing says how many %s there are", ErrDamaged, table)
	}
	if err != nil {
		return fmt.Errorf("look through the %s: %w", table, failure(err))
	}
	if n != rows || sum != checksums {
		return fmt.Errorf("%w: its %s are not those that were written last: %d rows, of %d", ErrDamaged, table, n, rows)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looked[table] = max(d.looked[table], how)
	return nil
}

// row is a question of which a table answers with one row, or none.
type row struct {
	table string
	what  string // is read, for an error
	query string
	args  []any
}

// find reads a row into values. known is false when there is none, and never was.
func (d *database) find(ctx context.Context, r row, into ...any) (known bool, err error) {
	return d.findIn(ctx, d.file, r, into...)
}

// findIn is find in a transaction.
func (d *database) findIn(ctx context.Context, in querier, r row, into ...any) (known bool, err error) {
	if err := d.sound(ctx, in, r.table); err != nil {
		return false, err
	}
	err = in.QueryRowContext(ctx, r.query, r.args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, d.absent(ctx, in, r.table)
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", r.what, failure(err))
	}
	return true, nil
}

// list reads all rows that answer a question, each into the values that fields gives for it, and makes sure that no other
// is gone.
func list[T any](ctx context.Context, d *database, r row, fields func(*T) []any) (all []T, err error) {
	return listIn(ctx, d, d.file, r, fields)
}

// listIn is list in a transaction.
func listIn[T any](ctx context.Context, d *database, in querier, r row, fields func(*T) []any) (all []T, err error) {
	if err := d.absent(ctx, in, r.table); err != nil {
		return nil, err
	}
	rows, err := in.QueryContext(ctx, r.query, r.args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.what, failure(err))
	}
	defer rows.Close()
	for rows.Next() {
		var one T
		if err := rows.Scan(fields(&one)...); err != nil {
			return nil, fmt.Errorf("read %s: %w", r.what, failure(err))
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", r.what, failure(err))
	}
	return all, nil
}

// write changes the file by one statement.
func (d *database) write(ctx context.Context, how durability, statement string, args ...any) error {
	return d.change(ctx, how, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	})
}

// writeAll makes one change for each row of arguments: all of them, or none.
func (d *database) writeAll(ctx context.Context, how durability, statement string, rows iter.Seq[[]any]) error {
	return d.change(ctx, how, func(tx *sql.Tx) error {
		put, err := tx.PrepareContext(ctx, statement)
		if err != nil {
			return err
		}
		for args := range rows {
			if _, err := put.ExecContext(ctx, args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// change has a transaction change the file, in one process at a time; when it fails, nothing of it is left. Then it is written
// down how often the file was changed up to it: what others change after it may not have waited for the disk.
func (d *database) change(ctx context.Context, how durability, do func(*sql.Tx) error) error {
	c, err := d.connection(ctx, how)
	if err != nil {
		return failure(err)
	}
	defer c.Close()
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return failure(err)
	}
	defer tx.Rollback() // after a commit it does nothing
	if err := do(tx); err != nil {
		return failure(err)
	}
	now, err := countChanges(ctx, tx)
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return failure(err)
	}
	return d.changes.write(now, how)
}

// failure gives what the driver says, and what was read, its kind.
func failure(err error) error {
	switch {
	case errors.Is(err, ErrDamaged), errors.Is(err, ErrNotKept):
	case sqlite.IsDamaged(err), errors.Is(err, ledger.ErrSnapshot):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case sqlite.IsDisk(err):
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	case sqlite.IsBusy(err):
		return heldTooLong()
	}
	return err
}

// heldTooLong is the error of who waited in vain for other processes.
func heldTooLong() error {
	return fmt.Errorf("%w: other processes of this identity held the file for more than %v", store.ErrUnavailable, busy)
}

// notKept gives errors of files their kind.
func notKept(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	return err
}
