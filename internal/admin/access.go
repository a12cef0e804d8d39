// Package admin is what operators do to a bus as a whole: move it from one store to another, back it
// up, look whether it is well, and change on how many servers it is kept.
//
// What it copies is whole in the end or said not to be: whoever is interrupted may begin again, nothing that was there is
// written over, and at the end both sides are held against each other. What it reads from an archive, or from a store that
// may be damaged, is verified by the rules of the logs (package ledger) before anything is made of it.
//
// It leaves to others: who may do any of this, for whoever reaches a store may; what to say to people, for it tells facts
// (package remedy) of which the command line makes commands; and the messages of rooms, which stay in their streams.
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

// This file opens stores and makes connections as an operator: with the service's own keys or a NATS context, past the
// service and all that it checks.

// Access is how to get at a store in NATS servers.
type Access struct {
	Context string    // a NATS context
	CA      string    // file of the authorities that may vouch for the servers
	Keys    *bus.Keys // the service's keys instead
	Timeout time.Duration
	Step    time.Duration // that one step at the store may take; 0: open.Slow
	// Unchecked opens a store that lacks what was acknowledged too, for whoever looks at it or repairs it.
	Unchecked bool
}

// Dial connects to the servers of a store. ErrInvalid for what is not their URL, ErrDenied when they do not let the
// operator in, ErrUnavailable when none answers within Timeout.
func (a Access) Dial(url string) (*nats.Conn, error) {
	u, err := open.ParseServers(url)
	if err != nil {
		return nil, err
	}
	return bus.Operator(bus.DialOptions{Servers: u.Servers, Context: a.Context, CA: a.CA, Keys: a.Keys, Timeout: a.Timeout})
}

// Links makes the service's connections to the servers of a store, for which Keys are needed; its errors are those of Dial.
func (a Access) Links(url string) (*bus.Links, error) {
	u, err := open.ParseServers(url)
	if err != nil {
		return nil, err
	}
	return bus.External(bus.DialOptions{Servers: u.Servers, Context: a.Context, CA: a.CA, Timeout: a.Timeout}, a.Keys)
}

// step is how long one step may take.
func (a *Access) step() time.Duration { return cmp.Or(a.Step, open.Slow) }

// Serving reports whether a service with a bus answers its operator.
func Serving(ctx context.Context, l *bus.Links) bool {
	services, err := bus.AskServices(ctx, l.Sys, askWait)
	return err == nil && len(services) > 0
}

// Open opens the store at a URL as an operator. The function it returns closes it, and the connection to its servers.
// ErrNotFound for a store that is not there, unless it is to be made; else as with Dial and the stores themselves.
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
