package service

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// How the servers of a cluster that was cut in two are dealt with. Who is connected on the other side cannot
// be dropped from here; the service on that side does it, as soon as it knows that it is cut off. A change
// that ends someone's access is acknowledged when every server has dropped its connections, or has been silent
// for long enough to have done so by itself.
const (
	rollCall    = time.Second             // servers are asked who is there
	cutOffAfter = 2500 * time.Millisecond // without most servers and without a quorum, before all connections are dropped
	proofWithin = 1500 * time.Millisecond // for the store to show that it has a quorum
	silentLong  = 6 * time.Second         // rollCall, cutOffAfter and proofWithin, and what dropping takes
	asleepAfter = silentLong / 2          // without running at all, before all connections here are dropped
	wakeEvery   = 500 * time.Millisecond  // it is looked whether time was lost
	wakeWithin  = 5 * time.Second         // for dropping them
)

// guard knows which servers are there, and drops every peer's connection on those that are cut off from most
// of the others: nobody can tell there who has been revoked since.
type guard struct {
	store   store.Allowlist
	servers *bus.Servers
	here    func() string // the server that this service is connected to
	own     []string      // users of the service itself
	changes

	cutSince time.Time // zero while most servers are there
	dropped  bool      // since then
}

// follow looks after the servers until ctx ends.
func (g *guard) follow(ctx context.Context) {
	tick := time.NewTicker(rollCall)
	defer tick.Stop()
	for {
		began := time.Now()
		err := g.servers.Look(ctx)
		switch {
		case err == nil:
			g.resolved("asked", "the servers say again who is there")
		case ctx.Err() == nil:
			g.report(slog.LevelWarn, "asked", err.Error(), "the servers do not say who is there", "error", err)
		}
		g.judge(ctx, began)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// awake looks for lost time until ctx ends. A process that was stopped, with its server or as a whole machine, did not
// do what others count on when a server is silent: it does so as soon as it runs again.
func (g *guard) awake(ctx context.Context) {
	tick := time.NewTicker(wakeEvery)
	defer tick.Stop()
	for last := time.Now(); ; last = time.Now() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		g.slept(ctx, last, time.Now())
	}
}

// slept drops every peer here when the time between two looks is so long that another server may have acknowledged
// a revocation meanwhile. A machine that was suspended shows it by its clock alone.
func (g *guard) slept(ctx context.Context, last, now time.Time) {
	lost := max(now.Sub(last), now.Round(0).Sub(last.Round(0)))
	if lost < asleepAfter || len(g.servers.List()) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wakeWithin)
	defer cancel()
	if err := bus.DropOn(ctx, g.servers, g.here(), g.own); err != nil {
		g.log.Error("this process did not run for a while, and not all connections could be dropped", "for", lost, "error", err)
		return
	}
	g.log.Warn("this process did not run for a while: all connections were dropped, and are let in again as they may", "for", lost)
}

// judge decides whether the servers that answered since a time are cut off.
func (g *guard) judge(ctx context.Context, since time.Time) {
	known := g.servers.List()
	answered := 0
	for _, s := range known {
		if !s.At.Before(since) {
			answered++
		}
	}
	if 2*answered > len(known) {
		g.cutSince, g.dropped = time.Time{}, false
		g.resolved("cut", "most of the servers are there again", "there", answered, "of", len(known))
		return
	}
	if g.cutSince.IsZero() {
		g.cutSince = since
	}
	if g.dropped || time.Since(g.cutSince) < cutOffAfter || g.quorum(ctx) {
		return
	}
	err := bus.DropAll(ctx, g.servers, since, g.own)
	g.dropped = err == nil
	if err != nil {
		g.report(slog.LevelError, "cut", err.Error(), "cut off from most of the servers, and not all connections could be dropped", "there", answered, "of", len(known), "error", err)
		return
	}
	g.report(slog.LevelError, "cut", "dropped", "cut off from most of the servers: all connections were dropped, and nobody is let in until the others are back", "there", answered, "of", len(known))
}

// quorum reports whether the store can prove that it is current.
func (g *guard) quorum(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, proofWithin)
	defer cancel()
	_, err := g.store.HasAdmin(ctx)
	return err == nil
}

// dropOthers drops, before a change is acknowledged to its author, the connections of those whose access it
// ended; the author's own is dropped when it has the answer. It waits for servers that do not answer until they
// have dropped everyone by themselves.
func (r *reconciler) dropOthers(ctx context.Context, n store.Notice) error {
	kick := r.kicks.of(n)
	for {
		err := r.kick(ctx, n, others, kick)
		var silent *bus.Silent
		if !errors.As(err, &silent) {
			return err
		}
		waiting := false
		for _, s := range silent.Servers {
			waiting = waiting || time.Since(s.At) < silentLong
		}
		if !waiting {
			return nil
		}
		if tasks.Pause(ctx, kickAgain) != nil {
			return errors.Join(store.ErrUnavailable, err)
		}
	}
}

// kickAgain is how soon a server that did not answer is asked again.
const kickAgain = 250 * time.Millisecond

// maxKicks bounds how many entries' kicks are remembered.
const maxKicks = 4096

// kicks remembers, by entry, when the servers were first looked at because of it: whoever has logged in since
// was let in on the grounds of that entry, and stays.
type kicks struct {
	servers *bus.Servers

	mu    sync.Mutex
	known map[store.Notice]*bus.Kick
	order []store.Notice
}

// newKicks has looked at no server yet.
func newKicks(servers *bus.Servers) *kicks {
	return &kicks{servers: servers, known: map[store.Notice]*bus.Kick{}}
}

// of is the kick of an entry: the same one each time, as long as it is remembered.
func (k *kicks) of(n store.Notice) *bus.Kick {
	k.mu.Lock()
	defer k.mu.Unlock()
	if kick := k.known[n]; kick != nil {
		return kick
	}
	if len(k.order) == maxKicks {
		delete(k.known, k.order[0])
		k.order = k.order[1:]
	}
	kick := bus.NewKick(k.servers)
	k.known[n], k.order = kick, append(k.order, n)
	return kick
}
