// Package roomtest is a bus with clients and their rooms, for tests of rooms and of those who read and write in them: a
// real node with its server and store, and real connections. It knows neither readers nor writers.
//
// A World has the node and its founder's Client; User adds others.
package roomtest

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/tasks"
)

// World is a node, and what its founder has open there.
type World struct {
	*testing.T
	*Client
	Ctx   context.Context // ends with the test, or after a minute
	Node  *service.Node
	Tasks tasks.Group // of whoever reads and writes: they have ended before connections close
}

// Timeout is that of the client.
const Timeout = 5 * time.Second

// Main runs a package's tests with less patience than clients have with servers that lag and writers that may be there
// still, and fails when they leave a goroutine behind.
func Main(m *testing.M) {
	patience.Gap, patience.Log, patience.RolledBack = time.Second, time.Second, 100*time.Millisecond
	goleak.VerifyTestMain(m)
}

// New starts a node, and logs in to it as its founder.
func New(t *testing.T) *World {
	t.Helper()
	w := &World{T: t}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	w.Ctx = ctx
	id, err := crypto.NewIdentity([32]byte{'r', 't'})
	w.Must(err)
	w.Node, err = service.StartNode(ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(t.TempDir(), "data"), Identity: id, Founder: "alice", Log: slog.New(slog.DiscardHandler),
	})
	w.Must(err)
	t.Cleanup(w.Node.Stop)
	w.Client = w.Login(id)
	return w
}

// Must ends the test on an error.
func (w *World) Must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// Follow is for readers and writers whose logs nobody else changes.
func (w *World) Follow(context.Context) error { return nil }

// Refused is for those whose connection nobody ends.
func (w *World) Refused() error { return nil }
