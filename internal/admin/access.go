// Package admin is what operators do to a bus as a whole: move it from one store to another, back it
// up, look whether it is well, and change on how many servers it is kept.
package admin

import (
	"cmp"
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
)

// Access is how to get at a store in NATS servers.
type Access struct {
	Context string    // a NATS context
	Keys    *bus.Keys // the service's keys instead
	Timeout time.Duration
	Step    time.Duration // that one step at the store may take; 0: open.Slow
	// Unchecked opens a store that lacks what was acknowledged too, for whoever looks at it or repairs it.
	Unchecked bool
}

// Dial connects to the servers of a store.
func (a Access) Dial(url string) (*nats.Conn, error) {
	u, err := open.ParseServers(url)
	if err != nil {
		return nil, err
	}
	return bus.Operator(bus.DialOptions{Servers: u.Servers, Context: a.Context, Keys: a.Keys, Timeout: a.Timeout})
}

// Links makes the service's connections to the servers of a store, for which Keys are needed.
func (a Access) Links(url string) (*bus.Links, error) {
	u, err := open.ParseServers(url)
	if err != nil {
		return nil, err
	}
	return bus.External(bus.DialOptions{Servers: u.Servers, Context: a.Context, Timeout: a.Timeout}, a.Keys)
}

// step is how long one step may take.
func (a *Access) step() time.Duration { return cmp.Or(a.Step, open.Slow) }

// Serving reports whether a service with a bus answers its operator.
func Serving(ctx context.Context, l *bus.Links) bool {
	services, err := bus.AskServices(ctx, l.Sys, askWait)
	return err == nil && len(services) > 0
}

// Open opens the store at a URL as an operator. The function it returns closes it, and the connection to its servers.
func Open(ctx context.Context, url string, a Access, missing open.Missing) (store.Backend, func(), error) {
	u, err := open.Parse(url)
	if err != nil {
		return nil, nil, err
	}
	var nc *nats.Conn
	if u.Path == "" {
		if nc, err = a.Dial(url); err != nil {
			return nil, nil, err
		}
	}
	end := func() {
		if nc != nil {
			nc.Close()
		}
	}
	s, err := open.Open(ctx, u, nc, open.Options{For: open.Operator, Step: a.Step, Missing: missing, Unchecked: a.Unchecked})
	if err != nil {
		end()
		return nil, nil, err
	}
	return s, func() { _ = s.Close(); end() }, nil // every write was answered with its own outcome
}
