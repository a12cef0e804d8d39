// Command bench measures unibus against raw NATS on the same server in the same run, and prints
// rates and ratios. Figures vary by machine; ratios less so.
package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/service"
)

const (
	lines    = 200_000
	lineSize = 105
	sample   = 2_000 // lines of what would take too long
)

func main() {
	dir, err := os.MkdirTemp("", "unibus-bench-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := run(context.Background(), dir); err != nil {
		os.RemoveAll(dir)
		log.Fatal("bench: ", err)
	}
}

// bench is what everything is measured on.
type bench struct {
	ctx  context.Context
	node *service.Node
	c    *unibus.Client
	id   *crypto.Identity
	line []byte
	keys string // file of the service's keys
}

func run(ctx context.Context, dir string) error {
	id, err := unibus.NewIdentity()
	if err != nil {
		return err
	}
	b := &bench{ctx: ctx, id: id, line: make([]byte, lineSize), keys: service.KeysFile(filepath.Join(dir, "data"))}
	b.node, err = service.StartNode(ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(dir, "data"), Identity: id, Founder: "bench", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer b.node.Stop()
	if b.c, err = unibus.Connect(ctx, unibus.Options{Identity: id, StateDir: filepath.Join(dir, "state"), Server: b.node.URL()}); err != nil {
		return err
	}
	defer b.c.Close()
	t := table.NewWriter()
	t.SetOutputMirror(os.Stdout)
	t.AppendHeader(table.Row{"what", "lines", "seconds", "lines/s", "of it"})
	var base float64
	for _, m := range []struct {
		what string
		n    int
		do   func(n int) error
	}{
		{"raw NATS, stored, a line at a time", sample, b.rawSync},
		{"raw NATS, stored, asynchronous", 20 * sample, b.rawAsync},
		{"raw NATS, live", lines, b.rawLive},
		{"unibus, stored, encrypted, signed", lines, b.stored},
		{"unibus, live, encrypted, signed", lines, b.live},
		{"unibus, reading it all back", lines, b.read},
	} {
		began := time.Now()
		if err := m.do(m.n); err != nil {
			return fmt.Errorf("%s: %w", m.what, err)
		}
		took := time.Since(began).Seconds()
		rate := float64(m.n) / took
		if base == 0 {
			base = rate
		}
		t.AppendRow(table.Row{m.what, m.n, fmt.Sprintf("%.3f", took), fmt.Sprintf("%.0f", rate), fmt.Sprintf("%.1f×", rate/base)})
	}
	t.Render()
	return b.lone()
}

// lone measures how long a single stored message takes from its writer to a reader that follows, beside a
// message of the same size to an ordered consumer. They take turns, so that a disk that is slow for a while is slow
// for both.
func (b *bench) lone() error {
	ways := []*way{
		{what: "raw NATS, ordered consumer", open: b.rawLone},
		{what: "raw NATS, on the subjects of a room", open: b.peerLone},
		{what: "unibus, encrypted, signed", open: b.unibusLone},
	}
	for _, w := range ways {
		var err error
		if w.send, w.receive, w.end, err = w.open(); err != nil {
			return fmt.Errorf("%s: %w", w.what, err)
		}
		defer w.end()
	}
	for range sample {
		for _, w := range ways {
			began := time.Now()
			if err := errors.Join(w.send(), w.receive()); err != nil {
				return fmt.Errorf("%s: %w", w.what, err)
			}
			w.times = append(w.times, float64(time.Since(began).Nanoseconds())/1000)
		}
	}
	t := table.NewWriter()
	t.SetOutputMirror(os.Stdout)
	t.AppendHeader(table.Row{"a lone stored message to its reader", "messages", "p50 µs", "p99 µs", "of it"})
	for _, w := range ways {
		slices.Sort(w.times)
		ratio := w.p(50) / ways[0].p(50)
		t.AppendRow(table.Row{w.what, sample, fmt.Sprintf("%.0f", w.p(50)), fmt.Sprintf("%.0f", w.p(99)), fmt.Sprintf("%.2f×", ratio)})
	}
	t.Render()
	return nil
}

// way is one way for a message from its writer to a reader, and how long it took each time, in µs.
type way struct {
	what          string
	open          func() (send, receive func() error, end func(), err error)
	send, receive func() error
	end           func()
	times         []float64
}

// p is a percentile of the times, which are sorted.
func (w *way) p(percent int) float64 { return w.times[len(w.times)*percent/100] }

// rawLone publishes and consumes over one connection by TCP, as unibusLone does.
func (b *bench) rawLone() (send, receive func() error, end func(), err error) {
	if _, err := b.raw(); err != nil {
		return nil, nil, nil, err
	}
	keys, err := bus.LoadKeys(b.keys)
	if err != nil {
		return nil, nil, nil, err
	}
	conn, err := bus.Dial(bus.DialOptions{Servers: b.node.URL(), Direct: true, Keys: keys, Timeout: time.Minute})
	if err != nil {
		return nil, nil, nil, err
	}
	js, err := jetstream.New(conn.NATS())
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := js.OrderedConsumer(b.ctx, "RAW", jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return nil, nil, nil, err
	}
	messages, err := c.Messages()
	if err != nil {
		return nil, nil, nil, err
	}
	line := append(b.line, make([]byte, crypto.FrameOverhead+16)...)
	send = func() error { _, err := js.PublishAsync("raw.stored", line); return err }
	receive = func() error { _, err := messages.Next(); return err }
	return send, receive, func() { messages.Stop(); conn.Close() }, nil
}

// peerLone is the way of a room's messages, between the accounts, with nothing of unibus at either end.
func (b *bench) peerLone() (send, receive func() error, end func(), err error) {
	room, err := b.c.CreateRoom(b.ctx, "bench.peer", unibus.DefaultPolicy())
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := attack.Dial(attack.Options{URL: b.node.URL(), Identity: b.id, Bus: b.c.Bus(), Rooms: []crypto.ID{room.ID()}})
	if err != nil {
		return nil, nil, nil, err
	}
	js, err := jetstream.New(p.Conn)
	if err != nil {
		return nil, nil, nil, err
	}
	sub, err := p.SubscribeSync(bus.LiveFilter(room.ID()))
	if err == nil {
		err = p.Flush()
	}
	if err != nil {
		return nil, nil, nil, err
	}
	line := append(b.line, make([]byte, crypto.FrameOverhead+16)...)
	send = func() error { _, err := js.PublishAsync(bus.StoredSubject(room.ID(), b.id.Key()), line); return err }
	receive = func() error { _, err := sub.NextMsg(time.Minute); return err }
	return send, receive, p.Close, nil
}

func (b *bench) unibusLone() (send, receive func() error, end func(), err error) {
	room, err := b.c.CreateRoom(b.ctx, "bench.lone", unibus.DefaultPolicy())
	if err != nil {
		return nil, nil, nil, err
	}
	p, err := room.Publisher(b.ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	sub, err := room.Subscribe(b.ctx, unibus.SubscribeOptions{})
	if err != nil {
		return nil, nil, nil, err
	}
	next, stop := iter.Pull2(sub.Messages())
	send = func() error { return p.Publish(b.line) }
	receive = func() error { _, err, _ := next(); return err }
	return send, receive, func() { stop(); _ = p.Close(b.ctx) }, nil
}

func (b *bench) raw() (jetstream.JetStream, error) {
	js, err := jetstream.New(b.node.Links().Store)
	if err != nil {
		return nil, err
	}
	_, err = js.CreateOrUpdateStream(b.ctx, jetstream.StreamConfig{Name: "RAW", Subjects: []string{"raw.stored"}})
	return js, err
}

func (b *bench) rawSync(n int) error {
	js, err := b.raw()
	for i := 0; i < n && err == nil; i++ {
		_, err = js.Publish(b.ctx, "raw.stored", b.line)
	}
	return err
}

func (b *bench) rawAsync(n int) error {
	js, err := b.raw()
	for i := 0; i < n && err == nil; i++ {
		_, err = js.PublishAsync("raw.stored", b.line, jetstream.WithStallWait(time.Minute))
	}
	if err == nil {
		<-js.PublishAsyncComplete()
	}
	return err
}

func (b *bench) rawLive(n int) error {
	var err error
	for i := 0; i < n && err == nil; i++ {
		err = b.node.Links().Store.Publish("raw.live", b.line)
	}
	if err == nil {
		err = b.node.Links().Store.Flush()
	}
	return err
}

func (b *bench) stored(n int) error { return b.publish(n, "bench.stored", unibus.DefaultPolicy()) }

func (b *bench) live(n int) error {
	p := unibus.DefaultPolicy()
	p.Retain = nil
	return b.publish(n, "bench.live", p)
}

func (b *bench) publish(n int, subject string, policy unibus.Policy) error {
	room, err := b.c.CreateRoom(b.ctx, subject, policy)
	if err != nil {
		return err
	}
	p, err := room.Publisher(b.ctx)
	for i := 0; i < n && err == nil; i++ {
		err = p.Publish(b.line)
	}
	if err != nil {
		return err
	}
	return p.Close(b.ctx)
}

func (b *bench) read(n int) error {
	room, err := b.c.Room(b.ctx, "bench.stored")
	if err != nil {
		return err
	}
	sub, err := room.Subscribe(b.ctx, unibus.SubscribeOptions{All: true, End: true})
	if err != nil {
		return err
	}
	got := 0
	for _, err := range sub.Messages() {
		if err != nil {
			return err
		}
		got++
	}
	if got != n {
		return fmt.Errorf("%d lines of %d", got, n)
	}
	return nil
}
