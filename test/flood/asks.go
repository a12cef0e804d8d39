package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// This file asks the API over NATS, and makes rooms and keys by it.

// asker floods the API over NATS.
type asker struct{ flooder }

// ears say whether a flooder reads what it is answered.
type ears int

const (
	hears ears = iota
	deaf
)

// big is a body of nearly a MiB, as it is the most that a server takes.
func big() []byte { return bytes.Repeat([]byte(" "), 1<<20-4096) }

// requests asks the API without waiting for answers.
func (f asker) requests(ctx context.Context, method, path string, body []byte, e ears) (string, error) {
	var n, answers atomic.Int64
	var peer *attack.Peer
	var m *nats.Msg
	dialed := f.again(ctx, f.bus, func(p *attack.Peer) error {
		if p != peer {
			var err error
			if m, err = p.Request(method, path, body); err != nil {
				return err
			}
			m.Reply, peer = bus.InboxPrefix(p.Inbox)+".x", p
			listen := func(*nats.Msg) { answers.Add(1) }
			if e == deaf {
				listen = func(*nats.Msg) { <-ctx.Done() }
			}
			if _, err := p.Subscribe(m.Reply, listen); err != nil {
				return err
			}
		}
		n.Add(1)
		return p.PublishMsg(m)
	})
	return fmt.Sprintf("%d requests over %d connections, %d answers read", n.Load(), dialed, answers.Load()), nil
}

// steady asks as much as it may: as many requests at once as one caller's are worked on, each answer read.
func (f asker) steady(ctx context.Context) (string, error) {
	p, err := f.dial(f.bus)
	if err != nil {
		return "", err
	}
	defer p.Close()
	var answered atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, status, err := p.Call(ctx, "GET", "/users", nil); err == nil && attack.OK(status) {
					answered.Add(1)
				}
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("%d answers", answered.Load()), nil
}

// tokens asks in the name of identities that it makes up.
func (f asker) tokens(ctx context.Context) (string, error) {
	p, err := f.dial(f.bus)
	if err != nil {
		return "", err
	}
	defer p.Close()
	var made []*nats.Msg
	for range 10000 {
		if ctx.Err() != nil {
			break
		}
		id, err := unibus.NewIdentity()
		if err != nil {
			return "", err
		}
		stranger := &attack.Peer{Conn: p.Conn, ID: id, Bus: f.bus, Inbox: p.Inbox}
		m, err := stranger.Request("GET", "/users", nil)
		if err != nil {
			return "", err
		}
		m.Reply = bus.InboxPrefix(p.Inbox) + ".x"
		made = append(made, m)
	}
	n := 0
	for ; ctx.Err() == nil && p.PublishMsg(made[n%len(made)]) == nil; n++ {
	}
	return fmt.Sprintf("%d requests with %d made-up identities", n, len(made)), nil
}

// garbage sends requests with tokens that are none.
func (f asker) garbage(ctx context.Context) (string, error) {
	n := 0
	dialed := f.again(ctx, f.bus, func(p *attack.Peer) error {
		n++
		return p.PublishMsg(&nats.Msg{
			Subject: bus.APISubject(p.Inbox), Reply: bus.InboxPrefix(p.Inbox) + ".x",
			Header: nats.Header{"Method": {"GET"}, "Path": {"/bus"}, "Authorization": {fmt.Sprint("Bearer ", n)}},
		})
	})
	return fmt.Sprintf("%d requests over %d connections", n, dialed), nil
}

