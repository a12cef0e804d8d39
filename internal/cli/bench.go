package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus/internal/bench"
)

// bench shows what package bench measures: a row for each result when it is there. On a terminal a line below says what is
// measured meanwhile.

// benchAll is what all of bench.Kinds are called together.
const benchAll = "all"

// benchCommand is bench and its flags.
type benchCommand struct {
	a *app
	// each is how long a measurement takes; count, how often either side does its work in it, at most, 0 for a number that
	// depends on size; and size is how many bytes a message has.
	each        time.Duration
	count, size int
	table       *grid
}

// maxBenchSize is how large a message may be: raw NATS takes it in one, with all that is around it.
const maxBenchSize = 512 << 10

// newBench makes bench.
func newBench(a *app) *cobra.Command {
	b := &benchCommand{a: a}
	c := &cobra.Command{
		Use: "bench [WHAT...]", Short: "Measure unibus against raw NATS on this machine", Args: cobra.ArbitraryArgs,
		ValidArgs: append(bench.Kinds(), benchAll),
		Long: `Measure unibus beside raw NATS, in the same run and on the same server: a bus of its own, on a free port of
127.0.0.1, in a temporary directory (TMPDIR says on which disk) that is gone afterwards. It never goes to a
bus that you have joined, and needs no identity. WHAT, with the time that each takes, and all under a minute:

  pub     messages a second into a room: stored, one acknowledged before the next; stored, many under
          way; and live, in a room that stores nothing (12 s)
  sub     messages a second out of a room: all that it has stored, as an ordered consumer reads it (6 s)
  rtt     how long a lone message takes to a reader that follows, stored and live: half of them were as
          quick as p50 says, and 99 of 100 as p99 (8 s)
  rekey   how long it takes to give the members of a room a new key, 1 and 100 of them; raw NATS stores as
          many messages (8 s)
  auth    how long a login takes, and how many there are a second, 8 at once; raw NATS knows the key (8 s)
  all     all of it; so does leaving WHAT out

The ratio is unibus to raw NATS. Of a rate (/s), more is better; of a time (ms), less. A room's messages are
encrypted and signed, and many share a frame, which is why many at once may be faster than raw NATS, which sends
and stores each by itself. What is stored is on the disk when it is acknowledged, on both sides.`,
		Example: `  unibus bench
  unibus bench pub rtt --size 1024
  unibus bench -o json | jq -r 'select(.ratio < 1) | .measure'`,
		RunE: func(cmd *cobra.Command, args []string) error { return b.run(cmd.Context(), args) },
	}
	c.Flags().Var(newDefault(&b.each, "4s", parseBenchTime), "for", "how long each is measured, unibus and raw NATS together, at most 1h")
	c.Flags().Var(newValue(&b.count, parseCount), "count", "end earlier, when each has done it `N` times (default 200000, or 64 MiB of messages)")
	c.Flags().Var(newDefault(&b.size, "128", parseBetween(1, maxBenchSize)), "size", "bytes of a message")
	return c
}

// parseBenchTime reads how long each is to be measured.
func parseBenchTime(text string) (time.Duration, error) {
	d, err := parsePositive(text)
	if err == nil && d > time.Hour {
		err = errors.New("more than 1h")
	}
	return d, err
}

// run measures in a folder that is gone afterwards.
func (b *benchCommand) run(ctx context.Context, what []string) error {
	kinds := bench.Kinds()
	for _, one := range what {
		if one != benchAll && !slices.Contains(kinds, one) {
			return hinted(usage("bench %s: there is %s, or %s", one, strings.Join(kinds, ", "), benchAll), hintBench(nearest(one, append(kinds, benchAll))))
		}
	}
	if err := b.checkFlags(); err != nil {
		return err
	}
	if slices.Contains(what, benchAll) {
		what = nil
	}
	dir, err := os.MkdirTemp("", "unibus-bench-")
	if err != nil {
		return fmt.Errorf("bench: a temporary folder: %w", err)
	}
	defer os.RemoveAll(dir)
	b.table = newGrid(b.a.out, []string{"WHAT", "MEASURED", "UNIBUS", "RAW NATS", "RATIO"})
	// Rows come one after another, and stand below each other all the same.
	b.table.measure([][]string{{"rekey", "stored, one at a time", "12,345,678/s", "12,345,678/s", "1234×"}})
	b.status("starting a bus")
	defer b.status("")
	return bench.Run(ctx, bench.Options{
		Dir: dir, What: what, For: b.each, Count: b.count, Size: b.size, Timeout: b.a.set.timeout,
		Begin: func(p bench.Progress) {
			b.status(fmt.Sprintf("measuring %s, %s (%d of %d)", p.What, p.Measure, p.Number, p.Of))
		},
		Row: b.row,
	})
}

// checkFlags refuses flags of every command that say which bus is meant, and who one is there: none is asked.
func (b *benchCommand) checkFlags() error {
	for _, name := range []string{"server", "context", "store", "bus", "identity", "state"} {
		if given(b.a.cmd.Flags().Lookup(name)) {
			return superfluous(name, "bench: --%s has no effect: it runs a bus of its own", name)
		}
	}
	return nil
}

// status shows people what is being done; empty: nothing any more.
func (b *benchCommand) status(line string) {
	if err := b.a.err; err.terminal && !b.a.set.quiet && (line == "" || foreground(err.raw)) {
		err.setStatus(line)
	}
}

// row prints a row, in the place of the line that says what is being done.
func (b *benchCommand) row(r bench.Row) error {
	b.status("")
	return b.a.out.value(r, func() {
		b.table.print([][]string{{r.What, r.Measure, benchFigure(r.Unibus, r.Unit), benchFigure(r.Raw, r.Unit), benchRatio(r.Ratio)}})
	})
}

// benchFigure writes a figure for people: no more of it than means anything.
func benchFigure(n float64, unit string) string {
	if unit == bench.Rate {
		return humanize.Comma(int64(n)) + unit
	}
	return significant(n) + " " + unit
}

// benchRatio writes a ratio for people.
func benchRatio(n float64) string { return significant(n) + "×" }

// significant writes three digits of a number, or all of those before its point.
func significant(n float64) string {
	switch {
	case n >= 100:
		return strconv.FormatFloat(n, 'f', 0, 64)
	case n >= 10:
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return strconv.FormatFloat(n, 'f', 2, 64)
}
