package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/unibus/unibus/test/run"
)

var (
	moments = flag.Int("moments", 100, "sigterm: how often a server is told to stop")
	batch   = flag.Int("batch", 2000, "sigterm: lines that each pub publishes")
)

// ended is how long a server took to end.
type ended struct {
	when string
	took time.Duration
}

// moment is a kind of moment at which a server is told to stop. It begins with all servers ready, and may
// leave some of them down.
type moment struct {
	when string
	stop func(ctx context.Context, c *cluster, n *run.Node) (time.Duration, error)
}

var kinds = []moment{
	{"right after exec", func(_ context.Context, _ *cluster, n *run.Node) (time.Duration, error) {
		return again(n, rand.N(100*time.Millisecond))
	}},
	{"while starting", func(_ context.Context, _ *cluster, n *run.Node) (time.Duration, error) {
		return again(n, rand.N(3*time.Second))
	}},
	{"waiting for the others", func(ctx context.Context, c *cluster, n *run.Node) (time.Duration, error) {
		if err := c.Down(); err != nil {
			return 0, err
		}
		if err := n.Start(); err != nil {
			return 0, err
		}
		run.Pause(ctx, rand.N(6*time.Second))
		return n.Stop()
	}},
	{"during elections", func(ctx context.Context, c *cluster, n *run.Node) (time.Duration, error) {
		if err := errors.Join(c.Down(), c.Begin()); err != nil {
			return 0, err
		}
		run.Pause(ctx, rand.N(4*time.Second))
		return n.Stop()
	}},
	{"under load", func(ctx context.Context, _ *cluster, n *run.Node) (time.Duration, error) {
		run.Pause(ctx, rand.N(2*time.Second))
		return n.Stop()
	}},
	{"without a quorum", func(ctx context.Context, c *cluster, n *run.Node) (time.Duration, error) {
		if err := c.others(n, func(o *run.Node) error { _, err := o.Stop(); return err }); err != nil {
			return 0, err
		}
		run.Pause(ctx, rand.N(8*time.Second))
		return n.Stop()
	}},
	{"while another restarts", func(ctx context.Context, c *cluster, n *run.Node) (time.Duration, error) {
		other := c.after(n)
		if _, err := other.Stop(); err != nil {
			return 0, err
		}
		if err := other.Start(); err != nil {
			return 0, err
		}
		run.Pause(ctx, rand.N(2*time.Second))
		return n.Stop()
	}},
}

// again stops a server, and starts it to stop it a little later.
func again(n *run.Node, later time.Duration) (time.Duration, error) {
	if _, err := n.Stop(); err != nil {
		return 0, err
	}
	if err := n.Start(); err != nil {
		return 0, err
	}
	time.Sleep(later)
	return n.Stop()
}

// after is the node behind another one.
func (c *cluster) after(n *run.Node) *run.Node {
	return c.Nodes[(slices.Index(c.Nodes[:], n)+1)%run.Size]
}

// others does something to all other nodes, at the same time.
func (c *cluster) others(n *run.Node, f func(*run.Node) error) error {
	var wait sync.WaitGroup
	failed := make([]error, run.Size)
	for i, o := range c.Nodes {
		if o != n {
			wait.Go(func() { failed[i] = f(o) })
		}
	}
	wait.Wait()
	return errors.Join(failed...)
}

// sigterm tells servers to stop at any moment, while messages are published.
func sigterm(ctx context.Context, c *cluster) (string, error) {
	if err := c.Up(ctx); err != nil {
		return "", err
	}
	if _, err := c.room(ctx, "room"); err != nil {
		return "", err
	}
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	acknowledged, unanswered := seen{}, 0
	var writing sync.WaitGroup
	writing.Go(func() { unanswered = c.batches(ctx, publishing, acknowledged) })
	all, failed := c.moments(ctx)
	stop()
	writing.Wait()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	told := distribution(all)
	if err := c.Up(ctx); err != nil {
		return "", errors.Join(failed, err)
	}
	if err := c.everything(ctx, acknowledged); err != nil {
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return "", fmt.Errorf("%w\n%s", failed, told)
	}
	return fmt.Sprintf("%d times; %d lines were acknowledged, and all are there, once and in order; %d of %d pubs failed\n%s",
		len(all), acknowledged.total(), unanswered, unanswered+len(acknowledged), told), nil
}

// moments tells one server after the other to stop.
func (c *cluster) moments(ctx context.Context) (all []ended, failed error) {
	for i := range *moments {
		kind, n := kinds[i%len(kinds)], c.Nodes[rand.IntN(run.Size)]
		if err := c.Up(ctx); err != nil {
			return all, errors.Join(failed, err)
		}
		took, err := kind.stop(ctx, c, n)
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		if err != nil {
			log.Printf("%s: %v", kind.when, err)
			failed = errors.Join(failed, fmt.Errorf("%s: %w", kind.when, err))
		}
		all = append(all, ended{kind.when, took})
	}
	return all, failed
}

// batches publishes one batch after the other as long as going lasts, and notes what was acknowledged. It
// returns how many were not: they may be stored all the same, in part.
func (c *cluster) batches(ctx, going context.Context, acknowledged seen) (unanswered int) {
	for i := 0; going.Err() == nil; i++ {
		name := fmt.Sprintf("b%d", i)
		if err := c.series(ctx, c.Servers(), "room", name, *batch, *length); err != nil {
			tell("%s: %v", name, err)
			unanswered++
			run.Pause(going, 100*time.Millisecond)
			continue
		}
		acknowledged[name] = *batch
	}
	return unanswered
}

// everything reads through each node all that was acknowledged.
func (c *cluster) everything(ctx context.Context, acknowledged seen) error {
	for _, n := range c.Nodes {
		err := run.Eventually(ctx, func() error {
			r, err := c.sub(ctx, n, "room", "--all", "--end")
			if err := errors.Join(err, r.bad, r.seen.has(acknowledged)); err != nil || r.code != 0 {
				return fmt.Errorf("through %s: %v: %v", n.Name, err, r)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// distribution says how long servers took to end.
func distribution(all []ended) string {
	by := map[string][]time.Duration{}
	for _, e := range all {
		by[e.when] = append(by[e.when], e.took)
		by["all"] = append(by["all"], e.took)
	}
	var out strings.Builder
	for _, when := range slices.Sorted(maps.Keys(by)) {
		times := by[when]
		slices.Sort(times)
		at := func(share float64) time.Duration {
			return times[int(share*float64(len(times)-1))].Round(time.Millisecond)
		}
		fmt.Fprintf(&out, "  %-24s %3d times: median %v, 95%% %v, longest %v\n", when, len(times), at(.5), at(.95), at(1))
	}
	return strings.TrimSuffix(out.String(), "\n")
}
