package pins

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// Logs are the pinned states of logs. Pinning one is a transaction, in which what was offered for the log, and where its
// room reached, follow (offers.go, places.go).
type Logs struct{ db *database }

// State returns the pinned state of a log; an empty one for a log not met before.
func (l Logs) State(ctx context.Context, log crypto.ID) (*ledger.State, error) {
	what := fmt.Sprintf("the pin of log %s", log)
	var snapshot []byte
	known, err := l.db.find(ctx, row{"logs", what, `SELECT snapshot FROM intact_logs WHERE log = ?`, []any{log[:]}}, &snapshot)
	if err != nil {
		return nil, err
	}
	if !known {
		return new(ledger.State), nil
	}
	s, err := ledger.LoadSnapshot(snapshot)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, failure(err))
	}
	return s, nil
}

// IDs are those of all logs that are pinned, in no order.
func (l Logs) IDs(ctx context.Context) ([]crypto.ID, error) {
	// Their states are large, and held against their checksums one by one by whoever needs them.
	if err := l.db.sound(ctx, l.db.file, "logs"); err != nil {
		return nil, err
	}
	rows, err := l.db.file.QueryContext(ctx, `SELECT log FROM logs`)
	if err != nil {
		return nil, fmt.Errorf("read which logs are pinned: %w", failure(err))
	}
	defer rows.Close()
	var all []crypto.ID
	for rows.Next() {
		var log crypto.ID
		if err := rows.Scan(sqlite.Blob(log[:])); err != nil {
			return nil, fmt.Errorf("read which logs are pinned: %w", failure(err))
		}
		all = append(all, log)
	}
	return all, failure(rows.Err())
}

// Advance pins a verified state. A pin never moves back: a state behind it is only checked to be
// of the same history. The error is ErrContradiction when it is not. What was offered for a place where a verified
// entry now stands is settled.
func (l Logs) Advance(ctx context.Context, s *ledger.State) error {
	return l.pin(ctx, s, s.Head.Seq, func(seq uint64, snapshot []byte) error {
		pinned, err := ledger.LoadSnapshot(snapshot)
		if err != nil {
			return err
		}
		at := min(seq, s.Head.Seq)
		a, _ := pinned.HashAt(at)
		if b, _ := s.HashAt(at); a != b {
			return fmt.Errorf("at entry %d: %w", at, ErrContradiction)
		}
		if seq >= s.Head.Seq {
			return errPinned
		}
		return nil
	})
}

// Return pins a verified state in the place of whatever is pinned, further on or of another history: a person has
// decided. What was signed for the history that is given up is offered no more, but where this one can go on with it;
// and where a room's messages were when it had begun anew in that history is forgotten, since the room has not.
func (l Logs) Return(ctx context.Context, s *ledger.State) error {
	return l.pin(ctx, s, math.MaxInt64, func(uint64, []byte) error { return nil })
}

// errPinned says that a state is pinned already.
var errPinned = errors.New("pinned already")

// pin pins a state, unless check has something against it in view of what is pinned, and lets go of what was
// offered for places up to one.
func (l Logs) pin(ctx context.Context, s *ledger.State, forget uint64, check func(seq uint64, snapshot []byte) error) error {
	switch err := l.tryPin(ctx, s, forget, check); {
	case err == nil, errors.Is(err, errPinned):
		return nil
	default:
		return fmt.Errorf("pin log %s: %w", s.ID, failure(err))
	}
}

// tryPin does it in one transaction, of which nothing is left when any of it fails.
func (l Logs) tryPin(ctx context.Context, s *ledger.State, forget uint64, check func(seq uint64, snapshot []byte) error) error {
	return l.db.change(ctx, durable, func(tx *sql.Tx) error {
		if err := l.checkPinned(ctx, tx, s.ID, check); err != nil {
			return err
		}
		if err := l.pinSubject(ctx, tx, s); err != nil {
			return err
		}
		snapshot, err := s.Snapshot()
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO logs (log, seq, snapshot) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq, snapshot = excluded.snapshot`, s.ID[:], s.Head.Seq, snapshot); err != nil {
			return err
		}
		if err := settleOffers(ctx, tx, s.ID, forget); err != nil {
			return err
		}
		return forgetPlaces(ctx, tx, s.ID, s.Head.Seq)
	})
}

// PinSubjects has the subjects of rooms that are pinned mean those rooms, as pinning them does: builds that did not have pinned them,
// too. Those that mean others stay as they are.
func (l Logs) PinSubjects(ctx context.Context, rooms []*ledger.State) error {
	err := l.db.change(ctx, durable, func(tx *sql.Tx) error {
		for _, s := range rooms {
			if err := l.pinSubject(ctx, tx, s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("pin subjects: %w", err)
	}
	return nil
}

// pinSubject has the subject of a room mean that room, if it means none yet: whoever has verified its log is not to be led to another
// by that name, though they have only seen it in a list. The error is a *SubjectTaken for a log that was not pinned before, of a
// subject that means another room.
func (l Logs) pinSubject(ctx context.Context, tx *sql.Tx, s *ledger.State) error {
	if s.Room == nil {
		return nil
	}
	var means crypto.ID
	pin := row{"subjects", "the pin of " + s.Room.Subject, subjectOf, []any{s.Room.Bus[:], s.Room.Subject}}
	_, err := l.db.findIn(ctx, tx, pin, sqlite.Blob(means[:]))
	switch {
	case err != nil || means == s.ID:
		return err
	case means.IsZero():
		_, err = tx.ExecContext(ctx, setSubject, s.Room.Bus[:], s.Room.Subject, s.ID[:])
		return err
	}
	var pinned bool
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM logs WHERE log = ?)`, s.ID[:]).Scan(&pinned)
	if err == nil && !pinned {
		err = &SubjectTaken{s.Room.Subject, means}
	}
	return err
}

// SubjectTaken is the ErrContradiction of the log of a room whose subject means another.
type SubjectTaken struct {
	Subject string
	Room    crypto.ID // that it means
}

// Error says which.
func (e *SubjectTaken) Error() string {
	return fmt.Sprintf("the subject %s means the room %s", e.Subject, e.Room)
}

// Unwrap says what kind it is.
func (e *SubjectTaken) Unwrap() error { return ErrContradiction }

// checkPinned has what is pinned of a log checked, if anything is.
func (l Logs) checkPinned(ctx context.Context, tx *sql.Tx, log crypto.ID, check func(seq uint64, snapshot []byte) error) error {
	var seq uint64
	var snapshot []byte
	pin := row{"logs", "what is pinned", `SELECT seq, snapshot FROM intact_logs WHERE log = ?`, []any{log[:]}}
	if known, err := l.db.findIn(ctx, tx, pin, &seq, &snapshot); err != nil || !known {
		return err
	}
	return check(seq, snapshot)
}
