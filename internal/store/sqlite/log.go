package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// Bus returns the first statement of the bus log.
func (s *Store) Bus(ctx context.Context) ([]byte, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	var statement []byte
	err := s.read.QueryRowContext(ctx, `SELECT e.statement FROM bus b JOIN entries e ON e.log = b.log AND e.seq = 1`).Scan(&statement)
	if err != nil {
		return nil, fmt.Errorf("bus log: %w", failure(err))
	}
	return statement, nil
}

// headsAtOnce is how many logs one query asks for.
const headsAtOnce = 1000

// Heads returns the last places of logs. The hashes are those of the stored bytes themselves, so that an
// altered last entry shows at once.
func (s *Store) Heads(ctx context.Context, logs ...crypto.ID) ([]ledger.Head, error) {
	heads := make([]ledger.Head, 0, len(logs))
	for chunk := range slices.Chunk(logs, headsAtOnce) {
		found, err := s.heads(ctx, chunk)
		if err != nil {
			return nil, fmt.Errorf("heads of logs: %w", failure(err))
		}
		for _, log := range chunk {
			heads = append(heads, found[log])
		}
	}
	return heads, nil
}

func (s *Store) heads(ctx context.Context, logs []crypto.ID) (map[crypto.ID]ledger.Head, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	args := make([]any, len(logs))
	for i, log := range logs {
		args[i] = log[:]
	}
	found := map[crypto.ID]ledger.Head{}
	// The hash is taken as each row comes: an entry may have half a megabyte.
	_, err := rows(ctx, s.read, func(scan func(...any) error) (none struct{}, err error) {
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
	}, `WITH asked (log) AS (VALUES (?)`+strings.Repeat(`, (?)`, len(logs)-1)+`)
		SELECT e.log, e.seq, e.statement FROM asked JOIN entries e
		ON (e.log, e.seq) = (asked.log, (SELECT max(seq) FROM entries WHERE log = asked.log))`, args...)
	return found, err
}

