package service

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
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

// TestStopLeaves: a service does not wait for ever for what does not end when it is called off, and says that it left it.
func TestStopLeaves(t *testing.T) {
	var said bytes.Buffer
	run, cancel := context.WithCancel(t.Context())
	s := &Service{cancel: cancel, log: slog.New(slog.NewTextHandler(&said, nil))}
	release, ended := make(chan struct{}), make(chan struct{})
	s.wait.Go(func() { defer close(ended); <-release })
	s.Stop()
	if run.Err() == nil || !strings.Contains(said.String(), "did not stop in time, and was left") {
		t.Errorf("called off: %v, it says %q", run.Err(), &said)
	}
	close(release)
	<-ended
	if s.wait.Go(func() {}) {
		t.Error("something new is begun by a service that has stopped")
	}
}

// TestSmallMessages: servers that take no messages as large as the answer to a login are not served beside.
func TestSmallMessages(t *testing.T) {
	o := inFolder(t)
	o.Config = filepath.Join(t.TempDir(), "server.conf")
	if err := os.WriteFile(o.Config, []byte("max_payload: 65536\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := StartNode(t.Context(), o)
	if err == nil {
		n.Stop()
	}
	if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "65536") {
		t.Errorf("it ends with %v", err)
	}
}
