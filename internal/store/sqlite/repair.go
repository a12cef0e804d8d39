package sqlite

import (
	"context"
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Repairer. An Append is one transaction, so that views are behind their log in a damaged file only;
// then they are removed and written anew from the log's state, and what that changes is counted.

// repairer is store.Repairer.
type repairer struct {
	*database
	log *entryLog
}

// Behind lists the rooms whose record is not as current as their log. An Append is one transaction,
// so that only a damaged file has any.
func (r *repairer) Behind(ctx context.Context) ([]crypto.ID, error) {
	ctx, cancel := r.op(ctx)
	defer cancel()
	list, err := rows(ctx, r.read, scanID, `SELECT e.log FROM (SELECT log, max(seq) AS seq FROM entries GROUP BY log) e`+behind)
	return list, failure(err)
}

// behind selects the room logs of a list e of last entries whose record is missing or earlier.
const behind = ` LEFT JOIN rooms r ON r.id = e.log WHERE e.log NOT IN (SELECT log FROM bus) AND (r.seq IS NULL OR r.seq < e.seq)`

// ListedAt is the last entry of a room's log that its record is of.
func (r *repairer) ListedAt(ctx context.Context, room crypto.ID) (uint64, error) {
	ctx, cancel := r.op(ctx)
	defer cancel()
	var seq int64
	err := r.read.QueryRowContext(ctx, `SELECT ifnull(max(seq), 0) FROM rooms WHERE id = ?`, room[:]).Scan(&seq)
	return uint64(seq), failure(err)
}

// Heal writes the views of a log anew if they are behind it.
func (r *repairer) Heal(ctx context.Context, log crypto.ID) error {
	op, cancel := r.op(ctx)
	list, err := rows(op, r.read, scanID, `SELECT e.log FROM (SELECT log, max(seq) AS seq FROM entries WHERE log = ? GROUP BY log) e`+behind, log[:])
	cancel()
	if err != nil || len(list) == 0 {
		return failure(err)
	}
	state, err := store.Load(ctx, r.log, log)
	if err == nil {
		_, err = r.Rebuild(ctx, state)
	}
	return err
}

// roomViews and busViews are the views of a log: a query that reads each, and a statement that removes it before it is
// written anew. All take the log's id as ?1, whether they need it or not, so that they are called alike.
var roomViews = [][2]string{
	{`SELECT id, subject, creator, epoch, policy, seq, archived FROM rooms WHERE id = ?1`, `DELETE FROM rooms WHERE id = ?1`},
	{`SELECT room, endpoint, role FROM members WHERE room = ?1`, `DELETE FROM members WHERE room = ?1`},
	{`SELECT room, epoch, commitment, author FROM epochs WHERE room = ?1`, `DELETE FROM epochs WHERE room = ?1`},
}

// Views of the bus, and what stands in the views of rooms that have no log.
var busViews = [][2]string{
	{`SELECT endpoint, name, role, active, expires, revoked, added, added_by FROM users WHERE ?1 IS NOT NULL`, `DELETE FROM users WHERE ?1 IS NOT NULL`},
	{`SELECT one, log FROM bus WHERE ?1 IS NOT NULL`, `DELETE FROM bus WHERE ?1 IS NOT NULL`},
	// Of no log at all, as only damage leaves them.
	{`SELECT id, subject` + strayRooms + ` AND ?1 IS NOT NULL`, `DELETE` + strayRooms + ` AND ?1 IS NOT NULL`},
	{`SELECT room, endpoint` + strayMembers + ` AND ?1 IS NOT NULL`, `DELETE` + strayMembers + ` AND ?1 IS NOT NULL`},
	{`SELECT room, epoch` + strayEpochs + ` AND ?1 IS NOT NULL`, `DELETE` + strayEpochs + ` AND ?1 IS NOT NULL`},
}

const (
	strayRooms   = ` FROM rooms WHERE NOT EXISTS (SELECT 1 FROM entries WHERE log = id)`
	strayMembers = ` FROM members WHERE NOT EXISTS (SELECT 1 FROM entries WHERE log = room)`
	strayEpochs  = ` FROM epochs WHERE NOT EXISTS (SELECT 1 FROM entries WHERE log = room)`
)

// Differs counts the records that are not what a log's state says.
func (r *repairer) Differs(ctx context.Context, state *ledger.State) (wrong int, err error) {
	tx, err := r.begin(ctx)
	if err != nil {
		return 0, failure(err)
	}
	defer tx.Rollback()
	wrong, err = rebuild(ctx, tx, state)
	return wrong, failure(err)
}

// Rebuild makes the views of a log what its state says, in one transaction.
func (r *repairer) Rebuild(ctx context.Context, state *ledger.State) (wrong int, err error) {
	tx, err := r.begin(ctx)
	if err != nil {
		return 0, failure(err)
	}
	defer tx.Rollback()
	if wrong, err = rebuild(ctx, tx, state); err == nil {
		err = tx.Commit()
	}
	return wrong, failure(err)
}

// rebuild writes the views of a log anew in a transaction, and reports how many records that changes.
func rebuild(ctx context.Context, tx *transaction, state *ledger.State) (wrong int, err error) {
	h, err := head(ctx, tx, state.ID)
	if err != nil {
		return 0, err
	}
	if h != state.Head {
		return 0, fmt.Errorf("rebuild log %s: %w", state.ID, store.ErrConflict)
	}
	views := roomViews
	if state.Bus != nil {
		views = busViews
	}
	before, err := dump(ctx, tx, views, state.ID)
	if err == nil {
		err = rewrite(ctx, tx, views, state)
	}
	if err != nil {
		return 0, err
	}
	after, err := dump(ctx, tx, views, state.ID)
	return max(missingFrom(before, after), missingFrom(after, before)), err
}

// missingFrom counts the rows of one dump that another does not have.
func missingFrom(rows, other map[string]bool) (n int) {
	for row := range rows {
		if !other[row] {
			n++
		}
	}
	return n
}

// rewrite removes the views of a log and writes those of its state. Sealed copies and cards stay as they are: no log says
// what they hold.
func rewrite(ctx context.Context, tx *transaction, views [][2]string, state *ledger.State) error {
	for _, v := range views {
		if _, err := tx.ExecContext(ctx, v[1], state.ID[:]); err != nil {
			return err
		}
	}
	if state.Bus != nil {
		if _, err := tx.ExecContext(ctx, `INSERT INTO bus (one, log) VALUES (x'01', ?)`, state.ID[:]); err != nil {
			return err
		}
	}
	if state.Room != nil { // whose record may have become that of no room
		if _, err := tx.ExecContext(ctx, `DELETE`+strayRooms+` AND subject = ?`, state.Room.Subject); err != nil {
			return err
		}
	}
	for _, v := range state.AllViews() {
		if err := apply(ctx, tx, v); err != nil {
			return err
		}
	}
	return nil
}

// dump reads the views of a log as text, a row a line, so that two of them can be compared.
func dump(ctx context.Context, tx *transaction, views [][2]string, log crypto.ID) (map[string]bool, error) {
	out := map[string]bool{}
	for _, v := range views {
		if err := dumpOne(ctx, tx, out, v[0], log); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// dumpOne reads the rows of one query as text.
func dumpOne(ctx context.Context, tx *transaction, out map[string]bool, query string, log crypto.ID) error {
	r, err := tx.QueryContext(ctx, query, log[:])
	if err != nil {
		return err
	}
	defer r.Close()
	columns, err := r.Columns()
	if err != nil {
		return err
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for r.Next() {
		if err := r.Scan(into...); err != nil {
			return err
		}
		out[fmt.Sprintf("%q", append(values, columns[0]))] = true
	}
	return r.Err()
}
