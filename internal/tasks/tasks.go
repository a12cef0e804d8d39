// Package tasks keeps goroutines together, for whoever must not go before them.
package tasks

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Group runs goroutines until it is sealed. Unlike with a bare sync.WaitGroup, one may be started
// while another goroutine waits for the last. The zero value is ready.
type Group struct {
	mu     sync.Mutex
	sealed bool
	wait   sync.WaitGroup
}

// Go runs each f in a goroutine of its own. Once the group is sealed it runs none, and returns false.
func (g *Group) Go(fs ...func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sealed {
		return false
	}
	for _, f := range fs {
		g.wait.Go(f)
	}
	return true
}

// Limit returns a way to run goroutines in the group of which no more than n run at once. It waits until
// one more may, and returns false, having started none, when ctx ends first or the group is sealed.
func (g *Group) Limit(n int) func(ctx context.Context, f func()) bool {
	slots := make(chan struct{}, n)
	return func(ctx context.Context, f func()) bool {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		if g.Go(func() { defer func() { <-slots }(); f() }) {
			return true
		}
		<-slots
		return false
	}
}

// Seal lets no goroutine start any more.
func (g *Group) Seal() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sealed = true
}

// Wait seals the group, and returns when nothing in it runs.
func (g *Group) Wait() {
	g.Seal()
	g.wait.Wait()
}

// ForEach calls f for the numbers from 0 up to n, at most so many at once, and returns all errors. The numbers whose turn
// has not come when ctx ends have its error.
func ForEach(ctx context.Context, atOnce, n int, f func(i int) error) error {
	errs := make([]error, n)
	var working Group
	run := working.Limit(atOnce)
	for i := range n {
		if !run(ctx, func() { errs[i] = f(i) }) {
			errs[i] = ctx.Err()
		}
	}
	working.Wait()
	return errors.Join(errs...)
}

// Pause waits, and returns ctx's error when that ends first.
func Pause(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}
