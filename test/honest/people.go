//go:build unix

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/unibus/unibus/test/run"
)

// This file is what people do one after the other in a round, each judged as it ends.

// people do one round on a bus.
type people struct {
	*bus
	ctx   context.Context
	dice  *rand.Rand
	actor string
}

// anybody is one of the members.
func (p *people) anybody() run.Peer { return p.bus.people[p.dice.IntN(len(p.bus.people))] }

// some is a duration at random, below a limit.
func (p *people) some(limit time.Duration) time.Duration {
	return time.Duration(p.dice.Int64N(int64(limit)))
}

// trims is a room that is trimmed all the time.
func (p *people) trims() *room { return p.bus.trimmed[p.dice.IntN(len(p.bus.trimmed))] }

// published judges a run of pub.
func (p *people) published(r *room, res result, besides ...int) {
	p.j.process(p.bus, p.actor, r.subject, res, besides...)
	p.j.count(p.actor, func(n *numbers) { n.acknowledged += res.acked })
}

// puts writes a series from beginning to end.
func (p *people) puts(who run.Peer, r *room, w writing) {
	p.published(r, p.bus.write(p.ctx, who, r, w))
}

// reads runs sub, and judges its lines. A room that keeps its lines, read from the first to the last, has to show
// all that was acknowledged before.
func (p *people) reads(who run.Peer, r *room, args ...string) {
	before := r.snapshot()
	res := p.bus.run(p.ctx, order{who: who, args: append([]string{"sub", r.subject}, args...)})
	whole := len(args) == 2 && args[0] == "--all" && args[1] == "--end" && !r.trimmed && who.Key != p.guest.Key
	if !whole {
		before = nil
	}
	p.judged(r, res, before)
}

// judged judges what a run of sub came to.
func (p *people) judged(r *room, res result, before map[string]series, besides ...int) {
	ok := p.j.process(p.bus, p.actor, r.subject, res, besides...)
	lines := reading{}
	n, err := lines.take(res.out, r.snapshot())
	p.j.count(p.actor, func(all *numbers) { all.lines += n })
	if err == nil && ok {
		err = lines.complete(before)
	}
	if err != nil {
		p.j.fail(p.actor, r.subject, errors.Join(err, errors.New(res.String())))
	}
}

// verifies runs verify for a room.
func (p *people) verifies(who run.Peer, r *room) {
	p.j.process(p.bus, p.actor, r.subject, p.bus.run(p.ctx, order{who: who, args: []string{"verify", r.subject}}))
}

// does runs a command of somebody, which has to succeed.
func (p *people) does(who run.Peer, r *room, args ...string) bool {
	return p.may(who, r, done, args...)
}

// may is does of what may have been done before, by a command that ended with 5: then it ends with another code.
func (p *people) may(who run.Peer, r *room, already int, args ...string) bool {
	ended := p.bus.run(p.ctx, order{who: who, args: args})
	return p.j.process(p.bus, p.actor, r.subject, ended, already) || ended.code == already
}

// follows reads as long as the returned function is not called, which then ends the reader and judges it.
func (p *people) follows(who run.Peer, r *room, besides []int, args ...string) (end func()) {
	signals := make(chan syscall.Signal, 1)
	ended := make(chan result, 1)
	go func() {
		ended <- p.bus.run(p.ctx, order{who: who, args: append([]string{"sub", r.subject}, args...), signals: signals})
	}()
	return func() {
		signals <- syscall.SIGINT
		p.judged(r, <-ended, nil, besides...)
	}
}

// killing is a signal at some moment.
func (p *people) killing(within time.Duration) <-chan syscall.Signal {
	c := make(chan syscall.Signal, 1)
	time.AfterFunc(p.some(within), func() { c <- syscall.SIGKILL })
	return c
}
