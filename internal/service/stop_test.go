package service

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// answersNothing wants the service's connections to have nothing left by which it is asked.
func (n *Node) answersNothing(t *testing.T) {
	t.Helper()
	for name, nc := range map[string]*nats.Conn{"Auth": n.links.Auth, "API": n.links.API, "Hello": n.links.Hello} {
		if left := nc.NumSubscriptions(); left > 0 {
			t.Errorf("%s still has %d subscriptions", name, left)
		}
	}
}

// beside are options of a service on the store and the servers of a node.
func (n *Node) beside(by *crypto.Identity) Options {
	return Options{
		Store: n.store, Replicas: func(context.Context) (int, error) { return 1, nil }, Links: n.links, Identity: by, Name: "admin",
		Server: n.embedded(), Log: slog.New(slog.DiscardHandler),
	}
}

// TestStopEndsAll: a service that is stopped is asked nothing any more over connections that stay, neither logins nor
// requests nor hellos, and another one can begin on them.
func TestStopEndsAll(t *testing.T) {
	n, admin := node(t, "")
	n.Service.Stop()
	n.answersNothing(t)
	again, err := Start(t.Context(), n.beside(admin))
	if err != nil {
		t.Fatal(err)
	}
	n.Service = again // which the node ends
	if again.Bus.IsZero() || again.Founded {
		t.Errorf("it serves %s, and has founded it just now: %v", again.Bus, again.Founded)
	}
	mustDial(t, n, admin, n.Bus)
}

// TestFailedStartEndsAll: a start that fails at one of its last steps leaves nothing of the steps before.
func TestFailedStartEndsAll(t *testing.T) {
	n, admin := node(t, "")
	n.Service.Stop()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := n.beside(admin)
	o.HTTP = taken.Addr().String()
	s, err := Start(t.Context(), o)
	if err == nil {
		s.Stop()
	}
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("with its port taken: %v", err)
	}
	n.answersNothing(t)
}

// TestStopLimit: the steps of a stop take no longer than is promised, whatever they wait for.
func TestStopLimit(t *testing.T) {
	if stopLimit >= 5*time.Second || lastHeld >= stopHeld {
		t.Errorf("a node may take %v to stop, %v of it to look at its server", stopLimit, stopHeld)
	}
}
