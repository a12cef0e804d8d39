package unibus

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/redact"
)

// Known is what the state directory says, without anyone being asked.
type Known struct {
	Server string // where Connect goes when the options name no server: that of the bus they name, or of the one in use, or DefaultServer
	Bus    ID     // the bus that was met where the options lead; zero: none yet
	Only   ID     // the only bus that was met anywhere; zero: none, or several
}

// Recall returns what is known of where the options lead. ErrNotFound when they name a bus that is not known, or when they
// lead nowhere, since several are known and none of them is in use.
func Recall(ctx context.Context, o Options) (Known, error) {
	known := Known{Server: DefaultServer}
	p, err := recalled(ctx, o)
	if err != nil {
		return known, err
	}
	if p != nil {
		defer p.Close()
	}
	unnamed := Options{Bus: o.Bus}
	if _, err = o.choose(ctx, p); err != nil {
		return known, err
	}
	if _, err := unnamed.choose(ctx, p); err == nil {
		known.Server = unnamed.Server
	}
	if p == nil {
		return known, nil
	}
	address, err := o.address()
	if err == nil {
		known.Bus, err = busAt(ctx, p, address)
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
		if id, err = busAt(ctx, p, address); err != nil {
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
