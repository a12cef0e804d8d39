package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/test/run"
)

var (
	downs  = flag.Int("stepdowns", 30, "stepdowns: how often the room's leader steps down")
	apart  = flag.Duration("apart", time.Second, "stepdowns: between one and the next")
	idle   = flag.Duration("idle", 20*time.Second, "stepdowns: without a line, until readers end")
	length = flag.Int("length", 100, "of a line, in bytes")
)

// stepdowns has the leader of a room's stream step down again and again under full load.
func stepdowns(ctx context.Context, c *cluster) (string, error) {
	if err := c.Up(ctx); err != nil {
		return "", err
	}
	room, err := c.room(ctx, "room")
	if err != nil {
		return "", err
	}
	w, err := c.watch(room)
	if err != nil {
		return "", err
	}
	defer w.close()
	began := time.Now()
	var l load
	l.write(ctx, c)
	l.read(ctx, c)
	for i := range *downs {
		run.Pause(ctx, *apart)
		if i == *downs/2 {
			l.read(ctx, c)
		}
		if err := w.stepDown(ctx, ""); err != nil {
			return "", err
		}
	}
	run.Pause(ctx, *apart)
	l.stop.Store(true)
	loaded := time.Since(began)
	written, err := l.end()
	if err != nil {
		return "", err
	}
	last, missing, err := w.missing(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d step-downs in %v; %d lines of %d writers acknowledged, in %d frames; %d readers each read all of them once and in order, and ended with 0; %d frames were published to nobody, and read of the past by every reader",
		*downs, loaded.Round(time.Second), written.total(), run.Size, last, len(l.readings), missing), nil
}

// load is those who write and read meanwhile.
type load struct {
	stop     atomic.Bool
	mu       sync.Mutex
	written  seen
	readings []reading
	failed   []error
	writers  sync.WaitGroup
	readers  sync.WaitGroup
}

// write starts a writer on each node.
func (l *load) write(ctx context.Context, c *cluster) {
	l.written = seen{}
	for _, n := range c.Nodes {
		l.writers.Go(func() {
			lines, err := l.writer(ctx, c, n)
			l.mu.Lock()
			defer l.mu.Unlock()
			l.written["w"+n.Name] = lines
			if err != nil {
				l.failed = append(l.failed, fmt.Errorf("writer on %s: %w", n.Name, err))
			}
		})
	}
}

// writer pipes lines into pub until it is told to stop.
func (l *load) writer(ctx context.Context, c *cluster, n *run.Node) (lines int, err error) {
	in, end, err := c.pub(ctx, n.URL(), "room")
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(in, 64<<10)
	for ; err == nil && !l.stop.Load(); lines++ {
		_, err = w.WriteString(line("w"+n.Name, lines, *length))
	}
	return lines, errors.Join(end1(w.Flush, end)...)
}

// read starts a reader on each node.
func (l *load) read(ctx context.Context, c *cluster) {
	for _, n := range c.Nodes {
		l.readers.Go(func() {
			r, err := c.sub(ctx, n, "room", "--all", "--wait", idle.String())
			l.mu.Lock()
			defer l.mu.Unlock()
			l.readings = append(l.readings, r)
			if err != nil {
				l.failed = append(l.failed, fmt.Errorf("reader on %s: %w", n.Name, err))
			}
		})
	}
}

// end waits for everyone, and checks what they read.
func (l *load) end() (seen, error) {
	l.writers.Wait()
	log.Printf("%d lines written", l.written.total())
	l.readers.Wait()
	for i, r := range l.readings {
		if err := r.seen.has(l.written); err != nil || r.bad != nil || r.code != 0 {
			l.failed = append(l.failed, fmt.Errorf("reader %d: %v: %v", i, err, r))
		}
	}
	return l.written, errors.Join(l.failed...)
}

// watch looks at a room's stream with the service's keys.
type watch struct {
	stream string
	conns  []*nats.Conn
	mu     sync.Mutex
	places map[uint64]bool // that were published, as seen by someone
}

// watch begins to note what is published on each node.
func (c *cluster) watch(room crypto.ID) (*watch, error) {
	w := &watch{stream: bus.StreamName(room), places: map[uint64]bool{}}
	for _, n := range c.Nodes {
		nc, err := c.Operator(n)
		if err != nil {
			w.close()
			return nil, err
		}
		w.conns = append(w.conns, nc)
		sub, err := nc.Subscribe(bus.LiveFilter(room), w.note)
		if err == nil {
			err = errors.Join(sub.SetPendingLimits(-1, -1), nc.Flush())
		}
		if err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func (w *watch) note(m *nats.Msg) {
	place, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.places[place] = true
}

func (w *watch) close() {
	for _, nc := range w.conns {
		nc.Close()
	}
}

// stepDown has the leader step down, and waits until another leads. A name says who is to lead.
func (w *watch) stepDown(ctx context.Context, next string) error {
	now, err := run.StepDown(ctx, w.conns[0], w.stream, next)
	if err == nil {
		tell("%s leads", now)
	}
	return err
}

// missing counts the places of the stream, and those that were published to nobody.
func (w *watch) missing(ctx context.Context) (last, missing uint64, err error) {
	i, err := run.StreamInfo(ctx, w.conns[0], w.stream)
	if err != nil {
		return 0, 0, err
	}
	for _, nc := range w.conns {
		if err := nc.FlushTimeout(10 * time.Second); err != nil {
			return 0, 0, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for place := i.State.First; place <= i.State.Last; place++ {
		if !w.places[place] {
			missing++
		}
	}
	return i.State.Last, missing, nil
}
