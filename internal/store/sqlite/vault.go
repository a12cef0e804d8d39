package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

var _ store.Backend = (*Store)(nil)

// Logs yields every log, that of the bus first.
func (s *Store) Logs(ctx context.Context) iter.Seq2[crypto.ID, error] {
	read := func(after []byte) ([]crypto.ID, error) {
		ctx, cancel := s.op(ctx)
		defer cancel()
		// The bus log is behind no other: it is the one without a place of its own in this order.
		return rows(ctx, s.read, scanID, `SELECT log FROM entries WHERE seq = 1 AND log > ? AND log NOT IN (SELECT log FROM bus) ORDER BY log LIMIT ?`, after, page)
	}
	return func(yield func(crypto.ID, error) bool) {
		op, cancel := s.op(ctx)
		bus, err := rows(op, s.read, scanID, `SELECT log FROM bus`)
		cancel()
		if err != nil {
			yield(crypto.ID{}, failure(err))
			return
		}
		for _, id := range bus {
			if !yield(id, nil) {
				return
			}
		}
		pages([]byte{}, read, func(id crypto.ID) []byte { return id[:] })(yield)
	}
}

func scanID(scan func(...any) error) (id crypto.ID, err error) {
	err = scan(Blob(id[:]))
	return id, err
}

// Sealed yields the sealed copies of a room's committed keys by all sealers, by epoch.
func (s *Store) Sealed(ctx context.Context, room crypto.ID) iter.Seq2[store.SealedCopy, error] {
	return func(yield func(store.SealedCopy, error) bool) {
		s.sealed(ctx, room)(yield)
	}
}

// sealed is Sealed for one pass.
func (s *Store) sealed(ctx context.Context, room crypto.ID) iter.Seq2[store.SealedCopy, error] {
	var last store.SealedCopy
	read := func(after []byte) ([]store.SealedCopy, error) {
		ctx, cancel := s.op(ctx)
		defer cancel()
		return rows(ctx, s.read, func(scan func(...any) error) (store.SealedCopy, error) {
			k := store.SealedCopy{Room: room}
			err := scan(&k.Epoch, Blob(k.Commit[:]), Blob(k.Endpoint[:]), Blob(k.Sealer[:]), &k.Sealed)
			return k, err
		}, `SELECT k.epoch, k.commitment, k.endpoint, k.sealer, k.sealed FROM epochs e
			JOIN room_keys k ON k.room = e.room AND k.epoch = e.epoch AND k.commitment = e.commitment
			WHERE e.room = ? AND (k.epoch, k.endpoint, k.sealer) > (?, ?, ?) ORDER BY k.epoch, k.endpoint, k.sealer LIMIT ?`,
			room[:], last.Epoch, last.Endpoint[:], after, page)
	}
	return pages([]byte{}, read, func(k store.SealedCopy) []byte {
		last = k
		return k.Sealer[:]
	})
}

// AllCards yields every card.
func (s *Store) AllCards(ctx context.Context) iter.Seq2[store.Card, error] {
	read := func(after []byte) ([]store.Card, error) {
		ctx, cancel := s.op(ctx)
		defer cancel()
		return rows(ctx, s.read, scanCard, `SELECT endpoint, statement FROM cards WHERE endpoint > ? ORDER BY endpoint LIMIT ?`, after, page)
	}
	return pages([]byte{}, read, func(c store.Card) []byte { return c.Endpoint[:] })
}

