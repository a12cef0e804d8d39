package tasks

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

func TestGroup(t *testing.T) {
	var g Group
	var ran atomic.Int32
	release := make(chan struct{})
	if !g.Go(func() { <-release; ran.Add(1) }, func() { <-release; ran.Add(1) }) {
		t.Fatal("an open group ran nothing")
	}
	g.Seal()
	if g.Go(func() { ran.Add(10) }) {
		t.Error("a sealed group ran something")
	}
	close(release)
	g.Wait()
	if n := ran.Load(); n != 2 {
		t.Errorf("%d after Wait, not 2", n)
	}
}

// What is started while another waits has ended when Wait returns, or never ran.
func TestGroupWhileWaiting(t *testing.T) {
	for range 50 {
		var g Group
		var started, ended atomic.Int32
		begun := make(chan struct{})
		starter := make(chan struct{})
		go func() {
			defer close(starter)
			close(begun)
			for g.Go(func() { ended.Add(1) }) {
				started.Add(1)
			}
		}()
		<-begun
		g.Wait()
		after := ended.Load()
		<-starter
		if s := started.Load(); s != after || ended.Load() != after {
			t.Fatalf("%d started, %d had ended when Wait returned", s, after)
		}
	}
}

func TestLimit(t *testing.T) {
	var g Group
	run := g.Limit(2)
	release := make(chan struct{})
	var now, most atomic.Int32
	f := func() {
		for n := now.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-release
		now.Add(-1)
	}
	for range 2 {
		if !run(t.Context(), f) {
			t.Fatal("it does not run as many as it may")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if run(ctx, f) {
		t.Error("it runs more than it may")
	}
	close(release)
	for range 20 {
		if !run(t.Context(), f) {
			t.Error("an ended one leaves no room")
		}
	}
	g.Wait()
	if n := most.Load(); n > 2 {
		t.Errorf("%d at once", n)
	}
	for range 3 { // a group that is sealed holds no slot
		if run(t.Context(), f) {
			t.Error("a sealed group runs something")
		}
	}
}

// TestPause: a pause ends with its context.
func TestPause(t *testing.T) {
	if err := Pause(t.Context(), time.Nanosecond); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Pause(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// TestForEach: each number has its turn, no more at once than may, and every error comes back.
func TestForEach(t *testing.T) {
	const n, atOnce = 20, 3
	var now, most atomic.Int32
	var had [n]atomic.Int32
	third := errors.New("third")
	err := ForEach(t.Context(), atOnce, n, func(i int) error {
		for running := now.Add(1); ; {
			if m := most.Load(); running <= m || most.CompareAndSwap(m, running) {
				break
			}
		}
		defer now.Add(-1)
		had[i].Add(1)
		if i == 3 {
			return third
		}
		return nil
	})
	if !errors.Is(err, third) || most.Load() > atOnce {
		t.Errorf("%v, %d at once", err, most.Load())
	}
	for i := range had {
		if had[i].Load() != 1 {
			t.Errorf("%d has its turn %d times", i, had[i].Load())
		}
	}
	if err := ForEach(t.Context(), atOnce, 0, func(int) error { return third }); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
}

// TestForEachEnds: those whose turn has not come when the context ends have its error, and those that run are waited for.
func TestForEachEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var ran atomic.Int32
	err := ForEach(ctx, 1, 5, func(i int) error {
		ran.Add(1)
		cancel()
		<-ctx.Done()
		return errors.New("ran")
	})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || !errors.Is(err, context.Canceled) || len(joined.Unwrap()) != 5 {
		t.Fatalf("%v", err)
	}
	// A number may still begin when both are so: there is room for it, and the context has ended.
	failed := 0
	for _, err := range joined.Unwrap() {
		if !errors.Is(err, context.Canceled) {
			failed++
		}
	}
	if int(ran.Load()) != failed || failed == 0 {
		t.Errorf("%d ran, %d say so", ran.Load(), failed)
	}
}

// TestPauseEnded: a pause with a context that has ended fails, however short it is.
func TestPauseEnded(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 1000 {
		if err := Pause(ended, 0); !errors.Is(err, context.Canceled) {
			t.Fatalf("no wait with an ended context: %v", err)
		}
	}
}
