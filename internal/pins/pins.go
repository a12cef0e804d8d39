// Package pins keeps what one identity has verified, so that no store can later take it back: per
// log the highest place and the folded state, the bus behind each server address, and the names
// and subjects it has met (SPEC.md §4); of each stored room how far it has read, and what it had stored itself
// (§6). One SQLite file per identity, which any number of its processes may have open.
//
// It remembers; it decides nothing but whether what it is told contradicts what it remembers.
package pins

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// ErrContradiction says that what is now offered is not what was verified before.
var ErrContradiction = errors.New("contradicts what was verified before")

var migrations = []string{`
CREATE TABLE logs (
  log      BLOB PRIMARY KEY,
  seq      INTEGER NOT NULL,
  snapshot BLOB NOT NULL
) STRICT;
CREATE TABLE servers (address TEXT PRIMARY KEY, bus BLOB NOT NULL) STRICT;
CREATE TABLE names (bus BLOB NOT NULL, name TEXT NOT NULL, key BLOB NOT NULL, PRIMARY KEY (bus, name)) STRICT;
CREATE TABLE subjects (bus BLOB NOT NULL, subject TEXT NOT NULL, room BLOB NOT NULL, PRIMARY KEY (bus, subject)) STRICT;
CREATE TABLE offers (
  log       BLOB PRIMARY KEY, -- one at a time
  seq       INTEGER NOT NULL,
  statement BLOB NOT NULL,
  at        INTEGER NOT NULL,
  epoch     INTEGER NOT NULL,
  key       BLOB
) STRICT;
CREATE TABLE signed ( -- what was in offers, in case its log goes back
  log       BLOB NOT NULL,
  seq       INTEGER NOT NULL,
  statement BLOB NOT NULL,
  at        INTEGER NOT NULL,
  epoch     INTEGER NOT NULL,
  key       BLOB,
  PRIMARY KEY (log, seq)
) STRICT;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE places (
  room     BLOB PRIMARY KEY,
  anew     INTEGER NOT NULL, -- the log's entry with which what is stored began
  place    INTEGER NOT NULL,
  hash     BLOB NOT NULL,
  accepted INTEGER NOT NULL  -- a person has said that up to here all is well
) STRICT;
CREATE TABLE streams (
  room    BLOB NOT NULL,
  stream  BLOB NOT NULL,
  frames  INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  place   INTEGER NOT NULL,
  sealed  INTEGER NOT NULL,
  ended   INTEGER NOT NULL, -- nothing of it is on its way
  written INTEGER NOT NULL, -- in Unix seconds
  PRIMARY KEY (room, stream)
) STRICT;
CREATE TABLE forks (
  room    BLOB NOT NULL,
  sender  BLOB NOT NULL,
  at      INTEGER NOT NULL,
  head    BLOB NOT NULL, -- how the hash begins that the sender has there
  settled INTEGER NOT NULL,
  PRIMARY KEY (room, sender, at, head)
) STRICT;
`, `
ALTER TABLE places ADD COLUMN disputed INTEGER NOT NULL DEFAULT 0; -- there was another frame before
ALTER TABLE places ADD COLUMN own INTEGER NOT NULL DEFAULT 0;      -- the highest that was acknowledged
ALTER TABLE places ADD COLUMN own_hash BLOB NOT NULL DEFAULT (zeroblob(32));
`}

// schema is the first version of the file's form that is read; each further migration makes the next.
const schema = 4

// busy is how long a call waits for another process of the same identity.
const busy = 10 * time.Second

// Pins is an open file. What may be lost with the machine's power, and costs only a check, is written by lax, which
// does not wait for the disk.
type Pins struct {
	path    string
	db, lax *sql.DB
}

// Open opens or makes the file at path.
func Open(ctx context.Context, path string) (*Pins, error) {
	// Whoever could change the file could have its owner believe a history that was taken back.
	if err := errors.Join(newfile.Private(path), newfile.Touch(path)); err != nil {
		return nil, fmt.Errorf("open the pins: %w", err)
	}
	db, err := sql.Open("sqlite", sqlite.DSN(path, busy, false))
	if err != nil {
		return nil, fmt.Errorf("open the pins: %w", err)
	}
	lax, err := sql.Open("sqlite", sqlite.DSN(path, busy, true))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the pins: %w", err), db.Close())
	}
	db.SetMaxOpenConns(1)
	lax.SetMaxOpenConns(1)
	p := &Pins{path, db, lax}
	if err := sqlite.Migrate(ctx, db, schema, migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("open the pins %s: %w", path, failure(err)), p.Close())
	}
	return p, nil
}

