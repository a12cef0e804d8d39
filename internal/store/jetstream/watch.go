package jetstream

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/direct"
	"github.com/unibus/unibus/internal/store"
)

// This file is Watch: the server publishes the place of every entry that is written, without what it says. Such an
// announcement only says when to look; what is reported is what is read, past whatever was reported before.

// lookEvery is how often the log is looked at unasked: what the server publishes of it may get lost, and
// nothing shows that.
const lookEvery = time.Second

// announced has the server publish the place of every entry, without what it says.
func announced() *jetstream.RePublish {
	return &jetstream.RePublish{
		Source: "$KV." + Buckets[0] + ".*.*", Destination: "unibus.log.{{wildcard(1)}}.{{wildcard(2)}}", HeadersOnly: true,
	}
}

// announcements is where that is published.
const announcements = "unibus.log.*.*"

// watcher is Watch of store.Store.
type watcher struct {
	*conn
	*buckets
}

// watch is one Watch: what the server publishes says when to look, and what is read says what there is.
type watch struct {
	log  *bucket
	out  chan store.Notice
	last uint64 // everything up to here was reported

	grown  chan struct{} // holds a value when wanted has grown
	wanted atomic.Uint64 // the place of the last entry that was heard of
}

// Watch reports every entry committed from now on.
func (s *watcher) Watch(ctx context.Context) (<-chan store.Notice, error) {
	w := &watch{log: s.log, out: make(chan store.Notice, 256), grown: make(chan struct{}, 1)}
	heard, err := s.nc.Subscribe(announcements, w.receive)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", failure(err))
	}
	quit := func() { _ = heard.Unsubscribe() } // the connection may be gone, which serves as well
	start, cancel := s.op(ctx)
	defer cancel()
	if w.last, err = s.log.index(start); err != nil {
		quit()
		return nil, fmt.Errorf("watch: %w", failure(err))
	}
	ctx, stop := context.WithCancel(ctx)
	release := context.AfterFunc(s.ctx, stop)
	started := s.tasks.Go(func() {
		defer close(w.out)
		defer quit()
		defer stop()
		defer release()
		w.run(ctx)
	})
	if !started {
		stop()
		quit()
		return nil, fmt.Errorf("watch: %w", errClosed)
	}
	return w.out, nil
}

// receive remembers how far the log reaches, as the server says.
func (w *watch) receive(m *nats.Msg) {
	seq := direct.Seq(m)
	if seq <= w.wanted.Load() {
		return
	}
	w.wanted.Store(seq) // nobody else does
	select {
	case w.grown <- struct{}{}:
	default:
	}
}

// run looks whenever something is heard of, and now and then, until ctx ends.
func (w *watch) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.grown:
		case <-tick.C:
		}
		w.look(ctx)
	}
}

// lookTries is how often a replica that lags is asked again, within some 250 ms; then it has time until the next look.
const lookTries = 8

// look reports what was written since the last time, up to the place that was heard of.
func (w *watch) look(ctx context.Context) {
	again := replicaRetry()
	for tries := 1; ; tries++ {
		a, err := w.log.tail(ctx, w.last)
		for _, r := range a.records {
			if !w.report(ctx, r) {
				return
			}
		}
		w.last = max(w.last, a.last)
		if err == nil && a.more {
			again, tries = replicaRetry(), 0 // the rest, at once
			continue
		}
		if w.last >= w.wanted.Load() || tries == lookTries || again.pause(ctx) != nil {
			return
		}
	}
}

// report hands on the notice of an entry; false when ctx has ended.
func (w *watch) report(ctx context.Context, r record) bool {
	n, ok := entryOf(r.key)
	if !ok || len(r.value) == 0 { // another kind of record, or the place of a log that never began
		return true
	}
	select {
	case w.out <- n:
		return true
	case <-ctx.Done():
		return false
	}
}
