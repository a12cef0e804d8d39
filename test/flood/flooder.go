package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

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
	f := &flooder{id: id}
	if f.bus, err = crypto.ParseID(*busID); err != nil {
		return err
	}
	do := map[string]func(context.Context) (string, error){
		"hello":         f.hello,
		"bus":           func(ctx context.Context) (string, error) { return f.requests(ctx, "GET", "/bus", nil, hears) },
		"users":         func(ctx context.Context) (string, error) { return f.requests(ctx, "GET", "/users", nil, hears) },
		"deaf":          func(ctx context.Context) (string, error) { return f.requests(ctx, "GET", "/users", nil, deaf) },
		"big":           func(ctx context.Context) (string, error) { return f.requests(ctx, "POST", "/logs", big(), hears) },
		"steady":        f.steady,
		"spin":          spin,
		"tokens":        f.tokens,
		"garbage":       f.garbage,
		"unread":        f.unread,
		"web":           f.madeUpCalls,
		"slow":          f.slow,
		"forged":        f.forged,
		"madeup":        f.madeUp,
		"logins":        func(ctx context.Context) (string, error) { return f.logins(ctx, f.bus) },
		"door":          func(ctx context.Context) (string, error) { return f.logins(ctx, crypto.ID{}) },
		"connections":   f.connections,
		"subscriptions": f.subscriptions,
		"staged":        f.staged,
		"rekeys":        f.rekeys,
		"rooms":         f.rooms,
	}[*act]
	if do == nil {
		return fmt.Errorf("there is no flood %q", *act)
	}
	said, err := do(ctx)
	log.Printf("%s: %s, %v", *act, said, err)
	return nil
}

// big is a body of nearly a MiB, as it is the most that a server takes.
func big() []byte { return bytes.Repeat([]byte(" "), 1<<20-4096) }

func (f *flooder) dial(of crypto.ID) (*attack.Peer, error) {
	return attack.Dial(attack.Options{URL: *server, Identity: f.id, Bus: of, Nats: []nats.Option{nats.NoReconnect()}})
}

// again does f, dialing anew whenever the connection is gone, until ctx ends.
func (f *flooder) again(ctx context.Context, of crypto.ID, do func(p *attack.Peer) error) (dialed int) {
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

// hello says hello in a loop.
func (f *flooder) hello(ctx context.Context) (string, error) {
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

// ears say whether a flooder reads what it is answered.
type ears int

const (
	hears ears = iota
	deaf
)

// requests asks the API without waiting for answers.
func (f *flooder) requests(ctx context.Context, method, path string, body []byte, e ears) (string, error) {
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

// steady asks as much as it may: as many requests at once as one caller's are worked on, each answer read.
func (f *flooder) steady(ctx context.Context) (string, error) {
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
func (f *flooder) tokens(ctx context.Context) (string, error) {
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
func (f *flooder) garbage(ctx context.Context) (string, error) {
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
func (f *flooder) unread(ctx context.Context) (string, error) {
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
func (f *flooder) askDeaf(ctx context.Context, path string, n *atomic.Int64) error {
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

// logins connects and leaves in a loop, eight at a time.
func (f *flooder) logins(ctx context.Context, of crypto.ID) (string, error) {
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
func (f *flooder) connections(ctx context.Context) (string, error) {
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
func (f *flooder) subscriptions(ctx context.Context) (string, error) {
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

// staged puts keys of rooms that never come.
func (f *flooder) staged(ctx context.Context) (string, error) {
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
func (f *flooder) rooms(ctx context.Context) (string, error) {
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
