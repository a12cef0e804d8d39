package unibus

import (
	"context"
	"errors"
	"fmt"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
)

// This file is the way straight to a store, without a service.

// openStore goes straight to a store.
func (l *link) openStore(ctx context.Context) error {
	u, err := open.Parse(l.o.Store)
	if errors.Is(err, open.ErrKind) {
		err = remedy.With(err, remedy.Remedy{Kind: remedy.NameStore})
	}
	if err != nil {
		return err
	}
	how := open.Options{Step: l.o.Timeout}
	if l.makes {
		how.Missing = open.Make
	}
	if u.Path != "" {
		var s store.Backend
		if s, err = open.Open(ctx, u, nil, how); err == nil {
			l.store = s
		}
	} else {
		err = l.openServers(ctx, u, how)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return &kinded{err, ErrNoBus}
	case err != nil:
		return err
	}
	if b, ok := l.store.(store.Backend); ok {
		if err := store.CheckWhole(ctx, b); err != nil {
			address, _ := l.o.address() // it was read before
			return fmt.Errorf("store %s: %w", address, err)
		}
	}
	return nil
}

// openServers connects with the operator's own credentials and opens the store there. Without a service, rooms' streams
// are this client's to make.
func (l *link) openServers(ctx context.Context, u open.URL, how open.Options) (err error) {
	o := l.dialOptions()
	o.Direct, o.Servers = true, u.Servers
	if l.o.Keys != "" {
		if o.Keys, err = bus.LoadKeys(l.o.Keys); err != nil {
			return err
		}
	}
	if l.conn, err = bus.Dial(o); err != nil {
		if errors.Is(err, ErrDenied) {
			err = remedy.With(err, remedy.Remedy{Kind: remedy.StoreCredentials})
		}
		return err
	}
	s, err := open.InServers(ctx, u, l.conn.NATS(), how)
	if err != nil {
		return err
	}
	l.store = s
	past, err := bus.NewPast(l.conn.NATS())
	if err != nil {
		return err
	}
	l.past = directPast{past}
	l.streams, err = bus.NewStreams(l.conn.NATS(), s.Replicas)
	return err
}

// directPast reads the past straight at a store.
type directPast struct{ *bus.Past }

// directPage is how many bytes directPast reads at once.
const directPage = 4 << 20

// Frames returns a part of a room's past.
func (d directPast) Frames(ctx context.Context, room ID, q store.FramesQuery) (store.Past, error) {
	return d.Past.Frames(ctx, room, q, directPage)
}
