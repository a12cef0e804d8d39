package unibus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
)

// An identity may be in many buses. Each that it joined has a name, and one of them is in use: that is where Connect goes
// when the options name neither a server nor a bus. A name leads to a server; which bus is there is what was pinned for the
// server's address, so that a name is worth no more than what was verified. No bus is asked for anything here.

// KnownBus is a bus that an identity knows by a name.
type KnownBus struct {
	Name    string
	Server  string    // URLs of its servers, without passwords
	Bus     ID        // zero: which one is there was forgotten, and is learned when it is met again
	InUse   bool      // it is where Connect goes unless it is told otherwise
	Founder PublicKey // zero: nothing was verified of it yet
}

// Buses returns the buses that an identity knows by name, in their order; it needs Identity and StateDir alone, as do the
// functions below.
func Buses(ctx context.Context, o Options) ([]KnownBus, error) {
	known := []KnownBus{}
	err := o.withNames(ctx, func(p *pins.Pins) error {
		buses, err := p.Buses.All(ctx)
		for _, b := range buses {
			if err == nil {
				var k KnownBus
				k, err = knownBus(ctx, p, b)
				known = append(known, k)
			}
		}
		return err
	})
	return known, err
}

// BusNamed returns the bus that an identity knows by a name, or that has an id. ErrNotFound when it knows none as that.
func BusNamed(ctx context.Context, o Options, nameOrID string) (known KnownBus, err error) {
	err = o.withNames(ctx, func(p *pins.Pins) error {
		b, err := named(ctx, p, nameOrID)
		if err == nil {
			known, err = knownBus(ctx, p, b)
		}
		return err
	})
	return known, err
}

// UseBus makes a bus, given by name or id, the one in use. ErrNotFound when none is known as that.
func UseBus(ctx context.Context, o Options, nameOrID string) (KnownBus, error) {
	return o.changeNames(ctx, nameOrID, func(p *pins.Pins) (pins.Bus, error) { return p.Buses.Use(ctx, nameOrID) })
}

// RenameBus gives a bus, given by name or id, another name. ErrNotFound when none is known as that, ErrExists when another
// has the new name, and ErrInvalid for what can be no name: 1 to 64 letters, digits, dots, underscores and dashes, no dash
// first, and not what could be an id.
func RenameBus(ctx context.Context, o Options, nameOrID, to string) (KnownBus, error) {
	return o.changeNames(ctx, nameOrID, func(p *pins.Pins) (pins.Bus, error) { return p.Buses.Rename(ctx, nameOrID, to) })
}

// RemoveBus forgets a bus, given by name or id: its name, its server, and, as Forget does, which bus is at that address; sure
// is asked before that is done. What was verified of the bus is kept, so that it cannot be taken back if the bus is joined
// again. If it was in use, no bus is from then on. ErrNotFound when none is known as that.
func RemoveBus(ctx context.Context, o Options, nameOrID string, sure func(KnownBus) error) (KnownBus, error) {
	return o.changeNames(ctx, nameOrID, func(p *pins.Pins) (pins.Bus, error) {
		b, err := named(ctx, p, nameOrID)
		if err != nil {
			return b, err
		}
		known, err := knownBus(ctx, p, b)
		if err == nil {
			err = sure(known)
		}
		if err == nil {
			err = p.Buses.Remove(ctx, b)
		}
		if err == nil && !b.ID.IsZero() {
			err = p.Servers.Forget(ctx, b.Server)
		}
		return b, err
	})
}

// CheckBusName returns why a text cannot be the name of a bus, an ErrInvalid; nil when it can.
func CheckBusName(name string) error { return pins.CheckBusName(name) }

// withNames does something with what the identity remembers, if that is anything.
func (o *Options) withNames(ctx context.Context, do func(*pins.Pins) error) error {
	p, err := recalled(ctx, *o)
	if err != nil || p == nil {
		return err
	}
	return errors.Join(do(p), p.Close())
}

// changeNames changes what names mean, of a bus that has to be known.
func (o *Options) changeNames(ctx context.Context, nameOrID string, change func(*pins.Pins) (pins.Bus, error)) (KnownBus, error) {
	known, there := KnownBus{}, false
	err := o.withNames(ctx, func(p *pins.Pins) error {
		there = true
		b, err := change(p)
		if err == nil {
			known, err = knownBus(ctx, p, b)
		}
		return err
	})
	if err == nil && !there {
		err = pins.UnknownBus(nameOrID)
	}
	return known, explainName(err)
}

