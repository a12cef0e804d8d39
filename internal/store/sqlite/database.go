package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/unibus/unibus/internal/store"
)

// This file is what the parts of a store share: the open file, the bound of each call, and reading whole results or
// page by page.

// page is how many records one read yields, so that none keeps others waiting for long.
const page = 256

// database is an open file. Writes take turns on one connection; reads do not wait for them.
type database struct {
	write   *sql.DB // one connection
	read    *sql.DB
	timeout time.Duration
}

// openDatabase opens a file that is there, or is to be made by the first write. It asks nothing of it yet.
func openDatabase(path string, timeout time.Duration, sync Sync) (*database, error) {
	d := &database{timeout: timeout}
	var err error
	if d.write, err = sql.Open("sqlite", DSN(path, timeout, sync)); err != nil {
		return nil, err
	}
	// SQLite lets one write at a time: others wait here, in order, rather than in it, where they would have to ask again.
	d.write.SetMaxOpenConns(1)
	if d.read, err = sql.Open("sqlite", DSN(path, timeout, sync)); err != nil {
		return nil, errors.Join(err, d.write.Close())
	}
	d.read.SetMaxOpenConns(4)
	d.read.SetMaxIdleConns(4)
	return d, nil
}

// closeFiles closes the connections, after the calls that are under way. The last of them removes the write-ahead log.
func (d *database) closeFiles() error { return errors.Join(d.read.Close(), d.write.Close()) }

// op bounds one call. Waiting for another process counts: SQLite is told the same bound.
func (d *database) op(ctx context.Context) (context.Context, context.CancelFunc) {
	return d.writing(ctx, 0)
}

// writing is op for a call that writes so many views, sealed keys or cards.
func (d *database) writing(ctx context.Context, writes int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, store.Within(d.timeout, writes))
}

// transaction changes the file, all at once or not at all. A statement that is given again is not compiled again, which for a
// small one is most of the work.
type transaction struct {
	*sql.Tx
	compiled map[string]*sql.Stmt // they end with it
}

// begin begins a transaction, with the right to write.
func (d *database) begin(ctx context.Context) (*transaction, error) {
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &transaction{Tx: tx, compiled: map[string]*sql.Stmt{}}, nil
}

// statement is a query, compiled.
func (t *transaction) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := t.compiled[query]; s != nil {
		return s, nil
	}
	s, err := t.PrepareContext(ctx, query)
	if err == nil {
		t.compiled[query] = s
	}
	return s, err
}

// ExecContext is that of sql.Tx.
func (t *transaction) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := t.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

// QueryContext is that of sql.Tx.
func (t *transaction) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := t.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

// holds answers a query that returns one truth value. With an error it is false.
func (d *database) holds(ctx context.Context, query string, args ...any) (yes bool, err error) {
	ctx, cancel := d.op(ctx)
	defer cancel()
	if err := d.read.QueryRowContext(ctx, query, args...).Scan(&yes); err != nil {
		return false, failure(err)
	}
	return yes, nil
}

// CheckFile has SQLite look at every page of the file: ErrDamaged when one is damaged. It takes as long as the file
// is large; only ctx bounds it.
func (d *database) CheckFile(ctx context.Context) error {
	var said string
	err := d.read.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&said)
	if err == nil && said != "ok" {
		return fmt.Errorf("%w: %s", store.ErrDamaged, said)
	}
	return failure(err)
}

// querier is what can be asked: a database, or a transaction on it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// rows reads a whole result, a value from each row.
func rows[T any](ctx context.Context, db querier, read func(scan func(...any) error) (T, error), query string, args ...any) ([]T, error) {
	r, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var out []T
	for r.Next() {
		v, err := read(r.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, r.Err()
}

// pages yields what read returns page by page, each after the key of the last value.
func pages[T any](after []byte, read func(after []byte) ([]T, error), key func(T) []byte) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		after := after
		for {
			list, err := read(after)
			if err != nil {
				var zero T
				yield(zero, failure(err))
				return
			}
			for _, v := range list {
				if !yield(v, nil) {
					return
				}
				after = key(v)
			}
			if len(list) < page {
				return
			}
		}
	}
}

// failure turns what the driver says into the store's errors. What is none of the cases is ErrUnavailable: of an error that
// nobody foresaw it is not known whether what was to be done was done.
func failure(err error) error {
	if err == nil || store.IsKind(err) || errors.Is(err, context.Canceled) {
		return err
	}
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return store.ErrNotFound
	case IsBusy(err):
		return fmt.Errorf("%w: another process holds the file", store.ErrUnavailable)
	case IsDamaged(err):
		return fmt.Errorf("%w: the database is damaged: %v", store.ErrDamaged, err)
	}
	return fmt.Errorf("%w: %v", store.ErrUnavailable, err)
}
