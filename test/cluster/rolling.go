package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/test/run"
)

var (
	lasting = flag.Duration("for", 10*time.Minute, "rolling: how long nodes are restarted")
	every   = flag.Duration("every", 20*time.Second, "rolling: between one restart and the next")
	lines   = flag.Int("lines", 45000, "rolling: stored beforehand")
	damages = flag.String("damage", "cut,first,flip", "rolling: what is done to the files of a node afterwards")
	broken  = flag.Duration("broken", 15*time.Second, "rolling: how long reads are judged at each step after that")
)

// rolling restarts the nodes one after the other, and then damages the files of one.
func rolling(ctx context.Context, c *cluster) (string, error) {
	if err := c.Up(ctx); err != nil {
		return "", err
	}
	if _, err := c.room(ctx, "room"); err != nil {
		return "", err
	}
	if err := c.series(ctx, c.Servers(), "room", "base", *lines, *length); err != nil {
		return "", err
	}
	t := c.traffic("room", seen{"base": *lines})
	t.begin(ctx)
	restarts, failed := c.restart(ctx)
	told, err := t.end()
	if err == nil && failed == nil {
		err = t.whole(ctx)
	}
	results, failures := []string{fmt.Sprintf("%d restarts in %v: %s", restarts, *lasting, told)}, []error{failed, err}
	log.Print(results[0])
	for i, kind := range strings.FieldsFunc(*damages, func(r rune) bool { return r == ',' }) {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		told, err := c.damaged(ctx, c.Nodes[i%run.Size], kind)
		if err != nil {
			err = fmt.Errorf("%s: %s: %w", kind, told, err)
		}
		log.Printf("%s: %s", kind, told)
		results, failures = append(results, kind+": "+told), append(failures, err)
	}
	return strings.Join(results, "\n  "), errors.Join(failures...)
}

// restart stops and starts one node after the other.
func (c *cluster) restart(ctx context.Context) (n int, err error) {
	tick := time.NewTicker(*every)
	defer tick.Stop()
	for end := time.Now().Add(*lasting); time.Now().Before(end); n++ {
		node := c.Nodes[n%run.Size]
		if _, err := node.Stop(); err != nil {
			return n, err
		}
		if err := errors.Join(node.Start(), node.IsReady(ctx)); err != nil {
			return n, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
	return n, nil
}

// damaged does something to the files of a room on a node that is down, and has the room read after that:
// while others lead its stream, while that node does if it can be made to, and after the others were
// restarted.
func (c *cluster) damaged(ctx context.Context, n *run.Node, kind string) (string, error) {
	room, err := c.room(ctx, kind)
	if err != nil {
		return "", err
	}
	if err := c.series(ctx, c.Servers(), kind, "base", *lines, 6**length); err != nil {
		return "", err
	}
	other := c.Nodes[(slices.Index(c.Nodes[:], n)+1)%run.Size]
	nc, err := c.Operator(other)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	stream := bus.StreamName(room)
	before, err := current(ctx, nc, stream)
	if err != nil {
		return "", err
	}
	if _, err := n.Stop(); err != nil {
		return "", err
	}
	what, err := harm(n, room, kind)
	if err != nil {
		return "", err
	}
	if err := errors.Join(n.Start(), n.IsReady(ctx)); err != nil {
		return what, err
	}
	t := c.traffic(kind, seen{"base": *lines})
	t.damaged = true
	t.begin(ctx)
	run.Pause(ctx, *broken)
	led := "led then"
	if _, err := run.StepDown(ctx, nc, stream, n.Name); err != nil {
		led = "could not be made to lead"
	}
	run.Pause(ctx, *broken)
	for _, o := range c.Nodes {
		if o == n {
			continue
		}
		if _, err := o.Stop(); err != nil {
			t.fail(err)
		}
		if err := errors.Join(o.Start(), o.IsReady(ctx)); err != nil {
			t.fail(err)
		}
		run.Pause(ctx, *broken)
	}
	told, err := t.end()
	after, ierr := run.StreamInfo(ctx, nc, stream)
	return fmt.Sprintf("%s on %s, which %s; the stream was %+v, and is %+v: %s", what, n.Name, led, before.State, after.State, told), errors.Join(err, ierr)
}

// current waits until all replicas of a stream are.
func current(ctx context.Context, nc *nats.Conn, stream string) (i run.Info, err error) {
	err = run.Eventually(ctx, func() error {
		if i, err = run.StreamInfo(ctx, nc, stream); err != nil {
			return err
		}
		for _, r := range i.Cluster.Replicas {
			if !r.Current {
				return fmt.Errorf("%s is not current", r.Name)
			}
		}
		return nil
	})
	return i, err
}

// harm does something to a room's files: cut takes the second half of the last block, first removes the
// first block, flip changes a bit in the first one.
func harm(n *run.Node, room crypto.ID, kind string) (string, error) {
	blocks, err := filepath.Glob(filepath.Join(n.Data, "jetstream", "jetstream", "STORE", "streams", bus.StreamName(room), "msgs", "*.blk"))
	if err != nil || len(blocks) < 2 {
		return "", fmt.Errorf("%d blocks of the room: %w", len(blocks), err)
	}
	slices.SortFunc(blocks, func(a, b string) int { // by number
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	first, last := blocks[0], blocks[len(blocks)-1]
	switch kind {
	case "cut":
		s, err := os.Stat(last)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d of %d bytes of the last of %d blocks cut off", s.Size()-s.Size()/2, s.Size(), len(blocks)), os.Truncate(last, s.Size()/2)
	case "first":
		return fmt.Sprintf("the first of %d blocks removed", len(blocks)), os.Remove(first)
	case "flip":
		data, err := os.ReadFile(first)
		if err != nil {
			return "", err
		}
		data[len(data)/2] ^= 1
		return fmt.Sprintf("a bit of the first of %d blocks flipped", len(blocks)), os.WriteFile(first, data, 0o600)
	}
	return "", fmt.Errorf("-damage %s: cut, first or flip", kind)
}
