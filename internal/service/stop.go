package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/store"
)

// A node is gone within 5 s of being told to stop, whatever it waits for. Everything acknowledged is on
// disk before it is acknowledged, so that what is left behind costs nothing but a tidy end. Each step has a
// limit, and together they are stopLimit.
const (
	stopHTTP   = 500 * time.Millisecond                                   // requests over TCP
	stopTasks  = time.Second                                              // requests over NATS, logins, and what else is under way
	stopHeld   = 200 * time.Millisecond                                   // what is remembered of the server's files
	stopStore  = 500 * time.Millisecond                                   // the store
	stopServer = 2400 * time.Millisecond                                  // the server, which keeps to it by itself (bus/server.go)
	stopLimit  = stopHTTP + stopTasks + stopHeld + stopStore + stopServer // also for a start that was called off
)

// within does f, and returns false when it takes longer than limit; f then goes on.
func within(limit time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() { // ends with f, or with the process
		defer close(done)
		f()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// logLeft says that something did not end in time.
func logLeft(log *slog.Logger, what string, limit time.Duration) {
	log.Warn(what+" did not stop in time, and was left", "limit", limit)
}

// StartNode starts the server, opens the store and starts the service, in this order: nobody gets
// in before the authorizer can ask the store. In a cluster it waits until enough servers are there.
// It returns soon after ctx has ended, even if what it waits for does not heed that.
func StartNode(ctx context.Context, o NodeOptions) (*Node, error) {
	type result struct {
		n   *Node
		err error
	}
	started := make(chan result, 1)
	go func() { // ends when the start does, or with the process
		n := &Node{log: o.Log}
		err := n.start(ctx, o)
		if errors.Is(err, errSilent) { // what it makes of its files when it stops, the next start is right with
			o.Log.Warn("the server does not answer for what it keeps: it is started again", "error", err)
			n, err = n.again(ctx, o)
		}
		if err != nil {
			n.Stop()
			n = nil
		}
		started <- result{n, err}
	}()
	select {
	case r := <-started:
		return r.n, r.err
	case <-ctx.Done():
	}
	var r result
	if within(stopLimit, func() { r = <-started }) {
		return r.n, r.err
	}
	logLeft(o.Log, "the start", stopLimit)
	return nil, fmt.Errorf("%w: stopped while it was starting: %w", store.ErrUnavailable, context.Cause(ctx))
}

// again ends what was begun of a node, and begins anew. A server that does not even stop, as over a disk that hangs, has its
// folder still: ErrUnavailable.
func (n *Node) again(ctx context.Context, o NodeOptions) (*Node, error) {
	if !n.stop() {
		return &Node{log: o.Log}, fmt.Errorf("%w: the server neither answers for what it keeps nor stops: its disk hangs, or takes more than a second for each write", store.ErrUnavailable)
	}
	n = &Node{log: o.Log}
	return n, n.start(ctx, o)
}

// Stop ends what StartNode began, within stopLimit: the service, what remembers how much the server holds (which is then
// as much as it is left with), the store and the server.
func (n *Node) Stop() { n.stop() }

// stop is Stop, and reports whether an embedded server has ended.
func (n *Node) stop() (ended bool) {
	if n.Service != nil {
		n.Service.Stop()
	}
	if n.held != nil && !within(stopHeld, n.held.stop) {
		logLeft(n.log, "what remembers how much the server holds", stopHeld)
	}
	if n.store != nil && !within(stopStore, func() { _ = n.store.Close() }) { // every write was answered with its own outcome
		logLeft(n.log, "the store", stopStore)
	}
	switch {
	case n.server != nil:
		return n.server.Stop()
	case n.links != nil:
		n.links.Close()
	}
	return true
}

// Stop ends what Start began, the latest first, within stopHTTP and stopTasks: no request comes over TCP any more, then
// no login and no request over NATS; what is under way is called off and waited for; and then nobody reads rooms' past.
// What takes longer is left to end by itself.
func (s *Service) Stop() {
	if s.http != nil {
		s.stopHTTP()
	}
	all := within(stopTasks, func() {
		for _, sub := range slices.Backward(s.subs) {
			_ = sub.Unsubscribe() // its connection is about to close
		}
		s.cancel()
		s.wait.Wait()
		if s.past != nil {
			s.past.Close()
		}
	})
	if !all {
		s.cancel()
		logLeft(s.log, "what the service has under way", stopTasks)
	}
}

// stopHTTP lets requests over TCP end, and cuts off what takes too long.
func (s *Service) stopHTTP() {
	ctx, cancel := context.WithTimeout(context.Background(), stopHTTP)
	defer cancel()
	_ = s.http.Shutdown(ctx) // what does not end in time is cut off
	_ = s.http.Close()
}