// ErrDamaged says that what was remembered is damaged. It is an integrity error, of this machine's own.
var ErrDamaged = fmt.Errorf("%w: what this machine remembers of what it verified is damaged", store.ErrIntegrity)

// failure gives what the driver says, and what was read, its kind.
func failure(err error) error {
	switch {
	case sqlite.IsDamaged(err), errors.Is(err, ledger.ErrSnapshot):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case sqlite.IsBusy(err):
		return fmt.Errorf("%w: other processes of this identity held the file for more than %v", store.ErrUnavailable, busy)
	}
	return err
}

// Close closes the file.
func (p *Pins) Close() error { return errors.Join(p.db.Close(), p.lax.Close()) }

// State returns the pinned state of a log; an empty one for a log not met before.
func (p *Pins) State(ctx context.Context, log crypto.ID) (*ledger.State, error) {
	var snapshot []byte
	err := p.db.QueryRowContext(ctx, `SELECT snapshot FROM logs WHERE log = ?`, log[:]).Scan(&snapshot)
	if errors.Is(err, sql.ErrNoRows) {
		return new(ledger.State), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the pin of log %s: %w", log, failure(err))
	}
	s, err := ledger.LoadSnapshot(snapshot)
	if err != nil {
		return nil, fmt.Errorf("read the pin of log %s: %w", log, failure(err))
	}
	return s, nil
}

