package pins

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

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

// Place returns what is remembered of a room; zero for one not met before.
func (p *Pins) Place(ctx context.Context, room crypto.ID) (at Place, err error) {
	if err := p.sound(ctx, p.db, "places"); err != nil {
		return Place{}, err
	}
	err = p.lax.QueryRowContext(ctx, `SELECT anew, place, hash, own, own_hash, accepted, disputed FROM intact_places WHERE room = ?`, room[:]).
		Scan(&at.Anew, &at.Seq, sqlite.Blob(at.Hash[:]), &at.Own, sqlite.Blob(at.OwnHash[:]), &at.Accepted, &at.Disputed)
	if errors.Is(err, sql.ErrNoRows) {
		return Place{}, p.absent(ctx, p.db, "places")
	}
	if err != nil {
		return Place{}, fmt.Errorf("read the place of room %s: %w", room, failure(err))
	}
	return at, nil
}

// Reached remembers how far a room reaches, as At says of what was read and of what was acknowledged; zero for neither.
// What is remembered never moves back, but to begin anew.
func (p *Pins) Reached(ctx context.Context, room crypto.ID, at Place) error {
	err := p.write(ctx, p.lax, `
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
func (p *Pins) Dispute(ctx context.Context, room crypto.ID, seq uint64) error {
	err := p.write(ctx, p.db, `UPDATE places SET disputed = ?2 WHERE room = ?1 AND disputed < ?2`, room[:], seq)
	if err != nil {
		return fmt.Errorf("remember the place of room %s: %w", room, failure(err))
	}
	return nil
}

// Accept remembers that a person takes a room for what it is up to a place, and that it need not reach further.
func (p *Pins) Accept(ctx context.Context, room crypto.ID, at Place) error {
	if at.Disputed <= at.Accepted {
		at.Disputed = 0
	}
	err := p.write(ctx, p.db, `
		INSERT INTO places (room, anew, place, hash, own, own_hash, accepted, disputed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET anew = excluded.anew, place = excluded.place, hash = excluded.hash, own = excluded.own, own_hash = excluded.own_hash,
			accepted = excluded.accepted, disputed = excluded.disputed`,
		room[:], at.Anew, at.Seq, at.Hash[:], at.Own, at.OwnHash[:], at.Accepted, at.Disputed)
	if err != nil {
		return fmt.Errorf("remember the place of room %s: %w", room, failure(err))
	}
	return nil
}

// Streams returns what is remembered of one's own streams in a room and was not told yet, without one of them; the
// longest remembered first, and no more than a frame tells of.
func (p *Pins) Streams(ctx context.Context, room crypto.ID, without [16]byte) (streams []crypto.Follows, err error) {
	if err := p.absent(ctx, p.db, "streams"); err != nil {
		return nil, err
	}
	rows, err := p.lax.QueryContext(ctx, `SELECT stream, frames, at, place, sealed FROM intact_streams WHERE room = ? AND stream <> ? ORDER BY written, stream LIMIT ?`,
		room[:], without[:], crypto.MaxFollows)
	if err != nil {
		return nil, fmt.Errorf("read the streams in room %s: %w", room, failure(err))
	}
	defer rows.Close()
	for rows.Next() {
		var f crypto.Follows
		if err := rows.Scan(sqlite.Blob(f.Stream[:]), &f.Frames, &f.At, &f.Place, &f.Sealed); err != nil {
			return nil, fmt.Errorf("read the streams in room %s: %w", room, failure(err))
		}
		streams = append(streams, f)
	}
	return streams, failure(rows.Err())
}

// underWay is how long what is remembered of a stream that has not ended says that its writer may be sending more.
const underWay = time.Minute

// Stored remembers how much of one's own stream was acknowledged by now, and whether it has ended with that: nothing
// of it is on its way.
func (p *Pins) Stored(ctx context.Context, room crypto.ID, f crypto.Follows, ended bool, now time.Time) error {
	err := p.write(ctx, p.lax, `
		INSERT INTO streams (room, stream, frames, at, place, sealed, ended, written) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET frames = excluded.frames, at = excluded.at, place = excluded.place, sealed = excluded.sealed, ended = excluded.ended,
			written = excluded.written`,
		room[:], f.Stream[:], f.Frames, f.At, f.Place, f.Sealed, ended, now.Unix())
	if err != nil {
		return fmt.Errorf("remember a stream in room %s: %w", room, failure(err))
	}
	return nil
}

// Told forgets what an acknowledged frame has told. What was acknowledged since is remembered, and so is a stream that
// may be under way: what of it is never acknowledged has to be told after what its writer sent behind that.
func (p *Pins) Told(ctx context.Context, room crypto.ID, told []crypto.Follows, now time.Time) error {
	for _, f := range told {
		err := p.write(ctx, p.lax, `
			DELETE FROM streams WHERE room = ? AND stream = ? AND frames = ? AND (ended OR written NOT BETWEEN ? AND ?)`,
			room[:], f.Stream[:], f.Frames, now.Add(-underWay).Unix(), now.Add(underWay).Unix())
		if err != nil {
			return fmt.Errorf("forget a stream in room %s: %w", room, failure(err))
		}
	}
	return nil
}

// Fork is proof of two histories: somebody who manages the room signed that its entry At has a hash that begins with
// Head, and this identity has verified another entry there. Settled says that a person has decided.
type Fork struct {
	Sender  crypto.PublicKey
	At      uint64
	Head    [16]byte
	Settled bool
}

// Forks returns the forks of a room's log that are known, by entry.
func (p *Pins) Forks(ctx context.Context, room crypto.ID) (forks []Fork, err error) {
	if err := p.absent(ctx, p.db, "forks"); err != nil {
		return nil, err
	}
	rows, err := p.db.QueryContext(ctx, `SELECT sender, at, head, settled FROM intact_forks WHERE room = ? ORDER BY at, sender`, room[:])
	if err != nil {
		return nil, fmt.Errorf("read the forks of room %s: %w", room, failure(err))
	}
	defer rows.Close()
	for rows.Next() {
		var f Fork
		if err := rows.Scan(sqlite.Blob(f.Sender[:]), &f.At, sqlite.Blob(f.Head[:]), &f.Settled); err != nil {
			return nil, fmt.Errorf("read the forks of room %s: %w", room, failure(err))
		}
		forks = append(forks, f)
	}
	return forks, failure(rows.Err())
}

// Forked remembers a fork. One that is known stays as it is.
func (p *Pins) Forked(ctx context.Context, room crypto.ID, f Fork) error {
	err := p.write(ctx, p.db, `INSERT OR IGNORE INTO forks (room, sender, at, head, settled) VALUES (?, ?, ?, ?, 0)`, room[:], f.Sender[:], f.At, f.Head[:])
	if err != nil {
		return fmt.Errorf("remember a fork of room %s: %w", room, failure(err))
	}
	return nil
}

// Settle remembers that a person has decided about all known forks of a room's log.
func (p *Pins) Settle(ctx context.Context, room crypto.ID) error {
	if err := p.write(ctx, p.db, `UPDATE forks SET settled = 1 WHERE room = ?`, room[:]); err != nil {
		return fmt.Errorf("settle the forks of room %s: %w", room, failure(err))
	}
	return nil
}
