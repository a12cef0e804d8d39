package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Log: the entries of all logs stand in one table, by log and place. An Append checks that its
// entry is the next, writes it and its views (apply.go) in one transaction, records it beside the file (heads.go), and
// only then answers.

// entryLog is store.Log.
type entryLog struct {
	*database
	acked   *heads // nil: what is acknowledged is recorded nowhere
	watches *watches
	step    func(string) // is told how far an Append has come, for tests that end the process there
}

// Bus returns the first statement of the bus log.
func (l *entryLog) Bus(ctx context.Context) ([]byte, error) {
	ctx, cancel := l.op(ctx)
	defer cancel()
	var statement []byte
	err := l.read.QueryRowContext(ctx, `SELECT e.statement FROM bus b JOIN entries e ON e.log = b.log AND e.seq = 1`).Scan(&statement)
	if err != nil {
		return nil, fmt.Errorf("bus log: %w", failure(err))
	}
	return statement, nil
}

// headsAtOnce is how many logs one query asks for.
const headsAtOnce = 1000

// Heads returns the last places of logs. The hashes are those of the stored bytes themselves, so that an
// altered last entry shows at once.
func (l *entryLog) Heads(ctx context.Context, logs ...crypto.ID) ([]ledger.Head, error) {
	heads := make([]ledger.Head, 0, len(logs))
	for chunk := range slices.Chunk(logs, headsAtOnce) {
		found, err := l.heads(ctx, chunk)
		if err != nil {
			return nil, fmt.Errorf("heads of logs: %w", failure(err))
		}
		for _, log := range chunk {
			heads = append(heads, found[log])
		}
	}
	return heads, nil
}

// heads asks for the last places of so many logs as one query takes; unknown ones are left out.
func (l *entryLog) heads(ctx context.Context, logs []crypto.ID) (map[crypto.ID]ledger.Head, error) {
	ctx, cancel := l.op(ctx)
	defer cancel()
	args := make([]any, len(logs))
	for i, log := range logs {
		args[i] = log[:]
	}
	return headsOf(ctx, l.read, `WITH asked (log) AS (VALUES (?)`+strings.Repeat(`, (?)`, len(logs)-1)+`)
		SELECT e.log, e.seq, e.statement FROM asked JOIN entries e
		ON (e.log, e.seq) = (asked.log, (SELECT max(seq) FROM entries WHERE log = asked.log))`, args...)
}

// headsOf are the places, by log, of the entries that a query selects, as log, seq and statement. The hash is taken as each
// row comes: an entry may have half a megabyte.
func headsOf(ctx context.Context, q querier, query string, args ...any) (map[crypto.ID]ledger.Head, error) {
	found := map[crypto.ID]ledger.Head{}
	_, err := rows(ctx, q, func(scan func(...any) error) (none struct{}, err error) {
		var log crypto.ID
		var statement []byte
		var h ledger.Head
		if err := scan(Blob(log[:]), &h.Seq, &statement); err != nil {
			return none, err
		}
		if h.Hash, err = crypto.HashStatement(statement); err != nil {
			return none, fmt.Errorf("%w: entry %d of log %s is damaged: %v", store.ErrDamaged, h.Seq, log, err)
		}
		found[log] = h
		return none, nil
	}, query, args...)
	return found, err
}

// head is the last place of a log within a transaction; sql.ErrNoRows for an unknown one.
func head(ctx context.Context, tx *transaction, log crypto.ID) (ledger.Head, error) {
	var h ledger.Head
	var statement []byte
	err := tx.QueryRowContext(ctx, `SELECT seq, statement FROM entries WHERE log = ? ORDER BY seq DESC LIMIT 1`, log[:]).Scan(&h.Seq, &statement)
	if err != nil {
		return h, err
	}
	if h.Hash, err = crypto.HashStatement(statement); err != nil {
		return h, fmt.Errorf("%w: entry %d is damaged: %v", store.ErrDamaged, h.Seq, err)
	}
	return h, nil
}

// Entries yields the entries after a seq, a page per OpTimeout.
func (l *entryLog) Entries(ctx context.Context, log crypto.ID, after uint64) iter.Seq2[store.Entry, error] {
	return store.PageEntries(after, page, func(after uint64) ([]store.Entry, error) {
		entries, err := l.entries(ctx, log, after)
		if err != nil {
			return nil, fmt.Errorf("log %s: %w", log, failure(err))
		}
		return entries, nil
	})
}

