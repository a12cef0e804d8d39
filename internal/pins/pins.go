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
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// ErrContradiction says that what is now offered is not what was verified before.
var ErrContradiction = errors.New("contradicts what was verified before")

// busy is how long a call waits for another process of the same identity.
const busy = 10 * time.Second

// Pins is an open file. What may be lost with the machine's power, and costs only a check, is written by lax, which
// does not wait for the disk.
type Pins struct {
	path    string
	db, lax *sql.DB

	waited atomic.Bool // for a turn, as long as it waits

	mu     sync.Mutex
	looked map[string]int // tables, and how well
}

// Open opens or makes the file at path.
func Open(ctx context.Context, path string) (*Pins, error) {
	// Whoever could change the file could have its owner believe a history that was taken back.
	err := errors.Join(registered, newfile.Private(path))
	if _, none := os.Stat(path); err == nil && errors.Is(none, os.ErrNotExist) {
		err = found(ctx, path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the pins: %w", failure(notKept(err)))
	}
	db, err := sql.Open("sqlite", sqlite.DSN(path, busy, sqlite.Full))
	if err != nil {
		return nil, fmt.Errorf("open the pins: %w", err)
	}
	lax, err := sql.Open("sqlite", sqlite.DSN(path, busy, sqlite.Normal))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the pins: %w", err), db.Close())
	}
	db.SetMaxOpenConns(1)
	lax.SetMaxOpenConns(1)
	p := &Pins{path: path, db: db, lax: lax, looked: map[string]int{}}
	if err := p.check(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the pins %s: %w", path, failure(err)), p.Close())
	}
	return p, nil
}

