package main

import (
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/crypto"
)

// This file is the process that floods: one user does one kind of it. The kinds stand in asks.go, dials.go, logins.go
// and web.go, by what they flood.

// flooder is one user without manners.
type flooder struct {
	id  *unibus.Identity
	bus crypto.ID
}

// flood does one kind of it for a while, and says what came of it.
func flood(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	id, err := unibus.LoadIdentity(*identity)
	if err != nil {
		return err
	}
	f := flooder{id: id}
	if f.bus, err = crypto.ParseID(*busID); err != nil {
		return err
	}
	do := f.floods()[*act]
	if do == nil {
		return fmt.Errorf("there is no flood %q", *act)
	}
	said, err := do(ctx)
	log.Printf("%s: %s, %v", *act, said, err)
	return nil
}

// floods are all kinds, by their names. Each goes on until its context ends, and says what came of it.
func (f flooder) floods() map[string]func(context.Context) (string, error) {
	ask, dial, forge, call := asker{f}, dialer{f}, forger{f}, webCaller{f}
	return map[string]func(context.Context) (string, error){
		"hello":         dial.hello,
		"bus":           func(ctx context.Context) (string, error) { return ask.requests(ctx, "GET", "/bus", nil, hears) },
		"users":         func(ctx context.Context) (string, error) { return ask.requests(ctx, "GET", "/users", nil, hears) },
		"deaf":          func(ctx context.Context) (string, error) { return ask.requests(ctx, "GET", "/users", nil, deaf) },
		"big":           func(ctx context.Context) (string, error) { return ask.requests(ctx, "POST", "/logs", big(), hears) },
		"steady":        ask.steady,
		"spin":          spin,
		"tokens":        ask.tokens,
		"garbage":       ask.garbage,
		"unread":        ask.unread,
		"web":           call.madeUpCalls,
		"slow":          call.slow,
		"forged":        forge.forged,
		"madeup":        forge.madeUp,
		"logins":        func(ctx context.Context) (string, error) { return dial.logins(ctx, f.bus) },
		"door":          func(ctx context.Context) (string, error) { return dial.logins(ctx, crypto.ID{}) },
		"connections":   dial.connections,
		"subscriptions": dial.subscriptions,
		"staged":        ask.staged,
		"rekeys":        ask.rekeys,
		"rooms":         ask.rooms,
	}
}

// dial logs in once. A connection that the servers drop stays dropped: what comes after is the flood's business.
func (f flooder) dial(of crypto.ID) (*attack.Peer, error) {
	return attack.Dial(attack.Options{URL: *server, Identity: f.id, Bus: of, Nats: []nats.Option{nats.NoReconnect()}})
}

// again does f, dialing anew whenever the connection is gone, until ctx ends.
func (f flooder) again(ctx context.Context, of crypto.ID, do func(p *attack.Peer) error) (dialed int) {
	for ctx.Err() == nil {
		p, err := f.dial(of)
		if err != nil {
			continue
		}
		dialed++
		for ctx.Err() == nil && do(p) == nil {
		}
		p.Close()
	}
	return dialed
}

// spin asks nothing, and keeps two processors busy: what the flooder's own work on this machine does to
// others, as a measure for the rest.
func spin(ctx context.Context) (string, error) {
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for ctx.Err() == nil {
			}
		})
	}
	all.Wait()
	return "the flooder's process alone, without a connection", nil
}
