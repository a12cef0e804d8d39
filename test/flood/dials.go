package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// This file says hello, logs in, and holds what a connection may hold.

// dialer floods the servers, with connections and with what they hold.
type dialer struct{ flooder }

// hello says hello in a loop.
func (f dialer) hello(ctx context.Context) (string, error) {
	card, err := f.id.Card()
	if err != nil {
		return "", err
	}
	n := 0
	dialed := f.again(ctx, crypto.ID{}, func(p *attack.Peer) error {
		n++
		return p.PublishMsg(&nats.Msg{Subject: bus.HelloSubject(p.Inbox), Reply: bus.InboxPrefix(p.Inbox) + ".x", Data: card})
	})
	return fmt.Sprintf("%d hellos over %d connections", n, dialed), nil
}

// logins connects and leaves in a loop, eight at a time.
func (f dialer) logins(ctx context.Context, of crypto.ID) (string, error) {
	var in, out atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				p, err := f.dial(of)
				if err != nil {
					out.Add(1)
					continue
				}
				in.Add(1)
				p.Close()
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("%d logins, %d not let in", in.Load(), out.Load()), nil
}

// connections tries to hold 5,000 connections of one user.
func (f dialer) connections(ctx context.Context) (string, error) {
	var in, out atomic.Int64
	var mu sync.Mutex
	var held []*attack.Peer
	var all sync.WaitGroup
	slots := make(chan struct{}, 256)
	for range 5000 {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			defer func() { <-slots }()
			p, err := f.dial(f.bus)
			if err != nil {
				out.Add(1)
				return
			}
			in.Add(1)
			mu.Lock()
			held = append(held, p)
			mu.Unlock()
		})
	}
	<-ctx.Done()
	for _, p := range held {
		p.Close()
	}
	return fmt.Sprintf("%d connections, %d not let in", in.Load(), out.Load()), nil
}

// subscriptions makes as many as it can.
func (f dialer) subscriptions(ctx context.Context) (string, error) {
	var refused atomic.Int64
	p, err := attack.Dial(attack.Options{URL: *server, Identity: f.id, Bus: f.bus, Nats: []nats.Option{
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) { refused.Add(1) }),
	}})
	if err != nil {
		return "", err
	}
	defer p.Close()
	n := 0
	for ; ctx.Err() == nil && n < 300_000 && p.IsConnected(); n++ {
		if _, err := p.SubscribeSync(fmt.Sprintf("%s.%d", bus.InboxPrefix(p.Inbox), n)); err != nil {
			break
		}
	}
	_ = p.Flush()
	<-ctx.Done()
	return fmt.Sprintf("%d subscriptions asked for, %d refused, last error %v", n, refused.Load(), p.LastError()), nil
}
