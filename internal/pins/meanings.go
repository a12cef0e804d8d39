package pins

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/servers"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// meanings is a table in which each key means one thing: an address a bus, a name a key, a subject a room. Servers,
// Names and Subjects are such tables.
type meanings struct {
	db       *database
	table    string
	get, put string // statements; the columns of the key are ?1 and on, and in put its meaning is the last
}

// find reads what a key means into a value of a fixed length, which stays as it is if the key was not met before.
func (m meanings) find(ctx context.Context, what string, into []byte, key ...any) error {
	_, err := m.db.find(ctx, row{m.table, what, m.get, key}, sqlite.Blob(into))
	return err
}

// pin remembers what a key means. The error is ErrContradiction when something else is remembered.
func (m meanings) pin(ctx context.Context, meaning []byte, key ...any) error {
	known, same, err := m.compare(ctx, meaning, key)
	switch {
	case err != nil || same:
		return err
	case known:
		return ErrContradiction
	}
	return m.set(ctx, meaning, key)
}

// replace remembers what a key means now, whatever it meant before.
func (m meanings) replace(ctx context.Context, meaning []byte, key ...any) error {
	_, same, err := m.compare(ctx, meaning, key)
	if err != nil || same {
		return err
	}
	return m.set(ctx, meaning, key)
}

// replaceAll is replace for many keys at once, each given with what it means: all of them, or none.
func (m meanings) replaceAll(ctx context.Context, all iter.Seq[[]any]) error {
	err := m.db.sound(ctx, m.db.file, m.table)
	if err == nil {
		err = m.db.writeAll(ctx, durable, m.put, all)
	}
	if err != nil {
		return fmt.Errorf("write pins: %w", err)
	}
	return nil
}

// compare says whether anything is known of a key, and whether that is the same.
func (m meanings) compare(ctx context.Context, meaning []byte, key []any) (known, same bool, err error) {
	var old []byte
	known, err = m.db.find(ctx, row{m.table, "a pin", m.get, key}, &old)
	return known, known && string(old) == string(meaning), err
}

// set writes what a key means.
func (m meanings) set(ctx context.Context, meaning []byte, key []any) error {
	if err := m.db.write(ctx, durable, m.put, append(key, meaning)...); err != nil {
		return fmt.Errorf("write a pin: %w", failure(err))
	}
	return nil
}

// SeveralBuses is the ErrContradiction of a list of servers at which more than one bus was met.
type SeveralBuses struct {
	At   string // a server
	Bus  crypto.ID
	At2  string // another
	Bus2 crypto.ID
}

// Error names both.
func (e *SeveralBuses) Error() string {
	return fmt.Sprintf("these are not servers of one bus: %s was met as one of the bus %s, %s of the bus %s", e.At, e.Bus, e.At2, e.Bus2)
}

// Unwrap says what kind it is.
func (e *SeveralBuses) Unwrap() error { return ErrContradiction }

// Servers are the buses that were met behind server addresses.
type Servers struct{ meanings meanings }

// Bus returns the bus pinned for an address, or for any of the servers that it lists; zero when none of them was met before.
// The error is a *SeveralBuses when more than one is.
func (s Servers) Bus(ctx context.Context, address string) (bus crypto.ID, err error) {
	at := ""
	for _, key := range servers.Keys(address) {
		one, err := s.at(ctx, key)
		switch {
		case err != nil:
			return crypto.ID{}, err
		case one.IsZero():
		case bus.IsZero():
			bus, at = one, key
		case bus != one:
			return crypto.ID{}, &SeveralBuses{at, bus, key, one}
		}
	}
	if !bus.IsZero() {
		return bus, nil
	}
	return s.at(ctx, address) // builds that knew an address in one spelling alone have pinned that
}

// at is the bus that is pinned under a key; zero for none.
func (s Servers) at(ctx context.Context, key string) (bus crypto.ID, err error) {
	if err := s.meanings.find(ctx, "the pin of "+key, bus[:], key); err != nil {
		return crypto.ID{}, err
	}
	return bus, nil
}

