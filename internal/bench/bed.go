// Package bench measures unibus beside raw NATS: the same work on the same server, in the same run. A Bed is that server,
// a bus of its own in a folder of its own, with a client of each kind; its methods do the work, either way. Run measures
// all of it, a Row at a time. Nothing here prints, and no bus that somebody uses is ever asked.
package bench

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/service"
)

// The streams that raw NATS stores in, and what it publishes on. Everything sent to storedStream is on the disk when it is
// acknowledged, as it is in a room.
const (
	storedStream, storedSubject = "RAW", "raw.stored"
	filledStream, filledSubject = "FILLED", "raw.filled"
	liveSubject                 = "raw.live"
)

// Bed is what everything is measured on: a bus as unibus serve starts it, an identity that founded it, and two connections
// to it, both by TCP.
type Bed struct {
	node    *service.Node
	id      *crypto.Identity
	timeout time.Duration

	c    *unibus.Client
	keys *bus.Keys // of the service: with them nobody asks who logs in
	raw  *bus.Conn // with these keys, and with nothing of unibus at either end
	js   jetstream.JetStream

	body   []byte                // of every message
	failed atomic.Pointer[error] // the first that raw NATS published and had no acknowledgement for
}

// Start founds a bus in an empty folder, which the caller removes after Close. Messages have so many bytes; timeout is for
// each exchange of a client with the bus.
func Start(ctx context.Context, dir string, size int, timeout time.Duration) (*Bed, error) {
	id, err := unibus.NewIdentity()
	if err != nil {
		return nil, err
	}
	b := &Bed{id: id, timeout: timeout, body: make([]byte, size)}
	if err := b.start(ctx, dir); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// start takes the steps of Start; what it began is ended by Close, also when it fails.
func (b *Bed) start(ctx context.Context, dir string) error {
	data := filepath.Join(dir, "data")
	var err error
	b.node, err = service.StartNode(ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: data, Identity: b.id, Founder: "bench", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return fmt.Errorf("start a bus: %w", err)
	}
	b.c, err = unibus.Connect(ctx, unibus.Options{Identity: b.id, StateDir: filepath.Join(dir, "state"), Server: b.node.URL(), Timeout: b.timeout})
	if err != nil {
		return err
	}
	if b.keys, err = bus.LoadKeys(service.KeysFile(data)); err != nil {
		return err
	}
	if b.raw, err = b.dialRaw(); err != nil {
		return err
	}
	b.js, err = jetstream.New(b.raw.NATS(), jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) {
		b.failed.CompareAndSwap(nil, &err)
	}))
	if err != nil {
		return err
	}
	_, err = b.js.CreateStream(ctx, jetstream.StreamConfig{Name: storedStream, Subjects: []string{storedSubject}})
	return err
}

// Close ends what Start began.
func (b *Bed) Close() {
	if b.raw != nil {
		b.raw.Close()
	}
	if b.c != nil {
		_ = b.c.Close() // what it sent was acknowledged, or that was told already
	}
	if b.node != nil {
		b.node.Stop()
	}
}

// dialRaw logs in with a key that the server itself knows, as is usual without unibus.
func (b *Bed) dialRaw() (*bus.Conn, error) {
	return bus.Dial(bus.DialOptions{Servers: b.node.URL(), Direct: true, Keys: b.keys, Timeout: b.timeout})
}

// dialMember logs in as the identity, which the service is asked about.
func (b *Bed) dialMember() (*bus.Conn, error) { return b.dialFor() }

// dialFor logs in as the identity, for rooms.
func (b *Bed) dialFor(rooms ...crypto.ID) (*bus.Conn, error) {
	return bus.Dial(bus.DialOptions{Servers: b.node.URL(), Identity: b.id, Bus: b.c.Bus(), Rooms: rooms, Timeout: b.timeout})
}

// acknowledged waits until raw NATS has an acknowledgement for all that was published, and returns the first failure.
func (b *Bed) acknowledged(ctx context.Context) error {
	select {
	case <-b.js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	if failed := b.failed.Load(); failed != nil {
		return *failed
	}
	return nil
}

// LivePolicy is that of a room that stores nothing.
func LivePolicy() unibus.Policy {
	p := unibus.DefaultPolicy()
	p.Retain = nil
	return p
}
