//go:build unix

// Command honest does for an hour what honest people, their machines and their operators do to a bus, all at once
// and at random: slow, new and late readers of rooms that are trimmed all the time, writers that are killed and that
// share a state directory, clocks that step back, members who come and go, rooms that are archived or store nothing
// for a while, leaders that change, servers that restart, replicas that are scaled, and a bus that is migrated or
// restored. Nothing of that may raise a finding, and every line that was acknowledged in a room that keeps its
// messages has to be read, once and in order.
//
// There are two buses: three servers with the store in JetStream, and one server with the store in SQLite. Rounds
// (rounds.go) are what people do, some at a time; faults (faults.go) are what happens to the servers meanwhile. What
// each process says and how it ends is judged in one place (judge.go), and lines in another (lines.go). A failure is
// told when it is seen, and the run goes on. At the end come the numbers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/unibus/unibus/test/run"
)

var (
	binary  = flag.String("unibus", "bin/unibus", "the program under test")
	lasting = flag.Duration("for", time.Hour, "how long")
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what is chosen at random")
	atOnce  = flag.Int("at-once", 4, "how many rounds are under way at the same time, of up to three processes each")
	folder  = flag.String("dir", "", "an empty folder to work in, which is kept (default one that is removed)")
	only    = flag.String("only", "", "only rounds with this name")
	calm    = flag.Bool("calm", false, "nothing happens to the servers")
	verbose = flag.Bool("v", false, "tell more")
)

func main() {
	flag.Parse()
	run.Main(func(ctx context.Context) error {
		return run.In(*folder, "unibus-honest-", func(dir string) error { return soak(ctx, dir) })
	})
}

// soak makes the buses, lets everything happen, and says what came of it.
func soak(ctx context.Context, dir string) error {
	fmt.Printf("honest: -seed %d -for %v\n", *seed, *lasting)
	began := time.Now()
	j := &judge{numbers: map[string]*numbers{}, over: func() bool { return ctx.Err() != nil }}
	w, err := newWorld(ctx, dir, j)
	if err != nil {
		return errors.Join(err, w.down())
	}
	going, stop := context.WithTimeout(ctx, *lasting)
	defer stop()
	w.live(ctx, going)
	if ctx.Err() == nil {
		for _, b := range w.buses {
			b.settle(ctx)
		}
	}
	for _, err := range []error{w.down(), run.Complaints(dir)} {
		if err != nil {
			j.fail("servers", "", err)
		}
	}
	fmt.Print(j.summary())
	if n := j.failures(); n > 0 {
		return fmt.Errorf("honest: FAILED: %d failures in %v, -seed %d", n, time.Since(began).Round(time.Second), *seed)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("honest: interrupted after %v, with nothing wrong until then", time.Since(began).Round(time.Second))
	}
	fmt.Printf("honest: ok: 0 findings, 0 lost in %v\n", time.Since(began).Round(time.Second))
	return nil
}

// world is all buses.
type world struct {
	buses []*bus
	clock *clock
}

func newWorld(ctx context.Context, dir string, j *judge) (*world, error) {
	w := &world{}
	var err error
	if w.clock, err = newClock(ctx, dir); err != nil {
		return w, fmt.Errorf("build the program with a clock of its own: %w", err)
	}
	for _, build := range []func(string, *judge) (*bus, error){newThree, newOne} {
		b, err := build(dir, j)
		if err != nil {
			return w, err
		}
		b.clock = w.clock
		w.buses = append(w.buses, b)
		if err := b.found(ctx); err != nil {
			return w, err
		}
	}
	return w, nil
}

func (w *world) down() error {
	var failed []error
	for _, b := range w.buses {
		failed = append(failed, b.down())
	}
	return errors.Join(failed...)
}

// live lets people and faults be as long as going lasts. Rounds that have begun then end by themselves.
func (w *world) live(ctx, going context.Context) {
	var all sync.WaitGroup
	for i := range *atOnce {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(*seed, uint64(i)))
			for going.Err() == nil {
				w.buses[dice.IntN(len(w.buses))].round(ctx, dice)
			}
		})
	}
	for i, b := range w.buses {
		if *calm {
			break
		}
		all.Go(func() { (&operators{bus: b}).disturb(ctx, going, rand.New(rand.NewPCG(*seed, uint64(1000+i)))) })
	}
	all.Wait()
}

// tell logs what only those want to know who look closely.
func tell(format string, args ...any) {
	if *verbose {
		log.Printf(format, args...)
	}
}