// found makes a file that remembers nothing yet, aside, so that one which is empty is never a new one.
func found(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(filepath.Dir(path), ".unibus-new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	aside := filepath.Join(folder, "pins")
	if err := newfile.Touch(aside); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", sqlite.DSN(aside, busy, sqlite.Full))
	if err != nil {
		return err
	}
	if err := errors.Join(sqlite.Migrate(ctx, db, schema, migrations()), db.Close()); err != nil {
		return err
	}
	return place(aside, path)
}

// place puts a new file where there is none, without anything of an earlier one; another process may have been quicker.
func place(aside, path string) (err error) {
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, of := range []string{"-wal", "-shm", changesSuffix} {
		if err := os.Remove(path + of); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Rename(aside, path)
}

// check refuses a file of another form, and an empty one.
func (p *Pins) check(ctx context.Context) error {
	info, err := os.Stat(p.path)
	if err != nil {
		return err
	}
	if info.Size() < emptiest {
		return fmt.Errorf("%w: the file has %d bytes", ErrDamaged, info.Size())
	}
	before, err := readChanges(p.path)
	if err == nil {
		err = sqlite.Migrate(ctx, p.db, schema, migrations())
	}
	if err != nil {
		return err
	}
	switch now, err := changes(ctx, p.db); {
	case err != nil:
		return err
	case now < before:
		return fmt.Errorf("%w: its last %d changes are gone", ErrDamaged, before-now)
	}
	return nil
}

// emptiest is how long a SQLite file is at least that holds anything.
const emptiest = 512

// ErrDamaged says that what was remembered is damaged. It is an integrity error, of this machine's own.
var ErrDamaged = fmt.Errorf("%w: what this machine remembers of what it verified is damaged", store.ErrIntegrity)

// ErrNotKept says that what this identity verifies cannot be remembered: the disk is full or fails, or the file or its
// folder is not this process's to write. Nothing is trusted that cannot be held against later.
var ErrNotKept = fmt.Errorf("%w: what this machine verifies cannot be kept", store.ErrUnavailable)

// failure gives what the driver says, and what was read, its kind.
func failure(err error) error {
	switch {
	case errors.Is(err, ErrDamaged), errors.Is(err, ErrNotKept):
	case sqlite.IsDamaged(err), errors.Is(err, ledger.ErrSnapshot):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case sqlite.IsDisk(err):
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	case sqlite.IsBusy(err):
		return fmt.Errorf("%w: other processes of this identity held the file for more than %v", store.ErrUnavailable, busy)
	}
	return err
}

// notKept gives errors of files their kind.
func notKept(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	return err
}

// Close closes the file.
func (p *Pins) Close() error { return errors.Join(p.db.Close(), p.lax.Close()) }

// State returns the pinned state of a log; an empty one for a log not met before.
func (p *Pins) State(ctx context.Context, log crypto.ID) (*ledger.State, error) {
	if err := p.sound(ctx, p.db, "logs"); err != nil {
		return nil, err
	}
	var snapshot []byte
	err := p.db.QueryRowContext(ctx, `SELECT snapshot FROM intact_logs WHERE log = ?`, log[:]).Scan(&snapshot)
	if errors.Is(err, sql.ErrNoRows) {
		return new(ledger.State), p.absent(ctx, p.db, "logs")
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
	if err := p.sound(ctx, tx, "logs"); err != nil {
		return err
	}
	var seq uint64
	var snapshot []byte
	switch err := tx.QueryRowContext(ctx, `SELECT seq, snapshot FROM intact_logs WHERE log = ?`, s.ID[:]).Scan(&seq, &snapshot); {
	case errors.Is(err, sql.ErrNoRows):
		if err := p.absent(ctx, tx, "logs"); err != nil {
			return err
		}
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
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO logs (log, seq, snapshot) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq, snapshot = excluded.snapshot`, s.ID[:], s.Head.Seq, snapshot); err != nil {
		return err
	}
	if err := letGo(ctx, tx, s.ID, forget); err != nil {
		return err
	}
	// Places never belong to an entry that is not there.
	if _, err := tx.ExecContext(ctx, `DELETE FROM places WHERE room = ? AND anew > ?`, s.ID[:], s.Head.Seq); err != nil {
		return err
	}
	return p.commit(ctx, tx)
}

// Server returns the bus pinned for an address; zero for one not met before.
func (p *Pins) Server(ctx context.Context, address string) (crypto.ID, error) {
	var bus crypto.ID
	if err := p.sound(ctx, p.db, "servers"); err != nil {
		return bus, err
	}
	err := p.db.QueryRowContext(ctx, `SELECT bus FROM intact_servers WHERE address = ?`, address).Scan(sqlite.Blob(bus[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return bus, p.absent(ctx, p.db, "servers")
	}
	if err != nil {
		return crypto.ID{}, fmt.Errorf("read the pin of %s: %w", address, failure(err))
	}
	return bus, nil
}

// Buses returns the buses that were met, behind whatever address.
func (p *Pins) Buses(ctx context.Context) (out []crypto.ID, err error) {
	if err := p.absent(ctx, p.db, "servers"); err != nil {
		return nil, err
	}
	rows, err := p.db.QueryContext(ctx, `SELECT DISTINCT bus FROM intact_servers`)
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
	return p.pin(ctx, "servers", false, `SELECT bus FROM intact_servers WHERE address = ?1`,
		`INSERT INTO servers (address, bus) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET bus = excluded.bus`, bus[:], address)
}

// PinName remembers which key a user's name means; replace confirms that it now means another.
func (p *Pins) PinName(ctx context.Context, bus crypto.ID, name string, key crypto.PublicKey, replace bool) error {
	return p.pin(ctx, "names", replace, `SELECT key FROM intact_names WHERE bus = ?1 AND name = ?2`,
		`INSERT INTO names (bus, name, key) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET key = excluded.key`, key[:], bus[:], name)
}

// PinSubject remembers which room a subject means; replace confirms that it now means another.
func (p *Pins) PinSubject(ctx context.Context, bus crypto.ID, subject string, room crypto.ID, replace bool) error {
	return p.pin(ctx, "subjects", replace, `SELECT room FROM intact_subjects WHERE bus = ?1 AND subject = ?2`,
		`INSERT INTO subjects (bus, subject, room) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET room = excluded.room`, room[:], bus[:], subject)
}

func (p *Pins) pin(ctx context.Context, table string, replace bool, get, put string, value []byte, key ...any) error {
	if err := p.sound(ctx, p.db, table); err != nil {
		return err
	}
	var old []byte
	err := p.db.QueryRowContext(ctx, get, key...).Scan(&old)
	if errors.Is(err, sql.ErrNoRows) {
		if err := p.absent(ctx, p.db, table); err != nil {
			return err
		}
	}
	switch {
	case err == nil && string(old) == string(value):
		return nil
	case err == nil && !replace:
		return ErrContradiction
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("read a pin: %w", failure(err))
	}
	if err := p.write(ctx, p.db, put, append(key, value)...); err != nil {
		return fmt.Errorf("write a pin: %w", failure(err))
	}
	return nil
}

// Subject returns the room pinned for a subject; zero for one not met before.
func (p *Pins) Subject(ctx context.Context, bus crypto.ID, subject string) (crypto.ID, error) {
	var room crypto.ID
	if err := p.sound(ctx, p.db, "subjects"); err != nil {
		return room, err
	}
	err := p.db.QueryRowContext(ctx, `SELECT room FROM intact_subjects WHERE bus = ? AND subject = ?`, bus[:], subject).Scan(sqlite.Blob(room[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return room, p.absent(ctx, p.db, "subjects")
	}
	if err != nil {
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
	if err := p.sound(ctx, p.db, "settings"); err != nil {
		return "", err
	}
	var value string
	err := p.db.QueryRowContext(ctx, `SELECT value FROM intact_settings WHERE name = ?`, name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", p.absent(ctx, p.db, "settings")
	}
	if err != nil {
		return "", fmt.Errorf("read the setting %s: %w", name, failure(err))
	}
	return value, nil
}

// Set remembers a setting.
func (p *Pins) Set(ctx context.Context, name, value string) error {
	if err := p.write(ctx, p.db, `INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`, name, value); err != nil {
		return fmt.Errorf("write the setting %s: %w", name, failure(err))
	}
	return nil
}
