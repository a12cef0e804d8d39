package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/internal/service"
)

// This file measures logins: a server with static keys, and the service on each kind of store.

// auth measures logins, eight at a time.
func auth(ctx context.Context, dir string) error {
	t := newTable("who answers logins", "logins", "logins/s", "a login, alone")
	for _, kind := range []struct {
		name  string
		start func(ctx context.Context, dir string) (dial func() (func(), error), stop func(), err error)
	}{
		{"the server: static nkeys", static},
		{"unibus, SQLite", func(ctx context.Context, dir string) (func() (func(), error), func(), error) {
			return callout(ctx, dir, 1, "")
		}},
		{"unibus, JetStream, one server", func(ctx context.Context, dir string) (func() (func(), error), func(), error) {
			return callout(ctx, dir, 1, service.JetStream)
		}},
		{"unibus, JetStream, three servers", func(ctx context.Context, dir string) (func() (func(), error), func(), error) {
			return callout(ctx, dir, 3, service.JetStream)
		}},
	} {
		dial, stop, err := kind.start(ctx, filepath.Join(dir, kind.name))
		if err != nil {
			return err
		}
		each, rate, err := measure(dial)
		stop()
		if err != nil {
			return err
		}
		t.AppendRow(table.Row{kind.name, *connects, fmt.Sprintf("%.0f", rate), each.Round(10 * time.Microsecond)})
	}
	t.Render()
	return nil
}

// measure is how long a login takes while there is no other, and how many there are a second, eight at a time.
func measure(dial func() (func(), error)) (each time.Duration, rate float64, err error) {
	one := func() error {
		end, err := dial()
		if err == nil {
			end()
		}
		return err
	}
	const alone = 100
	began := time.Now()
	for range alone {
		if err := one(); err != nil {
			return 0, 0, err
		}
	}
	each = time.Since(began) / alone
	var wait sync.WaitGroup
	var failed atomic.Value
	began = time.Now()
	for range 8 {
		wait.Go(func() {
			for range *connects / 8 {
				if err := one(); err != nil {
					failed.Store(err)
				}
			}
		})
	}
	wait.Wait()
	rate = float64(*connects) / time.Since(began).Seconds()
	err, _ = failed.Load().(error)
	return each, rate, err
}

// static is a server that knows one key itself.
func static(context.Context, string) (func() (func(), error), func(), error) {
	user, err := nkeys.CreateUser()
	if err != nil {
		return nil, nil, err
	}
	name, err := user.PublicKey()
	if err != nil {
		return nil, nil, err
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, Nkeys: []*server.NkeyUser{{Nkey: name}}})
	if err != nil {
		return nil, nil, err
	}
	s.Start()
	s.ReadyForConnections(10 * time.Second)
	dial := func() (func(), error) {
		nc, err := nats.Connect(s.ClientURL(), nats.Nkey(name, user.Sign))
		return func() { nc.Close() }, err
	}
	return dial, s.Shutdown, nil
}

// callout is n servers whose service answers logins.
func callout(ctx context.Context, dir string, n int, kind string) (func() (func(), error), func(), error) {
	nodes, id, err := start(ctx, dir, n, kind)
	if err != nil {
		return nil, nil, err
	}
	var next atomic.Int64
	dial := func() (func(), error) {
		node := nodes[int(next.Add(1))%len(nodes)]
		c, err := bus.Dial(bus.DialOptions{Servers: node.URL(), Identity: id, Bus: node.Bus, Timeout: 10 * time.Second})
		if err != nil {
			return nil, err
		}
		return c.Close, nil
	}
	return dial, func() { stopAll(nodes) }, nil
}

// stopAll stops the servers of a bus.
func stopAll(nodes []*service.Node) {
	for _, n := range nodes {
		n.Stop()
	}
}

// start starts n servers that are one bus.
func start(ctx context.Context, dir string, n int, kind string) ([]*service.Node, *crypto.Identity, error) {
	id, err := identity(0)
	if err != nil {
		return nil, nil, err
	}
	var routes []string
	for range n {
		routes = append(routes, freeport.Local())
	}
	nodes := make([]*service.Node, n)
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		o := service.NodeOptions{
			Listen: "127.0.0.1:0", Dir: filepath.Join(dir, fmt.Sprint(i)), Store: kind, Keys: filepath.Join(dir, "service.nk"),
			Identity: id, Founder: "bench", Log: slog.New(slog.DiscardHandler),
		}
		if n > 1 {
			o.Cluster = bus.Cluster{Name: "bench", Listen: routes[i], Routes: routes}
		}
		wait.Go(func() { nodes[i], errs[i] = service.StartNode(ctx, o) })
	}
	wait.Wait()
	return nodes, id, errors.Join(errs...)
}
