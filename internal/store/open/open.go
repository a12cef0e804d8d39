package open

import (
	"cmp"
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// This file opens stores, and says how long each of those who open one waits for it.

// Slow is how long somebody waits for one step who can wait: whole logs are moved, or another process holds the file.
const Slow = 30 * time.Second

// Waiter is who waits for a store.
type Waiter int

const (
	// Client waits for each call as long as Step says, at least Slow for a file, which other processes may hold, and at
	// least Slow for servers to open the store.
	Client Waiter = iota
	// Operator waits for each call, and for servers to open the store, as long as Step says, or Slow.
	Operator
	// Service waits for each call as long as Step says, or store.DefaultOpTimeout: others wait for it, and it is better
	// that they are told no. It waits for servers to open the store until its context ends: they have to find together.
	Service
)

// Missing is what is done about a store that is not there.
type Missing int

const (
	Refuse Missing = iota // it is ErrNotFound
	Make                  // an empty one is made
)

// Options of opening. The zero value is a client's at a store that is there.
type Options struct {
	For       Waiter
	Step      time.Duration // that one call may take; 0: as For says
	Missing   Missing
	Unchecked bool // a file may lack what was acknowledged, for whoever looks at it or repairs it
	Relaxed   bool // a power failure may take the last writes to a file
}

// fileCall is how long a call of a file may take.
func (o Options) fileCall() time.Duration {
	switch o.For {
	case Service:
		return cmp.Or(o.Step, store.DefaultOpTimeout)
	case Operator:
		return cmp.Or(o.Step, Slow)
	}
	return max(o.Step, Slow)
}

// serversCall is how long a call of servers may take.
func (o Options) serversCall() time.Duration {
	if o.For == Operator {
		return cmp.Or(o.Step, Slow)
	}
	return cmp.Or(o.Step, store.DefaultOpTimeout)
}

// bound is ctx for as long as servers may take to open the store.
func (o Options) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	switch o.For {
	case Service:
		return context.WithCancel(ctx)
	case Operator:
		return context.WithTimeout(ctx, o.serversCall())
	}
	return context.WithTimeout(ctx, max(o.Step, Slow))
}

// Open opens the store that a URL names: File, or InServers over nc, which is nil for a file.
func Open(ctx context.Context, u URL, nc *nats.Conn, o Options) (store.Backend, error) {
	if u.Path != "" {
		s, err := File(ctx, u.Path, o)
		if err != nil {
			return nil, err // and no store, rather than one that is nil
		}
		return s, nil
	}
	s, err := InServers(ctx, u, nc, o)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// File opens the SQLite file at a path. Its errors are those of sqlite.Open.
func File(ctx context.Context, path string, o Options) (*sqlite.Store, error) {
	return sqlite.Open(ctx, path, sqlite.Options{
		OpTimeout: o.fileCall(), Existing: o.Missing == Refuse, Unchecked: o.Unchecked, Relaxed: o.Relaxed,
	})
}

// InServers opens the store in the servers that a connection leads to; of the URL only Replicas counts. The connection
// stays the caller's, and has to outlive the store. Its errors are those of jetstream.Open.
func InServers(ctx context.Context, u URL, nc *nats.Conn, o Options) (*jetstream.Store, error) {
	ctx, cancel := o.bound(ctx)
	defer cancel()
	return jetstream.Open(ctx, nc, jetstream.Options{OpTimeout: o.serversCall(), Replicas: u.Replicas, Existing: o.Missing == Refuse})
}