// Buses returns the buses that were met, behind whatever address.
func (s Servers) Buses(ctx context.Context) ([]crypto.ID, error) {
	none := crypto.ID{}
	all := row{"servers", "which buses were met", `SELECT DISTINCT bus FROM intact_servers WHERE bus <> ?`, []any{none[:]}}
	return list(ctx, s.meanings.db, all, func(bus *crypto.ID) []any { return []any{sqlite.Blob(bus[:])} })
}

// Pin remembers the bus behind an address: at each of the servers that it lists. The error is ErrContradiction when another
// is remembered at one of them, and then nothing is changed.
func (s Servers) Pin(ctx context.Context, address string, bus crypto.ID) error {
	before, err := s.Bus(ctx, address)
	switch {
	case err != nil:
		return err
	case !before.IsZero() && before != bus:
		return ErrContradiction
	}
	return s.replace(ctx, address, bus)
}

// replace has all servers of an address mean a bus, or none of them.
func (s Servers) replace(ctx context.Context, address string, bus crypto.ID) error {
	keys := servers.Keys(address)
	if !slices.Contains(keys, address) { // builds that knew an address in one spelling alone have pinned that
		old, err := s.at(ctx, address)
		if err != nil {
			return err
		}
		if !old.IsZero() {
			keys = append(keys, address)
		}
	}
	var others [][]any
	for _, key := range keys {
		is, err := s.at(ctx, key)
		if err != nil {
			return err
		}
		if is != bus {
			others = append(others, []any{key, bus[:]})
		}
	}
	if len(others) == 0 {
		return nil
	}
	return s.meanings.replaceAll(ctx, slices.Values(others))
}

// Forget gives up which bus is behind an address, at all servers that it lists. No row of the table is ever removed: it
// means none from then on.
func (s Servers) Forget(ctx context.Context, address string) error {
	return s.replace(ctx, address, crypto.ID{})
}

// Names are the keys that the names of a bus's users mean.
type Names struct{ meanings meanings }

// Pin remembers which key a user's name means. The error is ErrContradiction when it meant another.
func (n Names) Pin(ctx context.Context, bus crypto.ID, name string, key crypto.PublicKey) error {
	return n.meanings.pin(ctx, key[:], bus[:], name)
}

// Replace remembers which key a user's name means, also if it meant another: that is meant.
func (n Names) Replace(ctx context.Context, bus crypto.ID, name string, key crypto.PublicKey) error {
	return n.meanings.replace(ctx, key[:], bus[:], name)
}

// ReplaceAll is Replace for many names at once: all of them are remembered, or none.
func (n Names) ReplaceAll(ctx context.Context, bus crypto.ID, keys map[string]crypto.PublicKey) error {
	return n.meanings.replaceAll(ctx, func(yield func([]any) bool) {
		for name, key := range keys {
			if !yield([]any{bus[:], name, key[:]}) {
				return
			}
		}
	})
}

// Subjects are the rooms that the subjects of a bus mean.
type Subjects struct{ meanings meanings }

// Statements of the table of subjects, which pinning a log fills as well.
const (
	subjectOf  = `SELECT room FROM intact_subjects WHERE bus = ?1 AND subject = ?2`
	setSubject = `INSERT INTO subjects (bus, subject, room) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET room = excluded.room`
)

// Room returns the room pinned for a subject; zero for one not met before, or freed.
func (s Subjects) Room(ctx context.Context, bus crypto.ID, subject string) (room crypto.ID, err error) {
	if err := s.meanings.find(ctx, "the pin of "+subject, room[:], bus[:], subject); err != nil {
		return crypto.ID{}, err
	}
	return room, nil
}

// Pin remembers which room a subject means. The error is ErrContradiction when it meant another.
func (s Subjects) Pin(ctx context.Context, bus crypto.ID, subject string, room crypto.ID) error {
	return s.meanings.pin(ctx, room[:], bus[:], subject)
}

// Replace remembers which room a subject means, also if it meant another: that is meant. The zero ID frees the subject.
func (s Subjects) Replace(ctx context.Context, bus crypto.ID, subject string, room crypto.ID) error {
	return s.meanings.replace(ctx, room[:], bus[:], subject)
}
