// Command bench measures unibus against raw NATS on the same server in the same run, and prints
// rates and ratios. Figures vary by machine; ratios less so. What it measures is package internal/bench, as with unibus
// bench; here each way is measured by itself, over many messages.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bench"
)

const (
	lines    = 200_000
	lineSize = 105
	sample   = 2_000 // lines of what would take too long
	timeout  = time.Minute
)

func main() {
	dir, err := os.MkdirTemp("", "unibus-bench-")
	if err != nil {
		log.Fatal(err)
	}
	err = run(context.Background(), dir)
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal("bench: ", err)
	}
}

func run(ctx context.Context, dir string) error {
	b, err := bench.Start(ctx, dir, lineSize, timeout)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := many(ctx, b); err != nil {
		return err
	}
	return lone(ctx, b)
}

// many measures many messages, one way after the other.
func many(ctx context.Context, b *bench.Bed) error {
	stored, err := b.Room(ctx, "bench.stored", unibus.DefaultPolicy())
	if err != nil {
		return err
	}
	live, err := b.Room(ctx, "bench.live", bench.LivePolicy())
	if err != nil {
		return err
	}
	t := newTable("what", "lines", "seconds", "lines/s", "of it")
	var base float64
	for _, m := range []struct {
		what string
		n    int
		do   bench.Side
	}{
		{"raw NATS, stored, a line at a time", sample, b.Raw.Each},
		{"raw NATS, stored, asynchronous", 20 * sample, b.Raw.Stored},
		{"raw NATS, live", lines, b.Raw.Live},
		{"unibus, stored, encrypted, signed", lines, b.Stream(stored)},
		{"unibus, live, encrypted, signed", lines, b.Stream(live)},
		{"unibus, reading it all back", lines, b.ReadAll(stored, lines)},
	} {
		began := time.Now()
		if err := m.do(ctx, bench.UpTo(m.n)); err != nil {
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
	return nil
}

// way is one way for a message from its writer to a reader, and how long it took each time.
type way struct {
	what  string
	way   *bench.Way
	times []time.Duration
}

// lone measures how long a single stored message takes from its writer to a reader that follows, beside a
// message of the same size to an ordered consumer. They take turns, so that a disk that is slow for a while is slow
// for both.
func lone(ctx context.Context, b *bench.Bed) error {
	room, err := b.Room(ctx, "bench.lone", unibus.DefaultPolicy())
	if err != nil {
		return err
	}
	var ways []*way
	for _, open := range []struct {
		what string
		open func(context.Context) (*bench.Way, error)
	}{
		{"raw NATS, ordered consumer", b.Raw.Way},
		{"raw NATS, on the subjects of a room", b.PeerWay},
		{"unibus, encrypted, signed", func(ctx context.Context) (*bench.Way, error) { return b.Way(ctx, room) }},
	} {
		w, err := open.open(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", open.what, err)
		}
		defer w.End()
		ways = append(ways, &way{what: open.what, way: w})
	}
	for range sample {
		for _, w := range ways {
			began := time.Now()
			if err := w.way.Once(); err != nil {
				return fmt.Errorf("%s: %w", w.what, err)
			}
			w.times = append(w.times, time.Since(began))
		}
	}
	t := newTable("a lone stored message to its reader", "messages", "p50 µs", "p99 µs", "of it")
	for _, w := range ways {
		slices.Sort(w.times)
		half, most := bench.Percentile(w.times, 50), bench.Percentile(w.times, 99)
		ratio := float64(half) / float64(bench.Percentile(ways[0].times, 50))
		t.AppendRow(table.Row{w.what, sample, fmt.Sprint(half.Microseconds()), fmt.Sprint(most.Microseconds()), fmt.Sprintf("%.2f×", ratio)})
	}
	t.Render()
	return nil
}

// newTable is a table that is printed when it is rendered.
func newTable(header ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(os.Stdout)
	t.AppendHeader(header)
	return t
}
