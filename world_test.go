package unibus_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/roomtest"
	"github.com/unibus/unibus/internal/service"
)

func TestMain(m *testing.M) { roomtest.Main(m) }

// world is a bus with alice, its founder, and bob.
type world struct {
	*testing.T
	ctx        context.Context
	dir        string
	node       *service.Node
	alice, bob *unibus.Client
	aliceID    *unibus.Identity
	bobID      *unibus.Identity
	js         jetstream.JetStream // the server's own hands
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx, dir: t.TempDir()}
	w.aliceID = w.identity()
	w.start()
	t.Cleanup(func() { w.node.Stop() })
	w.alice = w.connect(w.aliceID, "alice")
	w.bobID = w.add("bob")
	w.bob = w.connect(w.bobID, "bob")
	return w
}

// start starts the server, anew on what it has stored.
func (w *world) start() {
	w.Helper()
	var err error
	w.node, err = service.StartNode(w.ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(w.dir, "data"), Identity: w.aliceID, Founder: "alice", Log: slog.New(slog.DiscardHandler),
	})
	w.must(err)
	w.js, err = jetstream.New(w.node.Links().Store)
	w.must(err)
}

// add allows a new user, whose card is known.
func (w *world) add(name string) *unibus.Identity {
	w.Helper()
	id := w.identity()
	card, err := id.Card()
	w.must(err)
	w.must(w.alice.AddUsers(w.ctx, unibus.NewUser{Key: id.Key(), Name: name, Card: card}))
	return id
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) identity() *unibus.Identity {
	w.Helper()
	id, err := unibus.NewIdentity()
	w.must(err)
	return id
}

func (w *world) connect(id *unibus.Identity, state string) *unibus.Client {
	w.Helper()
	c, err := unibus.Connect(w.ctx, unibus.Options{Identity: id, StateDir: filepath.Join(w.dir, state), Server: w.node.URL()})
	w.must(err)
	w.Cleanup(func() { c.Close() })
	return c
}

// room makes a room of alice's with bob in it, as both see it.
func (w *world) room(subject string, p unibus.Policy) (alices, bobs *unibus.Room) {
	w.Helper()
	alices, err := w.alice.CreateRoom(w.ctx, subject, p)
	w.must(err)
	w.must(alices.Invite(w.ctx, unibus.RoleMember, w.bob.Key()))
	bobs, err = w.bob.Room(w.ctx, subject)
	w.must(err)
	return alices, bobs
}

// send publishes each text in a frame of its own, all of one stream.
func (w *world) send(r *unibus.Room, texts ...string) {
	w.Helper()
	w.must(attack.Send(w.ctx, r, texts...))
}

// read returns everything stored, the notices, and how it ended.
func (w *world) read(r *unibus.Room, o unibus.SubscribeOptions) (texts []string, notices []unibus.Notice, err error) {
	w.Helper()
	return attack.Stored(w.ctx, r, o)
}

// rewrite replaces what a room's stream holds with what change makes of it.
func (w *world) rewrite(r *unibus.Room, change func(frames []*nats.Msg) []*nats.Msg) {
	w.Helper()
	w.must(attack.Rewrite(w.ctx, w.js, r.ID(), change))
}
