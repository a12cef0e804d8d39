package sqlite

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// This file is Watch: every entry has a number in the order of arrival, so that whoever remembers the last one it was
// told of asks for those after it, after each Append of this process and at times, for those of others.

// pollEvery is how soon an Append of another process is noticed; one of this process wakes the
// watcher at once. A poll that finds nothing reads one page of the WAL index.
const pollEvery = 100 * time.Millisecond

// watches are the watches of a store that are running.
type watches struct {
	*database

	mu      sync.Mutex
	wakers  map[chan struct{}]bool // each holds one when an Append of this process may not have been looked at
	closing chan struct{}          // closed when all are to end
	running tasks.Group
}

// newWatches watches nothing yet.
func newWatches(d *database) *watches {
	return &watches{database: d, wakers: map[chan struct{}]bool{}, closing: make(chan struct{})}
}

// wake has all watches look at once.
func (w *watches) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for waker := range w.wakers {
		select {
		case waker <- struct{}{}:
		default:
		}
	}
}

// endAll ends all watches, and returns when they have. It is called once.
func (w *watches) endAll() {
	close(w.closing)
	w.running.Wait()
}

// Watch reports every entry that arrives from now on, whichever process appends it.
func (w *watches) Watch(ctx context.Context) (<-chan store.Notice, error) {
	var last int64
	if err := w.read.QueryRowContext(ctx, `SELECT coalesce(max(n), 0) FROM entries`).Scan(&last); err != nil {
		return nil, fmt.Errorf("watch: %w", failure(err))
	}
	out, waker := make(chan store.Notice, page), make(chan struct{}, 1)
	w.mu.Lock()
	w.wakers[waker] = true
	w.mu.Unlock()
	started := w.running.Go(func() {
		defer close(out)
		defer w.forget(waker)
		w.run(ctx, last, waker, out)
	})
	if !started {
		w.forget(waker)
		return nil, fmt.Errorf("watch: %w: the store is closed", store.ErrUnavailable)
	}
	return out, nil
}

// forget wakes a watch no more.
func (w *watches) forget(waker chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.wakers, waker)
}

// run reports the entries after last until ctx ends or the store is closed.
func (w *watches) run(ctx context.Context, last int64, waker <-chan struct{}, out chan<- store.Notice) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.closing:
			return
		case <-waker:
		case <-tick.C:
		}
		arrived, err := w.arrived(ctx, last)
		if err != nil {
			continue // the next tick asks again; nothing is skipped
		}
		for _, a := range arrived {
			select {
			case out <- a.notice:
				last = a.n
			case <-ctx.Done():
				return
			case <-w.closing:
				return
			}
		}
	}
}

// arrival is an entry with its number in the order of arrival.
type arrival struct {
	n      int64
	notice store.Notice
}

// arrived asks for the entries after a number.
func (w *watches) arrived(ctx context.Context, after int64) ([]arrival, error) {
	ctx, cancel := w.op(ctx)
	defer cancel()
	return rows(ctx, w.read, func(scan func(...any) error) (arrival, error) {
		var a arrival
		err := scan(&a.n, Blob(a.notice.Log[:]), &a.notice.Seq)
		return a, err
	}, `SELECT n, log, seq FROM entries WHERE n > ? ORDER BY n LIMIT ?`, after, page)
}