// Created counts the rooms that an endpoint created and that are not archived, in an index of just those.
func (s *Store) Created(ctx context.Context, endpoint crypto.PublicKey) (n int, err error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM rooms WHERE creator = ? AND NOT archived`, endpoint[:]).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("rooms created by %s: %w", endpoint, failure(err))
	}
	return n, nil
}

// Behind lists the rooms whose record is not as current as their log. An Append is one transaction,
// so that only a damaged file has any.
func (s *Store) Behind(ctx context.Context) ([]crypto.ID, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	list, err := rows(ctx, s.read, scanID, `SELECT e.log FROM (SELECT log, max(seq) AS seq FROM entries GROUP BY log) e`+behind)
	return list, failure(err)
}

const behind = ` LEFT JOIN rooms r ON r.id = e.log WHERE e.log NOT IN (SELECT log FROM bus) AND (r.seq IS NULL OR r.seq < e.seq)`

// Heal writes the views of a log anew if they are behind it.
func (s *Store) Heal(ctx context.Context, log crypto.ID) error {
	op, cancel := s.op(ctx)
	list, err := rows(op, s.read, scanID, `SELECT e.log FROM (SELECT log, max(seq) AS seq FROM entries WHERE log = ? GROUP BY log) e`+behind, log[:])
	cancel()
	if err != nil || len(list) == 0 {
		return failure(err)
	}
	state, err := store.Load(ctx, s, log)
	if err == nil {
		_, err = s.Rebuild(ctx, state, false)
	}
	return err
}

// roomViews and busViews are the views of a log: how to read them, and how to remove them before they
// are written anew.
var roomViews = [][2]string{
	{`SELECT id, subject, creator, epoch, policy, seq, archived FROM rooms WHERE id = ?1`, `DELETE FROM rooms WHERE id = ?1`},
	{`SELECT room, endpoint, role FROM members WHERE room = ?1`, `DELETE FROM members WHERE room = ?1`},
	{`SELECT room, epoch, commitment, author FROM epochs WHERE room = ?1`, `DELETE FROM epochs WHERE room = ?1`},
}

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

// Strays counts the records of no log, as only damage leaves them; a Rebuild of the bus log removes them.
func (s *Store) Strays(ctx context.Context) (n int, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT (SELECT count(*)`+strayRooms+`) + (SELECT count(*)`+strayMembers+`) + (SELECT count(*)`+strayEpochs+`)`).Scan(&n)
	return n, failure(err)
}

// Rebuild makes the views of a log what its state says, in one transaction, and reports how many
// records were not; with dry it only counts them.
func (s *Store) Rebuild(ctx context.Context, state *ledger.State, dry bool) (wrong int, err error) {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return 0, failure(err)
	}
	defer tx.Rollback()
	h, err := head(ctx, tx, state.ID)
	if err != nil {
		return 0, failure(err)
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
		return 0, failure(err)
	}
	after, err := dump(ctx, tx, views, state.ID)
	if err != nil {
		return 0, failure(err)
	}
	gone, come := 0, 0
	for row := range before {
		if !after[row] {
			gone++
		}
	}
	for row := range after {
		if !before[row] {
			come++
		}
	}
	if dry {
		return max(gone, come), nil
	}
	return max(gone, come), failure(tx.Commit())
}

func rewrite(ctx context.Context, tx *sql.Tx, views [][2]string, state *ledger.State) error {
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

// dump reads the views of a log as text.
func dump(ctx context.Context, tx *sql.Tx, views [][2]string, log crypto.ID) (map[string]bool, error) {
	out := map[string]bool{}
	for _, v := range views {
		if err := dumpOne(ctx, tx, out, v[0], log); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func dumpOne(ctx context.Context, tx *sql.Tx, out map[string]bool, query string, log crypto.ID) error {
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

// Copying reports whether a bus is being copied into the store.
func (s *Store) Copying(ctx context.Context) (bool, error) {
	return s.any(ctx, "copy", `SELECT EXISTS (SELECT 1 FROM copying)`)
}

// SetCopying says whether one is.
func (s *Store) SetCopying(ctx context.Context, under bool) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	change := `DELETE FROM copying`
	if under {
		change = `INSERT OR IGNORE INTO copying (one) VALUES (x'01')`
	}
	_, err := s.write.ExecContext(ctx, change)
	return failure(err)
}
