package unibus

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/servers"
)

// This file is how an identity comes to know a bus by a name: it joins it, or runs it.

// Remember has later connections of an identity know a bus by a name, and go to its server if they know no other bus, as
// Join does, without asking it: whoever runs the server knows which bus it is. Nobody is asked, so that it needs Identity
// and StateDir alone. ErrIntegrity when another bus was met at the server before.
func Remember(ctx context.Context, o Options, server string, id ID) error {
	p, err := pins.Open(ctx, o.StateFile())
	if err != nil {
		return err
	}
	defer p.Close()
	o.Server = server
	address, err := o.address()
	if err != nil {
		return err
	}
	switch before, err := busAt(ctx, p, address); {
	case err != nil:
		return err
	case !before.IsZero() && before != id:
		return otherBus(address, before, id)
	}
	if err := p.Servers.Pin(ctx, address, id); err != nil {
		return err
	}
	_, err = p.Buses.Join(ctx, address, "", pins.Local, pins.UseIfAlone)
	return err
}

// Join is JoinAs with the name that the bus has, or with one that is made of its server's host.
func Join(ctx context.Context, url string, o Options) (*Client, error) {
	return JoinAs(ctx, url, "", o)
}

// JoinAs remembers a server, given as nats://host:4222#BUSID or without the id, under a name for this identity's
// later connections, after checking which bus it is, and has it be the one in use; then it connects, as Connect does, and
// publishes the card, also where that was done before: a bus that lost it gets it back so. A bus that is known already is
// known at this server from then on, by this name. ErrExists when another bus has the name.
//
// A bus that refuses the identity is remembered, too; but one that is in use is not given up for it.
func JoinAs(ctx context.Context, url, name string, o Options) (*Client, error) {
	server, id, _ := strings.Cut(url, "#")
	server, err := servers.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("join %s: %w: %w", redact.URL(url), ErrInvalid, err)
	}
	if id != "" {
		parsed, err := crypto.ParseID(id)
		if err == nil && parsed.IsZero() {
			err = errors.New("none has that")
		}
		if err != nil {
			return nil, fmt.Errorf("join %s: %w: what follows # is not the id of a bus: %w", redact.URL(url), ErrInvalid, err)
		}
	}
	o.Server, o.Context, o.Store = server, "", ""
	if id != "" {
		o.Bus = id
	}
	if err := o.checkJoin(ctx, name); err != nil {
		return nil, err
	}
	c, err := Connect(ctx, o)
	if err == nil {
		err = c.link.publishCard(ctx, c.Bus())
	}
	choice := pins.UseIt
	if errors.Is(err, ErrDenied) && c == nil {
		choice = pins.UseIfAlone
	} else if err != nil {
		return nil, errors.Join(err, closeIfOpen(c))
	}
	// Refused or not, this is a bus to come back to.
	if nerr := o.nameJoined(ctx, name, choice); nerr != nil {
		return nil, errors.Join(err, nerr, closeIfOpen(c))
	}
	return c, err
}

// closeIfOpen closes a client, if there is one.
func closeIfOpen(c *Client) error {
	if c == nil {
		return nil
	}
	return c.Close()
}

// checkJoin refuses a name before anyone is asked for anything, as far as it is known which bus is meant.
func (o *Options) checkJoin(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	if err := CheckBusName(name); err != nil {
		return err
	}
	id, err := crypto.ParseID(o.Bus)
	if err != nil {
		return nil // it is known when the bus has said which one it is
	}
	return o.withNames(ctx, func(p *pins.Pins) error {
		return explainName(p.Buses.Free(ctx, name, redact.URL(o.Server), id))
	})
}

// nameJoined remembers a bus that was joined, and tells what it is known as.
func (o *Options) nameJoined(ctx context.Context, name string, choice pins.Choice) error {
	p, err := pins.Open(ctx, o.StateFile())
	if err != nil {
		return err
	}
	b, err := p.Buses.Join(ctx, redact.URL(o.Server), name, "", choice)
	if err = errors.Join(explainName(err), p.Close()); err != nil {
		return err
	}
	if b.InUse {
		o.tell("the bus %s is known as %s, and is the one in use", b.ID, b.Name)
	} else {
		o.tell("the bus %s is known as %s; it is not the one in use", b.ID, b.Name)
	}
	return nil
}
