package unibus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/redact"
)

// Known is what the state directory says, without anyone being asked.
type Known struct {
	Server string // where Connect goes when the options name no server: the one joined, or DefaultServer
	Bus    ID     // the bus that was met where the options lead; zero: none yet
	Only   ID     // the only bus that was met anywhere; zero: none, or several
}

// Recall returns what is known of where the options lead.
func Recall(ctx context.Context, o Options) (Known, error) {
	known := Known{Server: DefaultServer}
	p, err := recalled(ctx, o)
	if err != nil || p == nil {
		return known, err
	}
	defer p.Close()
	if known.Server, err = joined(ctx, p); err != nil {
		return known, err
	}
	if o.Server == "" {
		o.Server = known.Server
	}
	address, err := o.address()
	if err == nil {
		known.Bus, err = p.Servers.Bus(ctx, address)
	}
	if err != nil {
		return known, err
	}
	met, err := p.Servers.Buses(ctx)
	if err == nil && len(met) == 1 {
		known.Only = met[0]
	}
	return known, err
}

// RecallLog returns the hashes of a log's entries, as far as the identity has verified it, without anyone being asked.
func RecallLog(ctx context.Context, o Options, log ID) (hash func(seq uint64) (h [32]byte, ok bool), err error) {
	nothing := func(uint64) (h [32]byte, ok bool) { return h, false }
	p, err := recalled(ctx, o)
	if err != nil || p == nil {
		return nothing, err
	}
	defer p.Close()
	s, err := p.Logs.State(ctx, log)
	if err != nil {
		return nothing, err
	}
	return func(seq uint64) ([32]byte, bool) {
		h, ok := s.HashAt(seq)
		return h, ok
	}, nil
}

// recalled opens what the identity has verified; nil if that is nothing: recalling makes no file.
func recalled(ctx context.Context, o Options) (*pins.Pins, error) {
	if _, err := os.Stat(o.StateFile()); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return pins.Open(ctx, o.StateFile())
}

// Forget gives up which bus is behind an address, as errors name it, so that whichever is there next is pinned; sure is asked
// before that is done. ErrNotFound when none is known there. What was verified of the bus itself is kept.
func Forget(ctx context.Context, o Options, address string, sure func(ID) error) (ID, error) {
	p, err := recalled(ctx, o)
	if err != nil {
		return ID{}, err
	}
	id := ID{}
	if p != nil {
		defer p.Close()
		if id, err = p.Servers.Bus(ctx, address); err != nil {
			return ID{}, err
		}
	}
	if id.IsZero() {
		return ID{}, fmt.Errorf("%s: %w: no bus was met there", redact.URL(address), ErrNotFound)
	}
	if err := sure(id); err != nil {
		return ID{}, err
	}
	return id, p.Servers.Forget(ctx, address)
}

const joinedServer = "joined server"

// joined is the server to go to when none is named.
func joined(ctx context.Context, p *pins.Pins) (string, error) {
	server, err := p.Settings.Get(ctx, joinedServer)
	return cmp.Or(server, DefaultServer), err
}

// Remember has later connections of an identity go to a server, as Join does, without asking it: whoever runs the server
// knows which bus it is. It remembers nothing for an identity that has joined another bus. Nobody is asked, so that it
// needs Identity and StateDir alone.
func Remember(ctx context.Context, o Options, server string, id ID) error {
	p, err := pins.Open(ctx, o.StateFile())
	if err != nil {
		return err
	}
	defer p.Close()
	before, err := p.Settings.Get(ctx, joinedServer)
	if err != nil {
		return err
	}
	if before != "" {
		o.Server = before
		address, err := o.address()
		if err != nil {
			return err
		}
		switch there, err := p.Servers.Bus(ctx, address); {
		case err != nil:
			return err
		case there != id:
			return nil
		}
	}
	o.Server = server
	address, err := o.address()
	if err != nil {
		return err
	}
	if err := p.Servers.Pin(ctx, address, id); err != nil {
		return err
	}
	return p.Settings.Set(ctx, joinedServer, redact.URL(server))
}

// Join remembers a server, given as nats://host:4222#BUSID or without the id, for this identity's
// later connections, after checking which bus it is; then it connects, as Connect does, and publishes the card, also
// where that was done before: a bus that lost it gets it back so.
func Join(ctx context.Context, url string, o Options) (*Client, error) {
	server, id, _ := strings.Cut(url, "#")
	if err := bus.CheckServers(server); err != nil {
		return nil, fmt.Errorf("join %s: %w", redact.URL(url), err)
	}
	if id != "" {
		if _, err := crypto.ParseID(id); err != nil {
			return nil, fmt.Errorf("join %s: %w: what follows # is not the id of a bus: %w", redact.URL(url), ErrInvalid, err)
		}
	}
	o.Server, o.Context, o.Store = server, "", ""
	if id != "" {
		o.Bus = id
	}
	c, err := Connect(ctx, o)
	if err == nil {
		if err = c.link.publishCard(ctx, c.Bus()); err != nil {
			_ = c.Close() // the card is what failed
			return nil, err
		}
	}
	if err != nil && !errors.Is(err, ErrDenied) {
		return nil, err
	}
	// Refused or not, this is the bus to come back to; only one that let the identity in is not given up for one
	// that refuses it.
	p, perr := pins.Open(ctx, o.StateFile())
	if perr != nil {
		return c, errors.Join(err, perr)
	}
	if err != nil {
		known, serr := p.Settings.Get(ctx, joinedServer)
		if serr != nil || known != "" {
			return c, errors.Join(err, serr, p.Close())
		}
	}
	return c, errors.Join(err, p.Settings.Set(ctx, joinedServer, redact.URL(server)), p.Close())
}
