// Package tasks runs goroutines in groups, so that whoever owns a group can end after all that it started has ended: a
// Group starts them and waits for them, ForEach works through a list with a bounded number of them, and Pause is a sleep
// that a context can cut short.
//
// It promises nothing about when work ends. Telling it to end, by a context or a closed connection, is its owner's part.
package tasks

import (
	"context"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/errlist"
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

// Limit returns a function that runs goroutines in the group, no more than n of its own at once. It waits for a free
// place, and returns false, having started none, when ctx ends first or the group is sealed.
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

// Seal makes the group start nothing any more. What runs goes on.
func (g *Group) Seal() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sealed = true
}

// Wait seals the group, and returns when all that was started in it has ended.
func (g *Group) Wait() {
	g.Seal()
	g.wait.Wait()
}

// ForEach calls f for each number from 0 to n-1, at most atOnce at a time, and returns all errors as a list. Of the numbers
// whose turn has not come when ctx ends, the error is ctx's.
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
	return errlist.Join(errs...)
}

// Pause waits for a time, and returns ctx's error at once when ctx ends before that. With one that has ended it never
// succeeds.
func Pause(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return ctx.Err() // it may have ended at the same time, and of a short wait select takes either
	}
}