// Advance pins a verified state. A pin never moves back: a state behind it is only checked to be
// of the same history. The error is ErrContradiction when it is not. What was offered for a place where a verified
// entry now stands is settled.
func (p *Pins) Advance(ctx context.Context, s *ledger.State) error {
	return p.pinState(ctx, s, s.Head.Seq, func(seq uint64, snapshot []byte) error {
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
func (p *Pins) Return(ctx context.Context, s *ledger.State) error {
	return p.pinState(ctx, s, math.MaxInt64, func(uint64, []byte) error { return nil })
}

// errPinned says that a state is pinned already.
var errPinned = errors.New("pinned already")

// pinState pins a state, unless check has something against it in view of what is pinned, and lets go of what was
// offered for places up to one.
func (p *Pins) pinState(ctx context.Context, s *ledger.State, forget uint64, check func(seq uint64, snapshot []byte) error) error {
	switch err := p.tryPin(ctx, s, forget, check); {
	case err == nil, errors.Is(err, errPinned):
		return nil
	default:
		return fmt.Errorf("pin log %s: %w", s.ID, failure(err))
	}
}

func (p *Pins) tryPin(ctx context.Context, s *ledger.State, forget uint64, check func(seq uint64, snapshot []byte) error) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var seq uint64
	var snapshot []byte
	switch err := tx.QueryRowContext(ctx, `SELECT seq, snapshot FROM logs WHERE log = ?`, s.ID[:]).Scan(&seq, &snapshot); {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	default:
		if err := check(seq, snapshot); err != nil {
			return err
		}
	}
	if snapshot, err = s.Snapshot(); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO logs (log, seq, snapshot) VALUES (?, ?, ?)`, s.ID[:], s.Head.Seq, snapshot); err != nil {
		return err
	}
	if err := letGo(ctx, tx, s.ID, forget); err != nil {
		return err
	}
	// Places never belong to an entry that is not there.
	if _, err := tx.ExecContext(ctx, `DELETE FROM places WHERE room = ? AND anew > ?`, s.ID[:], s.Head.Seq); err != nil {
		return err
	}
	return tx.Commit()
}

// Server returns the bus pinned for an address; zero for one not met before.
func (p *Pins) Server(ctx context.Context, address string) (crypto.ID, error) {
	var bus crypto.ID
	err := p.db.QueryRowContext(ctx, `SELECT bus FROM servers WHERE address = ?`, address).Scan(sqlite.Blob(bus[:]))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return crypto.ID{}, fmt.Errorf("read the pin of %s: %w", address, failure(err))
	}
	return bus, nil
}

// Buses returns the buses that were met, behind whatever address.
func (p *Pins) Buses(ctx context.Context) (out []crypto.ID, err error) {
	rows, err := p.db.QueryContext(ctx, `SELECT DISTINCT bus FROM servers`)
	if err != nil {
		return nil, fmt.Errorf("read which buses were met: %w", failure(err))
	}
	defer rows.Close()
	for rows.Next() {
		var bus crypto.ID
		if err := rows.Scan(sqlite.Blob(bus[:])); err != nil {
			return nil, fmt.Errorf("read which buses were met: %w", failure(err))
		}
		out = append(out, bus)
	}
	return out, failure(rows.Err())
}

// PinServer remembers the bus behind an address. The error is ErrContradiction when another is
// remembered.
func (p *Pins) PinServer(ctx context.Context, address string, bus crypto.ID) error {
	return p.pin(ctx, false, `SELECT bus FROM servers WHERE address = ?1`,
		`INSERT OR REPLACE INTO servers (address, bus) VALUES (?1, ?2)`, bus[:], address)
}

// PinName remembers which key a user's name means; replace confirms that it now means another.
func (p *Pins) PinName(ctx context.Context, bus crypto.ID, name string, key crypto.PublicKey, replace bool) error {
	return p.pin(ctx, replace, `SELECT key FROM names WHERE bus = ?1 AND name = ?2`,
		`INSERT OR REPLACE INTO names (bus, name, key) VALUES (?1, ?2, ?3)`, key[:], bus[:], name)
}

// PinSubject remembers which room a subject means; replace confirms that it now means another.
func (p *Pins) PinSubject(ctx context.Context, bus crypto.ID, subject string, room crypto.ID, replace bool) error {
	return p.pin(ctx, replace, `SELECT room FROM subjects WHERE bus = ?1 AND subject = ?2`,
		`INSERT OR REPLACE INTO subjects (bus, subject, room) VALUES (?1, ?2, ?3)`, room[:], bus[:], subject)
}

func (p *Pins) pin(ctx context.Context, replace bool, get, put string, value []byte, key ...any) error {
	var old []byte
	err := p.db.QueryRowContext(ctx, get, key...).Scan(&old)
	switch {
	case err == nil && string(old) == string(value):
		return nil
	case err == nil && !replace:
		return ErrContradiction
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("read a pin: %w", failure(err))
	}
	if _, err := p.db.ExecContext(ctx, put, append(key, value)...); err != nil {
		return fmt.Errorf("write a pin: %w", failure(err))
	}
	return nil
}

// Subject returns the room pinned for a subject; zero for one not met before.
func (p *Pins) Subject(ctx context.Context, bus crypto.ID, subject string) (crypto.ID, error) {
	var room crypto.ID
	err := p.db.QueryRowContext(ctx, `SELECT room FROM subjects WHERE bus = ? AND subject = ?`, bus[:], subject).Scan(sqlite.Blob(room[:]))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return crypto.ID{}, fmt.Errorf("read the pin of %s: %w", subject, failure(err))
	}
	return room, nil
}

// Of remembers whose file it is; ErrDamaged when it is another's, which somebody put in its place.
func (p *Pins) Of(ctx context.Context, owner crypto.PublicKey) error {
	const setting = "owner"
	known, err := p.Setting(ctx, setting)
	switch {
	case err != nil:
		return err
	case known == "":
		return p.Set(ctx, setting, owner.String())
	case known != owner.String():
		return fmt.Errorf("%w: it is that of another identity, %s", ErrDamaged, known)
	}
	return nil
}

// Setting returns a remembered setting; empty for none.
func (p *Pins) Setting(ctx context.Context, name string) (string, error) {
	var value string
	err := p.db.QueryRowContext(ctx, `SELECT value FROM settings WHERE name = ?`, name).Scan(&value)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read the setting %s: %w", name, failure(err))
	}
	return value, nil
}

// Set remembers a setting.
func (p *Pins) Set(ctx context.Context, name, value string) error {
	if _, err := p.db.ExecContext(ctx, `INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)`, name, value); err != nil {
		return fmt.Errorf("write the setting %s: %w", name, failure(err))
	}
	return nil
}
