// Package pins keeps what one identity has verified, so that no store can later take it back: per
// log the highest place and the folded state, the bus behind each server address, and the names
// and subjects it has met (SPEC.md §4); by which names it knows buses, and where they are; of each stored room how far it has
// read, and what it had stored itself (§6). One SQLite file per identity, which any number of its processes may have open.
//
// It remembers; it decides nothing but whether what it is told contradicts what it remembers.
//
// Each table of the file is a type with what can be asked of it and told to it, in a file of its own. They share the
// database, which alone knows whether what it gives back is what was written.
package pins

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
)

// Errors of what is remembered, and of remembering it.
var (
	// ErrContradiction says that what is now offered is not what was verified before.
	ErrContradiction = errors.New("contradicts what was verified before")

	// ErrDamaged says that what was remembered is damaged. It is an integrity error, of this machine's own.
	ErrDamaged = fmt.Errorf("%w: what this machine remembers of what it verified is damaged", store.ErrIntegrity)

	// ErrNotKept says that what this identity verifies cannot be remembered: the disk is full or fails, or the file or its
	// folder is not this process's to write. Nothing is trusted that cannot be held against later.
	ErrNotKept = fmt.Errorf("%w: what this machine verifies cannot be kept", store.ErrUnavailable)
)

// Pins is an open file: a field for each of its tables. Any error of theirs may be ErrDamaged, ErrNotKept, or
// store.ErrUnavailable while other processes hold the file.
type Pins struct {
	Logs     Logs
	Offers   Offers
	Servers  Servers
	Names    Names
	Subjects Subjects
	Settings Settings
	Buses    Buses
	Places   Places
	Streams  Streams
	Forks    Forks
	Cards    Cards

	// Turns is what the identity's processes have beside the file.
	Turns *Turns

	db *database
}

// Open opens or makes the file at path.
func Open(ctx context.Context, path string) (*Pins, error) {
	// Whoever could change the file could have its owner believe a history that was taken back.
	err := errors.Join(registered, newfile.Private(path))
	if _, none := os.Stat(path); err == nil && errors.Is(none, os.ErrNotExist) {
		err = create(ctx, path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the pins: %w", failure(notKept(err)))
	}
	db, err := openDatabase(path, busy)
	if err != nil {
		return nil, fmt.Errorf("open the pins: %w", err)
	}
	if err := db.check(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the pins %s: %w", path, failure(err)), db.Close())
	}
	return pinsOf(db), nil
}

// pinsOf are all tables of a database.
func pinsOf(db *database) *Pins {
	return &Pins{
		Logs:   Logs{db},
		Offers: Offers{db},
		Servers: Servers{meanings{
			db: db, table: "servers", get: `SELECT bus FROM intact_servers WHERE address = ?1`,
			put: `INSERT INTO servers (address, bus) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET bus = excluded.bus`,
		}},
		Names: Names{meanings{
			db: db, table: "names", get: `SELECT key FROM intact_names WHERE bus = ?1 AND name = ?2`,
			put: `INSERT INTO names (bus, name, key) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET key = excluded.key`,
		}},
		Subjects: Subjects{meanings{
			db: db, table: "subjects", get: subjectOf, put: setSubject,
		}},
		Settings: Settings{db},
		Buses:    Buses{db},
		Places:   Places{db},
		Streams:  Streams{db},
		Forks:    Forks{db},
		Cards:    Cards{db},
		Turns:    &Turns{path: db.path},
		db:       db,
	}
}

// CheckOwner remembers whose file it is; ErrDamaged when it is another's, which somebody put in its place.
func (p *Pins) CheckOwner(ctx context.Context, owner crypto.PublicKey) error {
	const setting = "owner"
	known, err := p.Settings.Get(ctx, setting)
	switch {
	case err != nil:
		return err
	case known == "":
		return p.Settings.Set(ctx, setting, owner.String())
	case known != owner.String():
		return fmt.Errorf("%w: it is that of another identity, %s", ErrDamaged, known)
	}
	return nil
}

// Close closes the file.
func (p *Pins) Close() error { return p.db.Close() }