func head(ctx context.Context, tx *sql.Tx, log crypto.ID) (ledger.Head, error) {
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

// page is how many entries one read transaction yields.
const page = 256

// Entries yields the entries after a seq, a page per OpTimeout.
func (s *Store) Entries(ctx context.Context, log crypto.ID, after uint64) iter.Seq2[store.Entry, error] {
	return store.PageEntries(after, page, func(after uint64) ([]store.Entry, error) {
		entries, err := s.entries(ctx, log, after)
		if err != nil {
			return nil, fmt.Errorf("log %s: %w", log, failure(err))
		}
		return entries, nil
	})
}

func (s *Store) entries(ctx context.Context, log crypto.ID, after uint64) ([]store.Entry, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	return rows(ctx, s.read, func(scan func(...any) error) (store.Entry, error) {
		e := store.Entry{Log: log}
		return e, scan(&e.Seq, &e.Statement)
	}, `SELECT seq, statement FROM entries WHERE log = ? AND seq > ? ORDER BY seq LIMIT ?`, log[:], after, page)
}

// querier is a database, or a transaction on it.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// rows reads a whole result.
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

// Append commits an entry and its views in one transaction.
func (s *Store) Append(ctx context.Context, c store.Change) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	err := s.append(ctx, c)
	if err == nil && !s.relaxed {
		step("noting")
		err = s.acked.note(c.Entry.Log, ledger.Head{Seq: c.Entry.Seq, Hash: c.Entry.Hash})
	}
	if err != nil {
		return fmt.Errorf("append entry %d of log %s: %w", c.Entry.Seq, c.Entry.Log, failure(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
	return nil
}

// step is told how far an Append has come. Tests end the process there.
var step = func(string) {}

func (s *Store) append(ctx context.Context, c store.Change) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	done, err := place(ctx, tx, c.Entry)
	if errors.Is(err, errTaken) {
		return errors.Join(err, discard(ctx, tx, c))
	}
	if done || err != nil {
		return err
	}
	e := c.Entry
	if _, err := tx.ExecContext(ctx, `INSERT INTO entries (log, seq, statement) VALUES (?, ?, ?)`, e.Log[:], e.Seq, e.Statement); err != nil {
		return err
	}
	if e.Op == "found" {
		if _, err := tx.ExecContext(ctx, `INSERT INTO bus (one, log) VALUES (x'01', ?)`, e.Log[:]); err != nil {
			return exists(ctx, tx, err, `SELECT 1 FROM bus`, "the bus is founded already")
		}
	}
	for i, v := range c.Views {
		step("view " + strconv.Itoa(i))
		if err := apply(ctx, tx, v); err != nil {
			return err
		}
	}
	step("written")
	if err := tx.Commit(); err != nil {
		return err
	}
	step("committed")
	return nil
}

// errTaken says that the place of an entry is another's, for good.
var errTaken = fmt.Errorf("%w: its place is taken", store.ErrConflict)

// discard removes the keys that its author staged for an entry whose place another has taken: they are of use
// to nobody.
func discard(ctx context.Context, tx *sql.Tx, c store.Change) error {
	for _, v := range c.Views {
		if v, ok := v.(ledger.EpochView); ok {
			_, err := tx.ExecContext(ctx, `DELETE FROM room_keys WHERE room = ?1 AND epoch = ?2 AND commitment = ?3 AND sealer = ?4
				AND NOT EXISTS (`+named+`)`, v.Room[:], v.Epoch, v.Commit[:], v.By[:])
			if err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

// place checks that an entry is the next of its log. It is done when the log has these very bytes.
func place(ctx context.Context, tx *sql.Tx, e *ledger.Entry) (done bool, err error) {
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

// exists turns err into ErrExists when query finds a row.
func exists(ctx context.Context, tx *sql.Tx, err error, query, what string, args ...any) error {
	var one int
	if tx.QueryRowContext(ctx, query, args...).Scan(&one) == nil {
		return fmt.Errorf("%w: %s", store.ErrExists, what)
	}
	return err
}

func apply(ctx context.Context, tx *sql.Tx, v ledger.View) error {
	switch v := v.(type) {
	case ledger.RoomView:
		return applyRoom(ctx, tx, v)
	case ledger.EpochView:
		if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO epochs (room, epoch, commitment, author) VALUES (?, ?, ?, ?)`, v.Room[:], v.Epoch, v.Commit[:], v.By[:]); err != nil {
			return err
		}
		// What losers of the race for this epoch staged is of no use to anyone.
		if _, err := tx.ExecContext(ctx, `DELETE FROM room_keys WHERE room = ? AND epoch = ? AND commitment <> ?`, v.Room[:], v.Epoch, v.Commit[:]); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE room_keys SET staged_at = 0 WHERE room = ? AND epoch = ? AND commitment = ?`, v.Room[:], v.Epoch, v.Commit[:])
		return err
	case ledger.MemberView:
		if v.Role == "" {
			_, err := tx.ExecContext(ctx, `DELETE FROM members WHERE room = ? AND endpoint = ?`, v.Room[:], v.Endpoint[:])
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO members (room, endpoint, role) VALUES (?, ?, ?)`, v.Room[:], v.Endpoint[:], v.Role)
		return err
	case ledger.UserView:
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO users (endpoint, name, role, active, expires, revoked, added, added_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			v.Key[:], v.Name, v.Role, v.Active, millis(v.Expires), millis(v.Revoked), millis(v.Added), v.AddedBy[:])
		return err
	}
	return fmt.Errorf("%w: unknown view %T", store.ErrInvalid, v)
}

func applyRoom(ctx context.Context, tx *sql.Tx, v ledger.RoomView) error {
	policy, err := json.Marshal(v.Policy)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO rooms (id, subject, creator, epoch, policy, seq, archived) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET creator = excluded.creator, epoch = excluded.epoch, policy = excluded.policy,
		seq = excluded.seq, archived = excluded.archived`,
		v.ID[:], v.Subject, v.Creator[:], v.Epoch, string(policy), v.Seq, v.Archived)
	if err != nil {
		return exists(ctx, tx, err, `SELECT 1 FROM rooms WHERE subject = ? AND id <> ?`, "a room with the subject "+v.Subject, v.Subject, v.ID[:])
	}
	return nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
