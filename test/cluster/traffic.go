package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/unibus/unibus/test/run"
)

// A reader through each node every second, and a writer of one message a second.
const (
	period  = time.Second
	atOnce  = 3                // readers on one node; while there are as many, none is started
	maxTold = 10               // failures told in full
	overdue = 60 * time.Second // a read or a publication that takes longer is a failure
)

// traffic is who reads and writes a room while its nodes are restarted.
type traffic struct {
	c       *cluster
	room    string
	damaged bool // the file of a node that may come to lead: what is gone there is gone

	mu           sync.Mutex
	acknowledged seen
	unanswered   int // publications that failed
	complete     int // reads that ended with 0
	unavailable  int // reads that ended with 5
	named        int // reads that ended with 6, and named what is missing: of a room one of whose files was damaged
	skipped      int // reads that were not begun, as others were under way
	failed       []error

	stop context.CancelFunc
	wait sync.WaitGroup
}

// traffic is that of a room in which the lines of acknowledged are stored already.
func (c *cluster) traffic(room string, acknowledged seen) *traffic {
	return &traffic{c: c, room: room, acknowledged: acknowledged}
}

// begin begins to read and write.
func (t *traffic) begin(ctx context.Context) {
	going, stop := context.WithCancel(ctx)
	t.stop = stop
	for _, n := range t.c.Nodes {
		t.wait.Go(func() { t.read(going, ctx, n) })
	}
	t.wait.Go(func() { t.write(going, ctx) })
}

// fail notes what is not as promised.
func (t *traffic) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tell("%v", err)
	t.failed = append(t.failed, err)
}

// write publishes a message a second as long as going lasts. What fails is not known to be stored or not.
func (t *traffic) write(going, ctx context.Context) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for i := 0; going.Err() == nil; i++ {
		name := fmt.Sprintf("m%d", i)
		ctx, cancel := context.WithTimeout(ctx, overdue)
		in, end, err := t.c.pub(ctx, t.c.Servers(), t.room)
		if err == nil {
			_, err = in.Write([]byte(line(name, 0, 0)))
			err = errors.Join(end(), err)
		}
		if ctx.Err() != nil && going.Err() == nil {
			t.fail(fmt.Errorf("publish %s: no end after %v", name, overdue))
		}
		cancel()
		t.mu.Lock()
		if err == nil {
			t.acknowledged[name] = 1
		} else {
			tell("publish %s: %v", name, err)
			t.unanswered++
		}
		t.mu.Unlock()
		select {
		case <-tick.C:
		case <-going.Done():
		}
	}
}

// read starts a reader every second as long as going lasts.
func (t *traffic) read(going, ctx context.Context, n *run.Node) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	turns := make(chan struct{}, atOnce)
	for going.Err() == nil {
		select {
		case turns <- struct{}{}:
			t.wait.Go(func() {
				t.readOnce(ctx, n)
				<-turns
			})
		default:
			t.mu.Lock()
			t.skipped++
			t.mu.Unlock()
		}
		select {
		case <-tick.C:
		case <-going.Done():
		}
	}
}

// readOnce reads everything, and judges what came: all that was acknowledged before, or 5.
func (t *traffic) readOnce(outer context.Context, n *run.Node) reading {
	ctx, cancel := context.WithTimeout(outer, overdue)
	defer cancel()
	t.mu.Lock()
	want := maps.Clone(t.acknowledged)
	t.mu.Unlock()
	began := time.Now()
	r, err := t.c.sub(ctx, n, t.room, "--all", "--end")
	if outer.Err() != nil {
		return r
	}
	short := r.seen.has(want)
	switch {
	case err == nil && r.bad == nil && r.code == 6 && t.damaged && strings.Contains(r.said, "lost: "):
		t.mu.Lock()
		defer t.mu.Unlock()
		t.named++
	case err != nil || r.bad != nil || ctx.Err() != nil || r.code != 0 && r.code != 5:
		t.fail(fmt.Errorf("a read through %s, begun %v ago: %v, %v", n.Name, time.Since(began).Round(time.Millisecond), err, r))
	case r.code == 0 && short != nil:
		t.fail(fmt.Errorf("a read through %s ended with 0 and was short: %w", n.Name, short))
	default:
		t.mu.Lock()
		defer t.mu.Unlock()
		if r.code == 0 {
			t.complete++
		} else {
			t.unavailable++
			tell("a read through %s: %v", n.Name, r)
		}
	}
	return r
}

// end ends the traffic, and says what came of it.
func (t *traffic) end() (string, error) {
	t.stop()
	t.wait.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	told := fmt.Sprintf("%d reads complete, %d ended with 5, %d named what is missing, %d not begun in time, %d failed; %d lines acknowledged, %d publications not",
		t.complete, t.unavailable, t.named, t.skipped, len(t.failed), t.acknowledged.total(), t.unanswered)
	if t.complete == 0 {
		t.failed = append(t.failed, errors.New("no read was complete"))
	}
	return told, errors.Join(t.failed[:min(len(t.failed), maxTold)]...)
}

// whole reads through every node until each has given everything.
func (t *traffic) whole(ctx context.Context) error {
	for _, n := range t.c.Nodes {
		err := run.Eventually(ctx, func() error {
			r := t.readOnce(ctx, n)
			if err := r.seen.has(t.acknowledged); err != nil || r.code != 0 {
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