// entries reads one page.
func (l *entryLog) entries(ctx context.Context, log crypto.ID, after uint64) ([]store.Entry, error) {
	ctx, cancel := l.op(ctx)
	defer cancel()
	return rows(ctx, l.read, func(scan func(...any) error) (store.Entry, error) {
		e := store.Entry{Log: log}
		return e, scan(&e.Seq, &e.Statement)
	}, `SELECT seq, statement FROM entries WHERE log = ? AND seq > ? ORDER BY seq LIMIT ?`, log[:], after, page)
}

// Append commits an entry and its views in one transaction.
func (l *entryLog) Append(ctx context.Context, c store.Change) error {
	ctx, cancel := l.writing(ctx, len(c.Views))
	defer cancel()
	err := l.append(ctx, c)
	if err == nil && l.acked != nil {
		l.step("acknowledging")
		err = l.acked.record(c.Entry.Log, ledger.Head{Seq: c.Entry.Seq, Hash: c.Entry.Hash})
	}
	if err != nil {
		return fmt.Errorf("append entry %d of log %s: %w", c.Entry.Seq, c.Entry.Log, failure(err))
	}
	l.watches.wake()
	return nil
}

// append is Append up to the commit. The transaction has the right to write from its beginning, so that nobody appends
// between the look at the place and the write.
func (l *entryLog) append(ctx context.Context, c store.Change) error {
	tx, err := l.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	there, err := checkPlace(ctx, tx, c.Entry)
	if errors.Is(err, errTaken) {
		return errors.Join(err, discard(ctx, tx, c))
	}
	if there || err != nil {
		return err
	}
	e := c.Entry
	if _, err := tx.ExecContext(ctx, `INSERT INTO entries (log, seq, statement) VALUES (?, ?, ?)`, e.Log[:], e.Seq, e.Statement); err != nil {
		return err
	}
	// The table has room for one row, so that of two who found a bus at once one fails.
	if e.Op == "found" {
		if _, err := tx.ExecContext(ctx, `INSERT INTO bus (one, log) VALUES (x'01', ?)`, e.Log[:]); err != nil {
			return asExists(ctx, tx, err, `SELECT 1 FROM bus`, "the bus is founded already")
		}
	}
	for i, v := range c.Views {
		l.step("view " + strconv.Itoa(i))
		if err := apply(ctx, tx, v); err != nil {
			return err
		}
	}
	l.step("written")
	if err := tx.Commit(); err != nil {
		return err
	}
	l.step("committed")
	return nil
}

// errTaken says that the place of an entry is another's, for good.
var errTaken = fmt.Errorf("%w: its place is taken", store.ErrConflict)

// discard removes the keys that its author staged for an entry whose place another has taken: they are of use
// to nobody.
func discard(ctx context.Context, tx *transaction, c store.Change) error {
	for _, v := range c.Views {
		if v, ok := v.(ledger.EpochView); ok {
			if err := unstage(ctx, tx, v.Room, v.Epoch, v.Commit, v.By); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

// checkPlace checks that an entry is the next of its log, or is there already with these very bytes.
func checkPlace(ctx context.Context, tx *transaction, e *ledger.Entry) (there bool, err error) {
	var old []byte
	switch err := tx.QueryRowContext(ctx, `SELECT statement FROM entries WHERE log = ? AND seq = ?`, e.Log[:], e.Seq).Scan(&old); {
	case err == nil && bytes.Equal(old, e.Statement):
		return true, nil
	case err == nil:
		return false, errTaken
	case !errors.Is(err, sql.ErrNoRows):
		return false, err
	}
	h, err := head(ctx, tx, e.Log)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	if h.Seq+1 != e.Seq || h.Hash != e.Prev {
		return false, fmt.Errorf("%w: the log ends at entry %d", store.ErrConflict, h.Seq)
	}
	return false, nil
}

// asExists turns an error of a write into ErrExists when a query finds what was in its way. What SQLite itself says of a
// constraint that was broken does not tell which.
func asExists(ctx context.Context, tx *transaction, err error, query, what string, args ...any) error {
	var one int
	if tx.QueryRowContext(ctx, query, args...).Scan(&one) == nil {
		return fmt.Errorf("%w: %s", store.ErrExists, what)
	}
	return err
}
