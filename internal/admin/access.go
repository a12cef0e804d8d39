// Package admin is what operators do to a bus as a whole: move it from one store to another, back it
// up, look whether it is well, and change on how many servers it is kept.
package admin

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// Access is how to get at a store in NATS servers.
type Access struct {
	Context string    // a NATS context
	Keys    *bus.Keys // the service's keys instead
	Timeout time.Duration
	Step    time.Duration // that one step at the store may take; 0: slow
	// Unchecked opens a store that lacks what was acknowledged too, for whoever looks at it or repairs it.
	Unchecked bool
}

// Dial connects to the servers of a store.
func (a Access) Dial(url string) (*nats.Conn, error) {
	servers, _, err := jetstream.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return bus.Operator(bus.DialOptions{Servers: servers, Context: a.Context, Keys: a.Keys, Timeout: a.Timeout})
}

// Links makes the service's connections to the servers of a store, for which Keys are needed.
func (a Access) Links(url string) (*bus.Links, error) {
	servers, _, err := jetstream.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return bus.External(bus.DialOptions{Servers: servers, Context: a.Context, Timeout: a.Timeout}, a.Keys)
}

// slow is how long a step may take unless Access says: whole logs are moved, by someone who waits.
const slow = 30 * time.Second

func (a *Access) step() time.Duration { return cmp.Or(a.Step, slow) }

// SameStore reports whether two URLs name the same store.
func SameStore(a, b string) bool {
	x, xfile := strings.CutPrefix(a, "sqlite:")
	y, yfile := strings.CutPrefix(b, "sqlite:")
	if xfile != yfile {
		return false
	}
	if xfile {
		return filepath.Clean(x) == filepath.Clean(y) || SameFile(x, y)
	}
	p, _, err := jetstream.ParseURL(a)
	q, _, qerr := jetstream.ParseURL(b)
	return err == nil && qerr == nil && strings.TrimSuffix(p, "/") == strings.TrimSuffix(q, "/")
}

// SameFile reports whether two paths are those of one file or folder that is there.
func SameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, yerr := os.Stat(b)
	return err == nil && yerr == nil && os.SameFile(x, y)
}

// Serving reports whether a service with a bus answers its operator.
func Serving(ctx context.Context, l *bus.Links) bool {
	services, err := bus.AskServices(ctx, l.Sys, askWait)
	return err == nil && len(services) > 0
}

// Open opens the store at sqlite:PATH or nats://HOST:PORT; with existing it has to be there
// (ErrNotFound). The function it returns closes it.
func Open(ctx context.Context, url string, a Access, existing bool) (store.Backend, func(), error) {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		s, err := sqlite.Open(ctx, path, sqlite.Options{OpTimeout: a.step(), Existing: existing, Unchecked: a.Unchecked})
		if err != nil {
			return nil, nil, err
		}
		return s, func() { _ = s.Close() }, nil // every write was answered with its own outcome
	}
	if !strings.HasPrefix(url, "nats://") && !strings.HasPrefix(url, "tls://") {
		return nil, nil, fmt.Errorf("store %s: %w: neither sqlite:PATH nor nats://host:4222", redact.URL(url), store.ErrInvalid)
	}
	_, replicas, err := jetstream.ParseURL(url)
	if err != nil {
		return nil, nil, err
	}
	nc, err := a.Dial(url)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.step())
	defer cancel()
	s, err := jetstream.Open(ctx, nc, jetstream.Options{OpTimeout: a.step(), Replicas: replicas, Existing: existing})
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return s, func() { _ = s.Close(); nc.Close() }, nil
}
