package bus

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// TestEmptiedTooLate: what is stored after a room began to store messages again stays, however late a service comes to
// empty its stream of what was there before.
func TestEmptiedTooLate(t *testing.T) {
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	server, err := StartServer(t.Context(), ServerOptions{Listen: "127.0.0.1:0", Dir: filepath.Join(t.TempDir(), "jetstream"), Keys: keys, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	streams, err := NewStreams(server.Links.Store, func(context.Context) (int, error) { return 1, nil })
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(server.Links.Store)
	if err != nil {
		t.Fatal(err)
	}
	stored, live := ledger.DefaultPolicy(), ledger.DefaultPolicy()
	live.Retain = nil
	publish := func(room crypto.ID) {
		t.Helper()
		if _, err := js.Publish(t.Context(), "unibus.s."+room.String()+".a", nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		then []ledger.Policy // that it has, each time that it is asked; before the second a message comes
		left uint64
	}{
		"stored again at once": {[]ledger.Policy{live, stored}, 3},
		"stored again":         {[]ledger.Policy{live, live, stored}, 1},
		"not stored":           {[]ledger.Policy{live, live, live}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			room := crypto.ID{byte(c.left)}
			says := func(p ledger.Policy) Logged {
				return func(context.Context) (ledger.Policy, error) { return p, nil }
			}
			if err := streams.Ensure(t.Context(), room, says(stored)); err != nil {
				t.Fatal(err)
			}
			publish(room)
			publish(room)
			asked := 0
			err := streams.Ensure(t.Context(), room, func(context.Context) (ledger.Policy, error) {
				if asked++; asked == 2 {
					publish(room)
				}
				return c.then[asked-1], nil
			})
			if err != nil || asked != len(c.then) {
				t.Fatalf("%v, asked %d times", err, asked)
			}
			stream, err := js.Stream(t.Context(), StreamName(room))
			if err != nil {
				t.Fatal(err)
			}
			if n := stream.CachedInfo().State.Msgs; n != c.left {
				t.Errorf("%d messages are left, want %d", n, c.left)
			}
			if err := streams.Ensure(t.Context(), room, says(live)); err != nil {
				t.Fatal(err)
			}
			if stream, err = js.Stream(t.Context(), StreamName(room)); err != nil || stream.CachedInfo().State.Msgs != 0 {
				t.Errorf("it is not emptied, %v", err)
			}
		})
	}
}