// named is the bus that is known by a name or id.
func named(ctx context.Context, p *pins.Pins, nameOrID string) (pins.Bus, error) {
	buses, err := p.Buses.All(ctx)
	if err != nil {
		return pins.Bus{}, err
	}
	b, ok := pins.FindBus(buses, nameOrID)
	if !ok {
		return pins.Bus{}, explainName(pins.UnknownBus(nameOrID))
	}
	return b, nil
}

// explainName says what helps with a name that no bus has, or another one.
func explainName(err error) error {
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists) {
		return remedy.With(err, remedy.Remedy{Kind: remedy.ListBuses})
	}
	return err
}

// knownBus is a bus with what was verified of it.
func knownBus(ctx context.Context, p *pins.Pins, b pins.Bus) (KnownBus, error) {
	known := KnownBus{Name: b.Name, Server: b.Server, Bus: b.ID, InUse: b.InUse}
	if b.ID.IsZero() {
		return known, nil
	}
	s, err := p.Logs.State(ctx, b.ID)
	if err != nil || s.Bus == nil {
		return known, err
	}
	e, err := new(ledger.State).Check(s.Bus.Founded)
	if err != nil {
		return known, fmt.Errorf("bus %s: %w: %w", b.ID, ErrStateDamaged, err)
	}
	known.Founder = e.By
	return known, nil
}

// choose settles which server the options lead to, and the id of the bus that has to be there, from what is remembered: a
// nil p remembers nothing. Who names a server goes there, and Bus says only which bus is meant.
// It reports whether nobody has said where to go, and no bus is in use.
func (o *Options) choose(ctx context.Context, p *pins.Pins) (anywhere bool, err error) {
	there := o.Server != "" || o.Context != "" || o.Store != ""
	if there && o.Bus == "" {
		return false, nil
	}
	if o.Bus == "" {
		return o.chooseInUse(ctx, p)
	}
	return false, o.chooseNamed(ctx, p, there)
}

// chooseNamed is choose for options that name a bus; there says that they name a server, too.
func (o *Options) chooseNamed(ctx context.Context, p *pins.Pins, there bool) error {
	buses, err := knownTo(ctx, p)
	if err != nil {
		return err
	}
	bus, known := pins.FindBus(buses, o.Bus)
	id, err := crypto.ParseID(o.Bus)
	named := err != nil
	if named {
		id = bus.ID
	}
	switch {
	case named && CheckBusName(o.Bus) != nil:
		return fmt.Errorf("bus %q: %w: neither an id nor a name", o.Bus, ErrInvalid)
	case !known && (named || !there && len(buses) > 0):
		return explainName(pins.UnknownBus(o.Bus))
	case there && id.IsZero():
		return fmt.Errorf("bus %s: %w: which one it is was forgotten with its address", o.Bus, ErrNotFound)
	case !there && known:
		o.Server = bus.Server
	case !there:
		o.Server = DefaultServer
	}
	if o.Bus = id.String(); id.IsZero() {
		o.Bus = "" // whichever is there
	}
	return nil
}

// knownTo are the buses that are known by name; none without what is remembered.
func knownTo(ctx context.Context, p *pins.Pins) ([]pins.Bus, error) {
	if p == nil {
		return nil, nil
	}
	return p.Buses.All(ctx)
}

// chooseInUse is choose for options that name no bus. Nearly every command comes this way: which other buses there are matters
// only when none is in use.
func (o *Options) chooseInUse(ctx context.Context, p *pins.Pins) (anywhere bool, err error) {
	if p != nil {
		o.Server, err = p.Buses.InUse(ctx)
	}
	if err != nil || o.Server != "" {
		return false, err
	}
	buses, err := knownTo(ctx, p)
	if err != nil {
		return false, err
	}
	if len(buses) > 0 {
		return false, remedy.With(fmt.Errorf("bus in use: %w: none is, of %s", ErrNotFound, nameList(buses)), remedy.Remedy{Kind: remedy.ChooseBus})
	}
	o.Server = DefaultServer
	return true, nil
}

// nameList are the names of buses, as a sentence has them.
func nameList(buses []pins.Bus) string {
	names := make([]string, len(buses))
	for i, b := range buses {
		names[i] = b.Name
	}
	return strings.Join(names, ", ")
}
