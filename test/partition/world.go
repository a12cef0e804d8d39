//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/test/run"
)

// This file makes the bus and everyone on it: the servers on their hosts, then the people, each by way of one server.

// world is the servers and everyone on them.
type world struct {
	dir     string
	servers []*exec.Cmd
	root    *unibus.Identity // founded the bus
	bus     unibus.ID
	founder *unibus.Client
	admins  []*unibus.Client
	users   []*unibus.Identity
	writers []*unibus.Client

	observed
}

// up makes three hosts with two networks, one between the servers and one for clients, and a server on
// each.
func (w *world) up(ctx context.Context) error {
	clearHosts()
	for _, bridge := range []string{"ubr", "ubc"} {
		if err := errors.Join(sh("ip link add %s type bridge", bridge), sh("ip link set %s up", bridge)); err != nil {
			return err
		}
	}
	if err := sh("ip addr add 10.99.0.254/24 dev ubc"); err != nil {
		return err
	}
	var err error
	if w.root, err = unibus.NewIdentity(); err != nil {
		return err
	}
	identity := filepath.Join(w.dir, "root.nk")
	if err := unibus.SaveIdentity(identity, w.root, "root"); err != nil {
		return err
	}
	keys := filepath.Join(w.dir, "service.nk")
	if _, _, err := bus.LoadOrMakeKeys(keys); err != nil {
		return err
	}
	var waits []func() (string, error)
	for i := 1; i <= nodes; i++ {
		if err := host(i); err != nil {
			return err
		}
		var routes []string
		for j := 1; j <= nodes; j++ {
			if j != i {
				routes = append(routes, fmt.Sprintf("10.98.0.%d:6222", j))
			}
		}
		cmd := exec.CommandContext(ctx, "ip", "netns", "exec", fmt.Sprintf("ub%d", i), *binary, "serve", "-q",
			"--identity", identity, "--keys", keys, "--data", filepath.Join(w.dir, fmt.Sprint(i)), "--server-name", fmt.Sprintf("n%d", i),
			"--listen", fmt.Sprintf("10.99.0.%d:4222", i), "--cluster-name", "c", "--cluster-listen", fmt.Sprintf("10.98.0.%d:6222", i), "--routes", strings.Join(routes, ","))
		if *verbose {
			cmd.Stderr = os.Stderr
		}
		ready, err := run.Serve(cmd)
		if err != nil {
			return err
		}
		w.servers = append(w.servers, cmd)
		waits = append(waits, ready)
	}
	for i, ready := range waits { // none is before most are there
		line, err := ready()
		if err != nil {
			return err
		}
		log.Printf("n%d: %s", i+1, line)
	}
	return nil
}

// down ends everything that was begun, and leaves nothing of the hosts.
func (w *world) down() {
	for _, c := range append(append([]*unibus.Client{}, w.admins...), w.writers...) {
		c.Close()
	}
	for _, s := range w.servers {
		_ = s.Process.Signal(os.Interrupt)
	}
	for _, s := range w.servers {
		_ = s.Wait()
	}
	clearHosts()
}

// connect connects an identity by way of one server.
func (w *world) connect(ctx context.Context, id *unibus.Identity, i int) (*unibus.Client, error) {
	return unibus.Connect(ctx, unibus.Options{Identity: id, StateDir: filepath.Join(w.dir, "state"), Server: server(i), Timeout: timeout})
}

// people puts everyone on the allowlist, and the writers into a room.
func (w *world) people(ctx context.Context) error {
	var err error
	if w.founder, err = w.connect(ctx, w.root, 1); err != nil {
		return err
	}
	w.bus = w.founder.Bus()
	fresh := func(n int, name string, admin bool) (ids []*unibus.Identity, err error) {
		for i := range n {
			id, err := unibus.NewIdentity()
			if err != nil {
				return nil, err
			}
			u := unibus.NewUser{Key: id.Key(), Name: fmt.Sprintf("%s%d", name, i), Admin: admin}
			if err := w.founder.AddUsers(ctx, u); err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
		return ids, nil
	}
	ids, err := fresh(*admins, "admin", true)
	if err != nil {
		return err
	}
	if w.admins, err = w.connectAll(ctx, ids); err != nil {
		return err
	}
	if w.users, err = fresh(*peers, "peer", false); err != nil {
		return err
	}
	if ids, err = fresh(*writers, "writer", false); err != nil {
		return err
	}
	room, err := w.founder.CreateRoom(ctx, "messages", unibus.DefaultPolicy())
	if err != nil {
		return err
	}
	if w.writers, err = w.connectAll(ctx, ids); err != nil {
		return err
	}
	w.sent = make([][]string, len(ids))
	for _, id := range ids {
		if err := room.Invite(ctx, unibus.RoleMember, id.Key()); err != nil {
			return err
		}
	}
	return nil
}

// connectAll connects people by way of one server after the other.
func (w *world) connectAll(ctx context.Context, ids []*unibus.Identity) (out []*unibus.Client, err error) {
	for i, id := range ids {
		c, err := w.connect(ctx, id, i%nodes+1)
		if err != nil {
			return out, err
		}
		out = append(out, c)
	}
	return out, nil
}

// leader is the server that leads the log.
func (w *world) leader(ctx context.Context) (n int, err error) {
	keys, err := bus.LoadKeys(filepath.Join(w.dir, "service.nk"))
	if err != nil {
		return 0, err
	}
	nc, err := bus.Operator(bus.DialOptions{Servers: server(1), Keys: keys, Timeout: timeout})
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	s, err := js.Stream(ctx, "KV_unibus_log")
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscanf(s.CachedInfo().Cluster.Leader, "n%d", &n)
	return n, err
}
