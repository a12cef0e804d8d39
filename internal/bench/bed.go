// Package bench measures unibus beside raw NATS: the same work on the same server, in the same run. A Bed is that server,
// a bus of its own in a folder of its own, with a client of each kind; its methods do the work, either way. Run measures
// all of it, a Row at a time. Nothing here prints, and no bus that somebody uses is ever asked.
package bench

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/service"
)

// Bed is what everything is measured on: a bus as unibus serve starts it, an identity that founded it, and two connections
// to it, both by TCP.
type Bed struct {
	node    *service.Node
	id      *crypto.Identity
	timeout time.Duration

	c    *unibus.Client
	keys *bus.Keys // of the service: who has them is let in by the server itself
	Raw  *Raw      // the connection without unibus

	people []*crypto.Identity // crowd
	body   []byte             // of every message
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
	conn, err := b.dialRaw()
	if err != nil {
		return err
	}
	if b.Raw, err = newRaw(ctx, conn, b.node.Links().Store, b.body); err != nil {
		conn.Close()
	}
	return err
}

// Close ends what Start began.
func (b *Bed) Close() {
	if b.Raw != nil {
		b.Raw.conn.Close()
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

// dialFor logs in as somebody, whom the service is asked about, for rooms.
func (b *Bed) dialFor(id *crypto.Identity, rooms ...crypto.ID) (*bus.Conn, error) {
	return bus.Dial(bus.DialOptions{Servers: b.node.URL(), Identity: id, Bus: b.c.Bus(), Rooms: rooms, Timeout: b.timeout})
}

// LivePolicy is that of a room that stores nothing.
func LivePolicy() unibus.Policy {
	p := unibus.DefaultPolicy()
	p.Retain = nil
	return p
}
