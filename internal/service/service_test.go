package service

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
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
			storetest.Run(t, func(t *testing.T) storetest.Backend {
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
				return storetest.Backend{
					Admin: id, Founded: true, OwnKeysOnly: true, OpTimeout: timeout,
					As: func(id *crypto.Identity) store.Store {
						if s := open[id.Key()]; s != nil {
							return s
						}
						o := remote.Options{Identity: id, Bus: n.Bus, OpTimeout: timeout}
						c := conn(id)
						o.Watcher = c
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