// unread asks for the past of a room over twenty connections, and reads none of it.
func (f asker) unread(ctx context.Context) (string, error) {
	c, err := unibus.Connect(ctx, unibus.Options{Identity: f.id, StateDir: *identity + ".state", Server: *server})
	if err != nil {
		return "", err
	}
	defer c.Close()
	room, err := c.CreateRoom(ctx, "flood."+f.id.Key().String()[:10], unibus.DefaultPolicy())
	if err != nil {
		return "", err
	}
	for range 8 {
		body := make([]byte, 800<<10)
		_, _ = rand.Read(body) // it never fails
		if err := room.PublishOnce(ctx, body); err != nil {
			return "", err
		}
	}
	var all sync.WaitGroup
	var n atomic.Int64
	for range 20 {
		all.Go(func() {
			for ctx.Err() == nil {
				if f.askDeaf(ctx, "/rooms/"+room.ID().String()+"/frames?after=0", &n) != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("%d requests", n.Load()), nil
}

// askDeaf asks over a connection that reads nothing, until that is closed.
func (f asker) askDeaf(ctx context.Context, path string, n *atomic.Int64) error {
	var deaf attack.Deaf
	closed := make(chan struct{})
	p, err := attack.Dial(attack.Options{URL: *server, Identity: f.id, Bus: f.bus, Nats: []nats.Option{
		nats.SetCustomDialer(&deaf), nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
	}})
	if err != nil {
		return nil // as many connections as there may be
	}
	m, err := p.Request("GET", path, nil)
	if err != nil {
		return err
	}
	m.Reply = bus.InboxPrefix(p.Inbox) + ".x"
	if _, err := p.SubscribeSync(m.Reply); err != nil {
		return err
	}
	if err := p.Flush(); err != nil {
		return err
	}
	deaf.Lock()
	for ctx.Err() == nil && p.PublishMsg(m) == nil {
		n.Add(1)
	}
	deaf.Unlock()
	p.Close()
	<-closed
	return nil
}

// staged puts keys of rooms that never come.
func (f asker) staged(ctx context.Context) (string, error) {
	p, err := f.dial(f.bus)
	if err != nil {
		return "", err
	}
	defer p.Close()
	count := map[int]int{}
	for ctx.Err() == nil {
		var room crypto.ID
		_, _ = rand.Read(room[:]) // it never fails
		body, err := json.Marshal(map[string]any{"epoch": 1, "commit": crypto.Hash{1}, "keys": []any{
			map[string]any{"endpoint": f.id.Key(), "sealed": make([]byte, crypto.SealedSize)},
		}})
		if err != nil {
			return "", err
		}
		_, status, err := p.Call(ctx, "PUT", "/rooms/"+room.String()+"/keys", body)
		if err == nil {
			count[status]++
		}
	}
	return fmt.Sprintf("answers by status: %v", count), nil
}

// rooms makes rooms, 32 at a time.
func (f asker) rooms(ctx context.Context) (string, error) {
	c, err := unibus.Connect(ctx, unibus.Options{Identity: f.id, StateDir: *identity + ".state", Server: *server})
	if err != nil {
		return "", err
	}
	defer c.Close()
	var made, refused atomic.Int64
	var last atomic.Value
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, err := c.CreateRoom(ctx, fmt.Sprintf("flood.%s.%d.%d", f.id.Key().String()[:10], i, n), unibus.DefaultPolicy())
				if err == nil {
					made.Add(1)
				} else if ctx.Err() == nil {
					refused.Add(1)
					last.Store(err.Error())
				}
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("%d rooms, %d refused: %v", made.Load(), refused.Load(), last.Load()), nil
}

// rekeys stages copies of ever new keys of a room that is there, and never begins an epoch with one.
func (f asker) rekeys(ctx context.Context) (string, error) {
	c, err := unibus.Connect(ctx, unibus.Options{Identity: f.id, StateDir: *identity + ".state", Server: *server})
	if err != nil {
		return "", err
	}
	defer c.Close()
	room, err := c.CreateRoom(ctx, "rekeys."+f.id.Key().String()[:10], unibus.DefaultPolicy())
	if err != nil {
		return "", err
	}
	p, err := f.dial(f.bus)
	if err != nil {
		return "", err
	}
	defer p.Close()
	var mu sync.Mutex
	count := map[int]int{}
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				keys := []any{map[string]any{"endpoint": f.id.Key(), "sealed": make([]byte, crypto.SealedSize)}}
				body, err := json.Marshal(map[string]any{"epoch": 2, "commit": crypto.Hash{byte(i), byte(n), byte(n >> 8), byte(n >> 16)}, "keys": keys})
				if err != nil {
					return
				}
				if _, status, err := p.Call(ctx, "PUT", "/rooms/"+room.ID().String()+"/keys", body); err == nil {
					mu.Lock()
					count[status]++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("answers by status: %v", count), nil
}
