package bus

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
)

// This file is what the tests of this package begin with: an embedded server, as unibus serve has one, without a service.

// serverOptions are those of an embedded server in a folder of its own, with keys of its own.
func serverOptions(t *testing.T) ServerOptions {
	t.Helper()
	keys, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	return ServerOptions{Listen: "127.0.0.1:0", Dir: filepath.Join(t.TempDir(), "jetstream"), Keys: keys, Log: slog.New(slog.DiscardHandler)}
}

// startServer starts an embedded server, which stops with the test, and gives JetStream of it.
func startServer(t *testing.T, o ServerOptions) (*Server, jetstream.JetStream) {
	t.Helper()
	s, err := StartServer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	js, err := jetstream.New(s.Links.Store)
	if err != nil {
		t.Fatal(err)
	}
	return s, js
}

// begin starts an embedded server with one stream.
func begin(t *testing.T) (*Server, jetstream.JetStream) {
	t.Helper()
	s, js := startServer(t, serverOptions(t))
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Storage: jetstream.FileStorage}); err != nil {
		t.Fatal(err)
	}
	return s, js
}

// identity makes an identity of a number.
func identity(t *testing.T, n byte) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{n})
	if err != nil {
		t.Fatal(err)
	}
	return id
}
