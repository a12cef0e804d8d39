package unibus

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// DefaultName is the name of the person at this machine, as far as it can be one on a bus.
func DefaultName() string {
	if u, err := user.Current(); err == nil && ledger.ValidName(u.Username) == nil {
		return u.Username
	}
	return "admin"
}

// Found makes the store that the options name if it is not there, and founds a bus in it, with the identity as its first
// admin, if there is none. ErrInvalid without a store; ErrIntegrity where this client knows of a bus that is gone, or the
// store has something left of one.
func Found(ctx context.Context, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	if o.Store == "" {
		return fmt.Errorf("found a bus: %w: only straight at a store; unibus serve founds its own", ErrInvalid)
	}
	p, err := o.openPins(ctx)
	if err != nil {
		return err
	}
	l := &link{o: &o, pins: p, connected: func() {}}
	defer func() {
		l.disconnect()
		if l.store != nil {
			_ = l.store.Close() // every write was answered with its own outcome
		}
		_ = p.Close() // likewise
	}()
	address, err := o.address()
	if err != nil {
		return err
	}
	pinned, err := busAt(ctx, p, address)
	if err != nil {
		return err
	}
	l.makes = pinned.IsZero()
	if err = l.openStore(ctx); err == nil {
		_, err = l.store.Bus(ctx)
	}
	if errors.Is(err, ErrNotFound) && !pinned.IsZero() {
		return otherBus(address, pinned, ID{})
	}
	if l.store == nil || !errors.Is(err, ErrNotFound) {
		return err
	}
	name := o.Name
	if name == "" {
		name = DefaultName()
	}
	s, err := store.Found(ctx, l.store, o.Identity, name, time.Now())
	if err != nil {
		return fmt.Errorf("found the bus: %w", err)
	}
	o.tell("founded the bus %s; %s (%s) is its first admin", s.ID, name, o.Identity.Key())
	return p.Servers.Pin(ctx, address, s.ID) // what it meets there later has to be this bus
}
