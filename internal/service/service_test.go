package service

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/remote"
	"github.com/unibus/unibus/internal/store/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// node starts a bus with a kind of store, founded by an admin.
func node(t *testing.T, kind string) (*Node, *crypto.Identity) {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'a'})
	if err != nil {
		t.Fatal(err)
	}
	n, err := StartNode(t.Context(), NodeOptions{
		Store: kind, Listen: "127.0.0.1:0", Dir: t.TempDir(), HTTP: "127.0.0.1:0", Identity: id, Founder: "admin", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n, id
}

// TestRemote runs the conformance suite through the service, over NATS and over HTTP.
func TestRemote(t *testing.T) {
	const timeout = 20 * time.Second
	for _, c := range []struct{ carrier, kind string }{{"nats", ""}, {"http", ""}, {"nats", JetStream}} {
		carrier := c.carrier
		t.Run(carrier+" "+c.kind, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) storetest.Subject {
				n, id := node(t, c.kind)
				conn := func(id *crypto.Identity) *bus.Conn {
					c, err := bus.Dial(bus.DialOptions{Servers: n.URL(), Identity: id, Bus: n.Bus, Timeout: timeout})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(c.Close)
					return c
				}
				open := map[crypto.PublicKey]store.Store{}
				return storetest.Subject{
					Admin: id, Founded: true, OwnKeysOnly: true, OpTimeout: timeout,
					As: func(id *crypto.Identity) store.Store {
						if s := open[id.Key()]; s != nil {
							return s
						}
						o := remote.Options{Identity: id, Bus: n.Bus, OpTimeout: timeout}
						c := conn(id)
						o.Watcher, o.Inbox = c, c.Inbox()
						if carrier == "nats" {
							o.Transport = c
						} else {
							o.URL = "http://" + n.HTTP
						}
						s := remote.New(o)
						t.Cleanup(func() { s.Close() })
						open[id.Key()] = s
						return s
					},
					Break: func() { n.store.Close() },
				}
			})
		})
	}
}

// TestHealsAtStart: views that a crash left behind are completed before the service is ready.
func TestHealsAtStart(t *testing.T) {
	id, err := crypto.NewIdentity([32]byte{'a'})
	if err != nil {
		t.Fatal(err)
	}
	o := NodeOptions{Store: JetStream, Listen: "127.0.0.1:0", Dir: t.TempDir(), Identity: id, Founder: "admin", Log: slog.New(slog.DiscardHandler)}
	begin := func() *Node {
		t.Helper()
		n, err := StartNode(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := begin()
	room := new(ledger.State)
	p := ledger.DefaultPolicy()
	p.Encryption = "none"
	statement, err := room.Next(id, &ledger.Create{Bus: n.Bus, Subject: "r", Policy: p, Nonce: make([]byte, 16)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	log, _, _, err := ledger.Place(statement)
	if err != nil {
		t.Fatal(err)
	}
	n.Service.Stop()
	n.Service = nil
	// The entry alone, as a process leaves it that is killed right after committing it.
	js, err := jetstream.New(n.Links().Store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "$KV.unibus_log."+log.String()+".1", statement); err != nil {
		t.Fatal(err)
	}
	if behind, err := n.store.Behind(t.Context()); err != nil || len(behind) != 1 || behind[0] != log {
		t.Fatalf("behind are %v, %v", behind, err)
	}
	n.Stop()
	n = begin()
	defer n.Stop()
	if behind, err := n.store.Behind(t.Context()); err != nil || len(behind) != 0 {
		t.Errorf("behind are %v, %v", behind, err)
	}
	if refs, err := n.store.ListRoomsForEndpoint(t.Context(), id.Key()); err != nil || len(refs) != 1 || refs[0].ID != log {
		t.Errorf("the owner's rooms are %v, %v", refs, err)
	}
}
