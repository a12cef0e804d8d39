// Package roomtest is a bus with one client's rooms, for tests of those who read and write in them. It knows neither.
package roomtest

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store/remote"
	"github.com/unibus/unibus/internal/tasks"
)

// World is a node, and its founder's connection and rooms.
type World struct {
	*testing.T
	Ctx   context.Context // ends with the test, or after a minute
	ID    *crypto.Identity
	Node  *service.Node
	Conn  *bus.Conn
	Store *remote.Store
	Self  *room.Self
	Peer  *mirror.Peer
	Tasks tasks.Group
}

// Timeout is that of the client.
const Timeout = 5 * time.Second

// New starts a node, and logs in to it as its founder.
func New(t *testing.T) *World {
	t.Helper()
	w := &World{T: t}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	w.Ctx = ctx
	var err error
	w.ID, err = crypto.NewIdentity([32]byte{'r', 't'})
	w.Must(err)
	dir := t.TempDir()
	w.Node, err = service.StartNode(ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(dir, "data"), Identity: w.ID, Founder: "alice", Log: slog.New(slog.DiscardHandler),
	})
	w.Must(err)
	t.Cleanup(w.Node.Stop)
	p, err := pins.Open(ctx, filepath.Join(dir, "pins.db"))
	w.Must(err)
	t.Cleanup(func() { p.Close() })
	w.Conn, err = bus.Dial(bus.DialOptions{Servers: w.Node.URL(), Identity: w.ID, Bus: w.Node.Bus, Timeout: Timeout, Connected: func() {}, Lost: func(error) {}})
	w.Must(err)
	t.Cleanup(func() {
		w.Conn.Close()
		w.Tasks.Wait()
	})
	w.Store = remote.New(remote.Options{Transport: w.Conn, Identity: w.ID, Bus: w.Node.Bus, Inbox: w.Conn.Inbox(), Watcher: w.Conn, OpTimeout: Timeout})
	t.Cleanup(func() { w.Store.Close() })
	w.Self = &room.Self{
		Identity: w.ID, Keyring: w.Store, Pins: p, Now: time.Now, Tell: t.Logf, Release: w.Conn.Release,
		Excluded: func() error { return errors.New("not on the allowlist") },
	}
	w.Peer = &mirror.Peer{Identity: w.ID, Store: w.Store, Pins: p, Timeout: Timeout, Stage: w.Self.Stage, Tell: func(*ledger.Entry, time.Duration, bool) {}}
	w.Self.Bus, err = w.Peer.Open(ctx, w.Node.Bus, crypto.ID{})
	w.Must(err)
	w.Must(w.Self.Bus.Sync(ctx))
	return w
}

// Must ends the test on an error.
func (w *World) Must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// Room makes an encrypted room.
func (w *World) Room(subject string, p ledger.Policy) *room.Room {
	w.Helper()
	key := room.NewKey()
	commit := key.Commit(1)
	create := &ledger.Create{Bus: w.Node.Bus, Subject: subject, Policy: p, Nonce: make([]byte, 16), Commit: &commit}
	log, err := w.Peer.Create(w.Ctx, mirror.Proposal{Body: create, Key: &mirror.Key{Epoch: 1, Key: key}}, w.Node.Bus)
	w.Must(err)
	r, err := w.Self.Open(w.Ctx, log)
	w.Must(err)
	return r
}

// Follow is for readers and writers whose logs nobody else changes.
func (w *World) Follow(context.Context) error { return nil }

// Refused is for those whose connection nobody ends.
func (w *World) Refused() error { return nil }
