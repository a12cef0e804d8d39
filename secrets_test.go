package unibus

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/service"
)

// own is a bus with its founder, for tests that look inside.
type own struct {
	ctx  context.Context
	dir  string
	id   *Identity
	node *service.Node
	c    *Client
}

func found(t *testing.T) *own {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // only matters when something hangs
	t.Cleanup(cancel)
	w := &own{ctx: ctx, dir: t.TempDir()}
	var err error
	if w.id, err = NewIdentity(); err != nil {
		t.Fatal(err)
	}
	w.node, err = service.StartNode(ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(w.dir, "data"), Identity: w.id, Founder: "alice", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.node.Stop)
	if w.c, err = Connect(ctx, Options{Identity: w.id, StateDir: filepath.Join(w.dir, "state"), Server: w.node.URL()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.c.Close() })
	return w
}

// TestSecrets searches everything the server and the client wrote for bodies, headers and keys.
func TestSecrets(t *testing.T) {
	w := found(t)
	ctx, id, c := w.ctx, w.id, w.c
	room, err := c.CreateRoom(ctx, "secret", DefaultPolicy())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := room.PublishOnce(ctx, []byte("a body nobody may find"), Header{Key: "a header key", Value: "a header value"}); err != nil {
			t.Fatal(err)
		}
		if err := room.Rekey(ctx); err != nil {
			t.Fatal(err)
		}
		if held, err := room.HoldsKey(ctx); !held || err != nil {
			t.Fatal(held, err)
		}
	}
	seed, err := id.Seed()
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{[]byte("nobody may find"), []byte("a header key"), []byte("a header value"), seed}
	for _, e := range room.r.Ledger().Epochs {
		key, err := room.r.Keys.Get(ctx, room.r.Ledger().Epochs, e.Number)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, key[:])
	}
	if len(secrets) != 4+4 {
		t.Fatalf("%d keys were used", len(secrets)-4)
	}
	files := 0
	err = filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for i, s := range secrets {
			if bytes.Contains(raw, s) {
				t.Errorf("secret %d is in %s", i, path)
			}
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
}

// TestSeedIsNoName: a seed that is given in place of a user's name is refused for what it is, and not repeated,
// nor is one with a slip in it.
func TestSeedIsNoName(t *testing.T) {
	w := found(t)
	seed, err := w.id.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{string(seed), string(seed[:20]) + " " + string(seed[20:])} {
		if _, err := w.c.User(w.ctx, name); !errors.Is(err, crypto.ErrSeed) || !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), name) {
			t.Error("it is looked for, or repeated")
		}
	}
}

// TestSubjectsOfNATS: no room has a subject that is NATS's own.
func TestSubjectsOfNATS(t *testing.T) {
	w := found(t)
	if _, err := w.c.CreateRoom(w.ctx, "_INBOX.room", DefaultPolicy()); !errors.Is(err, ErrInvalid) {
		t.Errorf("it is made, with %v", err)
	}
}
