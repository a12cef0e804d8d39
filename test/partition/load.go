//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/test/run"
)

// This file is what people do all the time, each noted with how it ended and when.

// The operations on one user of the allowlist.
const (
	opAdd = iota
	opRevoke
	opLogin
)

// Their outcomes.
const (
	done    = iota // it happened; a login was granted
	refused        // the rules forbid it: the user is active already, or is not; a login was denied
	unknown        // it may have happened, now or later
)

type input struct {
	user int
	op   int
}

// observed is what was seen of the load.
type observed struct {
	mu      sync.Mutex
	history []porcupine.Operation
	sent    [][]string // acknowledged messages, by writer, which each adds to its own alone
	counts  struct{ granted, denied, unanswered, changed, refused, lost, unknown atomic.Int64 }
}

// record notes an operation for the judge.
func (o *observed) record(client int, in input, outcome int, began, ended time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	op := porcupine.Operation{ClientId: client, Input: in, Output: outcome, Call: began.UnixNano(), Return: ended.UnixNano()}
	if outcome == unknown {
		op.Return = 1<<62 - 1
	}
	o.history = append(o.history, op)
}

// tell says what has happened so far.
func (o *observed) tell(when string) {
	c := &o.counts
	log.Printf("%s: %d changes, %d refused, %d lost races, %d unknown; logins: %d granted, %d denied, %d unanswered",
		when, c.changed.Load(), c.refused.Load(), c.lost.Load(), c.unknown.Load(), c.granted.Load(), c.denied.Load(), c.unanswered.Load())
}

// load has everyone work until ctx ends; wait is done when all of them are.
func (w *world) load(ctx context.Context, wait *sync.WaitGroup) {
	for i, c := range w.admins {
		wait.Go(func() { w.administer(ctx, i, c) })
	}
	for i, id := range w.users {
		wait.Go(func() { w.logIn(ctx, i, id) })
	}
	for i, c := range w.writers {
		wait.Go(func() { w.write(ctx, i, c) })
	}
}

// administer allows and revokes users at random.
func (w *world) administer(ctx context.Context, i int, c *unibus.Client) {
	for ctx.Err() == nil {
		in := input{user: rand.IntN(len(w.users)), op: rand.IntN(2)}
		key := w.users[in.user].Key()
		op, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*timeout)
		began := time.Now()
		var err error
		if in.op == opAdd {
			err = c.AddUsers(op, unibus.NewUser{Key: key, Name: fmt.Sprintf("peer%d", in.user)})
		} else {
			err = c.RevokeUsers(op, "", key)
		}
		cancel()
		ended := time.Now()
		switch {
		case err == nil:
			w.record(i, in, done, began, ended)
			w.counts.changed.Add(1)
		case errors.Is(err, unibus.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			w.record(i, in, unknown, began, ended)
			w.counts.unknown.Add(1)
		case errors.Is(err, unibus.ErrConflict): // others were quicker, every time: it did not happen
			w.counts.lost.Add(1)
		case errors.Is(err, unibus.ErrIntegrity), errors.Is(err, unibus.ErrDenied):
			log.Printf("admin %d: %v", i, err)
			w.record(i, in, -1, began, ended)
		default: // a rule
			w.record(i, in, refused, began, ended)
			w.counts.refused.Add(1)
		}
		run.Pause(ctx, time.Duration(200+rand.IntN(1000))*time.Millisecond)
	}
}

// logIn logs a user in by way of one server after the other.
func (w *world) logIn(ctx context.Context, i int, id *unibus.Identity) {
	for n := i; ctx.Err() == nil; n++ {
		began := time.Now()
		c, err := bus.Dial(bus.DialOptions{Servers: server(n%nodes + 1), Identity: id, Bus: w.bus, Timeout: timeout})
		ended := time.Now()
		switch {
		case err == nil:
			c.Close()
			w.record(1000+i, input{i, opLogin}, done, began, ended)
			w.counts.granted.Add(1)
		case errors.Is(err, unibus.ErrDenied):
			w.record(1000+i, input{i, opLogin}, refused, began, ended)
			w.counts.denied.Add(1)
		default:
			w.counts.unanswered.Add(1)
		}
		run.Pause(ctx, time.Duration(400+rand.IntN(400))*time.Millisecond)
	}
}

// write publishes numbered messages, and notes those that were acknowledged.
func (w *world) write(ctx context.Context, i int, c *unibus.Client) {
	room, err := c.Room(ctx, "messages")
	for n := 0; ctx.Err() == nil; n++ {
		text := fmt.Sprintf("%d %d", i, n)
		if err == nil {
			op, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			err = room.Publish(op, []byte(text))
			cancel()
		}
		if err == nil {
			w.sent[i] = append(w.sent[i], text)
		} else {
			log.Printf("writer %d: %v", i, err)
			room, err = c.Room(ctx, "messages")
		}
		run.Pause(ctx, 20*time.Millisecond)
	}
}
