package pins

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// Place is how far a stored room is known to reach: the highest place of its stream that was read, and the highest that
// an acknowledgement of one's own named, each with the hash of the frame there. It holds for what is stored since an entry
// of the room's log. Up to Accepted a person has said that all is well, whatever is missing. At Disputed, unless zero,
// another frame was found than the one that had been there, and nobody has accepted that.
type Place struct {
	Anew     uint64
	Seq      uint64
	Hash     crypto.Hash
	Own      uint64
	OwnHash  crypto.Hash
	Accepted uint64
	Disputed uint64
}

// Places are where rooms are known to reach. What is read and acknowledged is written lax, many times a second; what a
// person decides, and what one is to decide about, is not.
type Places struct{ db *database }

// Of returns what is remembered of a room; zero for one not met before.
func (p Places) Of(ctx context.Context, room crypto.ID) (at Place, err error) {
	_, err = p.db.find(ctx, row{
		"places", fmt.Sprintf("the place of room %s", room),
		`SELECT anew, place, hash, own, own_hash, accepted, disputed FROM intact_places WHERE room = ?`, []any{room[:]},
	}, &at.Anew, &at.Seq, sqlite.Blob(at.Hash[:]), &at.Own, sqlite.Blob(at.OwnHash[:]), &at.Accepted, &at.Disputed)
	if err != nil {
		return Place{}, err
	}
	return at, nil
}

// Reached remembers how far a room reaches, as At says of what was read and of what was acknowledged; zero for neither.
// What is remembered never moves back, but to begin anew.
func (p Places) Reached(ctx context.Context, room crypto.ID, at Place) error {
	err := p.db.write(ctx, lax, `
		INSERT INTO places (room, anew, place, hash, own, own_hash, accepted, disputed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0)
		ON CONFLICT (room) DO UPDATE SET anew = ?2,
			place = CASE WHEN ?2 > anew OR ?3 > place THEN ?3 ELSE place END, hash = CASE WHEN ?2 > anew OR ?3 > place THEN ?4 ELSE hash END,
			own = CASE WHEN ?2 > anew OR ?5 > own THEN ?5 ELSE own END, own_hash = CASE WHEN ?2 > anew OR ?5 > own THEN ?6 ELSE own_hash END,
			accepted = CASE WHEN ?2 > anew THEN 0 ELSE accepted END, disputed = CASE WHEN ?2 > anew THEN 0 ELSE disputed END
		WHERE ?2 >= anew`, room[:], at.Anew, at.Seq, at.Hash[:], at.Own, at.OwnHash[:])
	if err != nil {
		return fmt.Errorf("remember the place of room %s: %w", room, failure(err))
	}
	return nil
}

// Dispute remembers that a room has another frame at a place than it had, until a person accepts that.
func (p Places) Dispute(ctx context.Context, room crypto.ID, seq uint64) error {
	err := p.db.write(ctx, durable, `UPDATE places SET disputed = ?2 WHERE room = ?1 AND disputed < ?2`, room[:], seq)
	if err != nil {
		return fmt.Errorf("remember the place of room %s: %w", room, failure(err))
	}
	return nil
}

// Accept remembers that a person takes a room for what it is up to a place, and that it need not reach further.
func (p Places) Accept(ctx context.Context, room crypto.ID, at Place) error {
	if at.Disputed <= at.Accepted {
		at.Disputed = 0
	}
	err := p.db.write(ctx, durable, `
		INSERT INTO places (room, anew, place, hash, own, own_hash, accepted, disputed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET anew = excluded.anew, place = excluded.place, hash = excluded.hash, own = excluded.own, own_hash = excluded.own_hash,
			accepted = excluded.accepted, disputed = excluded.disputed`,
		room[:], at.Anew, at.Seq, at.Hash[:], at.Own, at.OwnHash[:], at.Accepted, at.Disputed)
	if err != nil {
		return fmt.Errorf("remember the place of room %s: %w", room, failure(err))
	}
	return nil
}

// forgetPlaces forgets where a room reaches that began anew with an entry which its log does not have any more: it ends
// before.
func forgetPlaces(ctx context.Context, tx *sql.Tx, room crypto.ID, end uint64) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM places WHERE room = ? AND anew > ?`, room[:], end)
	return err
}
