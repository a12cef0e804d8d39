package unibus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/reader"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
	"github.com/unibus/unibus/internal/store/remote"
)

// link is how a client reaches a bus: through its service, or straight at a store.
type link struct {
	o         *Options
	pins      *pins.Pins
	makes     bool // a store that is not there is made
	anywhere  bool // nobody said where to go, and no bus is in use
	met       ID   // that is pinned for where to go; zero: none is
	turns     *pins.Turns
	connected func() // called when the connection stands again

	bus     ID // that was logged in to
	store   store.Store
	conn    *bus.Conn    // nil straight at a SQLite store
	streams *bus.Streams // of rooms, straight at a JetStream store
	past    past         // nil straight at a SQLite store

	mu   sync.Mutex
	away *time.Timer // runs while the connection is broken
}

// past is what rooms have stored: the frames, and how many there are.
type past interface {
	reader.Past
	Stored(ctx context.Context, room ID) (*store.Stream, error)
}

// choose settles where to go.
func (l *link) choose(ctx context.Context) error {
	var err error
	if l.anywhere, err = l.o.choose(ctx, l.pins); err != nil {
		return err
	}
	address, err := l.o.address()
	if err == nil { // else it is told when the store is opened, with what helps
		if l.met, err = busAt(ctx, l.pins, address); err != nil {
			return err
		}
	}
	l.turns = l.pins.Turns.Of(l.met)
	return nil
}

// open connects, and returns which bus is there.
func (l *link) open(ctx context.Context) (ID, error) {
	if l.o.Store == "" {
		return l.openService(ctx)
	}
	var statement []byte
	err := l.openStore(ctx)
	if err == nil {
		statement, err = l.store.Bus(ctx)
	}
	address, aerr := l.o.address()
	switch {
	case aerr != nil: // which is why, and told with what helps
		return ID{}, cmp.Or(err, aerr)
	case errors.Is(err, ErrNotFound) && !l.met.IsZero():
		return ID{}, otherBus(address, l.met, ID{})
	case errors.Is(err, ErrNoBus): // there is no store
		return ID{}, err
	case errors.Is(err, ErrNotFound):
		if err := store.NeverUsed(ctx, l.store); err != nil {
			return ID{}, fmt.Errorf("store %s: %w", address, err)
		}
		return ID{}, fmt.Errorf("store %s: %w: %w", address, ErrNotFound, ErrNoBus)
	case err != nil:
		return ID{}, err
	}
	return l.checkBus(ctx, address, "", statement)
}

// openService logs in to the bus at a server.
func (l *link) openService(ctx context.Context) (ID, error) {
	address, err := l.o.address()
	if err != nil {
		return ID{}, err
	}
	id := l.met
	if id.IsZero() { // another process may have met it while this one waited for its turn
		if id, err = busAt(ctx, l.pins, address); err != nil {
			return ID{}, err
		}
	}
	if id.IsZero() || l.o.Bus != "" && !strings.EqualFold(l.o.Bus, id.String()) {
		if id, err = l.hello(ctx); err != nil {
			return ID{}, err
		}
	}
	if err := l.login(ctx, id); err != nil {
		return ID{}, err
	}
	if strings.Contains(address, ",") { // it may have led to one of the servers that was not met before
		if err := l.pins.Servers.Pin(ctx, oneOf(address, l.conn.Server()), id); err != nil {
			return ID{}, err
		}
	}
	service := remote.New(remote.Options{
		Transport: l.conn, Identity: l.o.Identity, Bus: id, Inbox: l.conn.Inbox(), Watcher: l.conn, OpTimeout: l.o.Timeout,
	})
	l.store, l.past = service, service
	return id, nil
}

func (l *link) dialOptions() bus.DialOptions {
	return bus.DialOptions{
		Servers: l.o.Server, Context: l.o.Context, CA: l.o.TLSCA, Identity: l.o.Identity, Timeout: l.o.Timeout,
		Connected: l.back, Lost: l.lost,
		Waiting:   func() { l.o.tell("nobody listens there yet: waiting for %v", l.o.Timeout) },
		Elsewhere: func() string { return elsewhere(l) },
	}
}

// elsewhere is the server of a bus that another process of this identity has made known meanwhile, when this one waits where
// nobody said to go; empty for none.
func elsewhere(l *link) string {
	if !l.anywhere || !l.met.IsZero() {
		return ""
	}
	server, err := l.pins.Buses.InUse(context.Background())
	if err != nil || server == "" {
		return ""
	}
	l.o.Server = server
	return server
}

// lostNotice is how long a connection may be away before people are told: it also breaks for a moment when
// the rooms that it is for change.
const lostNotice = 2 * time.Second

// lost tells that the connection broke, unless it stands again soon.
func (l *link) lost(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away == nil {
		l.away = time.AfterFunc(lostNotice, func() { l.o.tell("connection lost (%v); reconnecting", redact.Error(err)) })
	}
}

// back takes note that the connection stands again.
func (l *link) back() {
	l.mu.Lock()
	away := l.away
	l.away = nil
	l.mu.Unlock()
	if away != nil && !away.Stop() {
		l.o.tell("connected again")
	}
	l.connected()
}

// disconnect ends the connection.
func (l *link) disconnect() {
	l.mu.Lock()
	if l.away != nil {
		l.away.Stop()
	}
	l.mu.Unlock()
	if l.conn != nil {
		l.conn.Close()
	}
}

// address is where the options lead, as it is pinned: without what only the servers may know.
func (o *Options) address() (string, error) {
	if o.Store != "" {
		u, err := open.Parse(o.Store)
		if err != nil {
			return "", err
		}
		return u.Address(o.Context)
	}
	if o.Context != "" {
		return "context:" + o.Context, nil
	}
	return redact.URL(o.Server), nil
}

// StateFile is where what the identity has verified is kept.
func (o *Options) StateFile() string {
	return filepath.Join(o.StateDir, o.Identity.Key().String()+".db")
}
