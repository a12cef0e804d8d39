package pins

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// The buses that an identity knows are settings: one for each name, which says the server; no such setting is ever removed,
// and an empty one is none. Which is in use is a setting, too: the server of the bus in use. It is all that builds remember
// which know one bus alone, and they find it there, as they leave it. What is verified of buses is not kept here: it goes
// by their ids, and stays when a name goes.

// Names of settings.
const (
	serverInUse  = "joined server"
	busSettings  = "server of the bus " // and a name
	readBusNames = `SELECT name, value FROM intact_settings WHERE name = ?1 OR substr(name, 1, ?2) = ?3`
	putSetting   = `INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`
)

// Buses are the buses that are known by name.
type Buses struct{ db *database }

// All returns them, by name.
func (b Buses) All(ctx context.Context) ([]Bus, error) {
	l, err := b.read(ctx, b.db.file)
	if err != nil {
		return nil, err
	}
	return l.all(), nil
}

// InUse is the server of the bus in use; empty when none is.
func (b Buses) InUse(ctx context.Context) (string, error) {
	return Settings(b).Get(ctx, serverInUse)
}

// Join remembers a server under a name: the one that is asked for; if none is, the one that the bus there has, and else
// one made of like, or of its host. What was met there is pinned before (Servers.Pin). ErrExists when another bus has the
// name, ErrInvalid when it can be none.
func (b Buses) Join(ctx context.Context, server, asked, like string, choice Choice) (Bus, error) {
	if asked != "" {
		if err := CheckBusName(asked); err != nil {
			return Bus{}, err
		}
	}
	if like == "" {
		like = nameOf(server)
	}
	return b.change(ctx, func(l *busList) (string, error) { return l.join(server, asked, like, choice) })
}

// Free refuses a name that another bus than one at a server has: ErrExists.
func (b Buses) Free(ctx context.Context, name, server string, bus crypto.ID) error {
	l, err := b.read(ctx, b.db.file)
	if err != nil {
		return err
	}
	if has := l.bus(name); has.Server != "" && has.Server != server && has.ID != bus {
		return l.taken(name)
	}
	return nil
}

// Use makes a bus, by name or id, the one in use. ErrNotFound when none is known as that.
func (b Buses) Use(ctx context.Context, nameOrID string) (Bus, error) {
	return b.change(ctx, func(l *busList) (string, error) {
		bus, ok := FindBus(l.all(), nameOrID)
		if !ok {
			return "", UnknownBus(nameOrID)
		}
		l.inUse = bus.Server
		return bus.Name, nil
	})
}

// Rename gives a bus, by name or id, another name. ErrNotFound when none is known as that, ErrExists when another bus has
// the new name, ErrInvalid when it can be none.
func (b Buses) Rename(ctx context.Context, nameOrID, to string) (Bus, error) {
	if err := CheckBusName(to); err != nil {
		return Bus{}, err
	}
	return b.change(ctx, func(l *busList) (string, error) {
		bus, ok := FindBus(l.all(), nameOrID)
		if !ok {
			return "", UnknownBus(nameOrID)
		}
		return to, l.rename(bus.Name, to)
	})
}

// Remove forgets the name of a bus and its server, as All returned it. ErrConflict when it is no longer known as that.
func (b Buses) Remove(ctx context.Context, bus Bus) error {
	_, err := b.change(ctx, func(l *busList) (string, error) {
		if l.bus(bus.Name).Server != bus.Server {
			return "", fmt.Errorf("bus %s: %w: another process has changed it meanwhile", bus.Name, store.ErrConflict)
		}
		l.remove(bus.Name)
		return "", nil
	})
	return err
}

// UnknownBus is the error of a bus that is not known by a name or id.
func UnknownBus(nameOrID string) error {
	return fmt.Errorf("bus %s: %w: this identity knows no bus of that name or id", nameOrID, store.ErrNotFound)
}

// change changes the list in one transaction, so that of two processes one sees what the other did, and returns the bus
// that the change is about.
func (b Buses) change(ctx context.Context, change func(*busList) (name string, err error)) (Bus, error) {
	var changed Bus
	err := b.db.change(ctx, durable, func(tx *sql.Tx) error {
		l, err := b.read(ctx, tx)
		if err != nil {
			return err
		}
		name, err := change(l)
		if err != nil {
			return err
		}
		if err := l.write(ctx, tx); err != nil {
			return fmt.Errorf("write the names of buses: %w", failure(err))
		}
		changed = l.bus(name)
		return nil
	})
	return changed, err
}

// read reads the list.
func (b Buses) read(ctx context.Context, in querier) (*busList, error) {
	l := &busList{servers: map[string]string{}, ids: map[string]crypto.ID{}}
	names := row{"settings", "the names of buses", readBusNames, []any{serverInUse, len(busSettings), busSettings}}
	settings, err := listIn(ctx, b.db, in, names, func(one *[2]string) []any { return []any{&one[0], &one[1]} })
	if err != nil {
		return nil, err
	}
	for _, one := range settings {
		if name, ok := strings.CutPrefix(one[0], busSettings); !ok {
			l.inUse = one[1]
		} else if one[1] != "" {
			l.servers[name] = one[1]
		}
	}
	type met struct {
		address string
		bus     crypto.ID
	}
	all := row{"servers", "which buses were met", `SELECT address, bus FROM intact_servers`, nil}
	found, err := listIn(ctx, b.db, in, all, func(m *met) []any { return []any{&m.address, sqlite.Blob(m.bus[:])} })
	for _, m := range found {
		l.ids[m.address] = m.bus
	}
	l.adopt()
	return l, err
}

// write writes the list in the place of the one that is there.
func (l *busList) write(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, `UPDATE settings SET value = '' WHERE substr(name, 1, ?) = ?`, len(busSettings), busSettings); err != nil {
		return err
	}
	for name, server := range l.servers {
		if _, err := tx.ExecContext(ctx, putSetting, busSettings+name, server); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, putSetting, serverInUse, l.inUse)
	return err
}
