//go:build unix

package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/unibus/unibus/test/run"
)

// round is what some people do in a room for some seconds.
type round struct {
	name  string
	often int // relative to others
	do    func(*people)
}

// rounds are all there are. Those that change a room stand in changes.go; what each is made of in people.go.
var rounds = []round{
	{"write", 4, writeAlone},
	{"killed writer", 4, killWriter},
	{"two writers", 4, twoWriters},
	{"slow reader", 4, slowReader},
	{"trimming", 4, readTrimmed},
	{"late reader", 3, lateReader},
	{"members", 3, comeAndGo},
	{"nothing stored", 3, storeNothing},
	{"archive", 1, archiveRoom},
	{"clock", 4, stepClock},
	{"verify", 2, verifyAny},
	{"pattern", 1, readAll},
}

// round does one that is chosen at random.
func (b *bus) round(ctx context.Context, dice *rand.Rand) {
	b.still.RLock()
	defer b.still.RUnlock()
	var hat []round
	for _, r := range rounds {
		for range r.often {
			if *only == "" || *only == r.name {
				hat = append(hat, r)
			}
		}
	}
	r := hat[dice.IntN(len(hat))]
	p := &people{b, ctx, dice, b.name + ": " + r.name}
	b.j.count(p.actor, func(n *numbers) { n.times++ })
	r.do(p)
}

// writeAlone is a writer who is left alone.
func writeAlone(p *people) {
	r := p.keeping(p.ctx)
	p.puts(p.anybody(), r, writing{lines: 20 + p.dice.IntN(300), length: 20 + p.dice.IntN(200), pace: p.some(15 * time.Millisecond)})
	if p.dice.IntN(3) == 0 {
		p.reads(p.anybody(), r, "--all", "--end")
	}
}

// killWriter kills a writer at some moment, who writes again and is read.
func killWriter(p *people) {
	r, who := p.keeping(p.ctx), p.anybody()
	if p.dice.IntN(4) == 0 {
		r = p.trims()
	}
	for range 1 + p.dice.IntN(3) {
		p.puts(who, r, writing{lines: 1000, length: 50, pace: p.some(10 * time.Millisecond), kill: p.killing(3 * time.Second)})
	}
	p.puts(who, r, writing{lines: 1, length: 50})
	p.reads(p.anybody(), r, "--all", "--end")
}

// twoWriters write at the same time with one state directory, and one of them may be killed.
func twoWriters(p *people) {
	r, who := p.keeping(p.ctx), p.anybody()
	first := writing{lines: 50 + p.dice.IntN(300), length: 60, pace: p.some(10 * time.Millisecond)}
	second := first
	if p.dice.IntN(2) == 0 {
		second.kill = p.killing(3 * time.Second)
	}
	var both sync.WaitGroup
	both.Go(func() { p.puts(who, r, first) })
	both.Go(func() { p.puts(who, r, second) })
	both.Wait()
	p.puts(who, r, writing{lines: 1, length: 60})
	p.reads(p.anybody(), r, "--all", "--end")
}

// starts are the ways to begin to read.
var starts = [][]string{{"--all"}, {"--last", "50"}, {"--last", "3"}, {"--since", "3s"}, {"--since", "1h"}, {"--new"}}

// slowReader is a reader who is stopped again and again while the room is trimmed.
func slowReader(p *people) {
	r := p.trims()
	signals := make(chan syscall.Signal)
	args := append([]string{"sub", r.subject}, starts[p.dice.IntN(len(starts))]...)
	who, writer := p.anybody(), p.anybody()
	stops := make([]time.Duration, 6)
	for i := range stops {
		stops[i] = p.some(4 * time.Second)
	}
	load := writing{lines: 4000, length: 100 + p.dice.IntN(1000), pace: time.Millisecond + p.some(10*time.Millisecond)}
	until := make(chan struct{})
	load.until = until
	var all sync.WaitGroup
	all.Go(func() {
		p.judged(r, p.bus.run(p.ctx, order{who: who, args: args, signals: signals}), nil)
	})
	all.Go(func() { p.puts(writer, r, load) })
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	send := func(s syscall.Signal) {
		select {
		case signals <- s:
		case <-ended:
		case <-time.After(time.Second): // it has ended by itself, which is judged
		}
	}
	for i := 0; i < len(stops); i += 2 {
		run.Pause(p.ctx, stops[i])
		send(syscall.SIGSTOP)
		run.Pause(p.ctx, stops[i+1])
		send(syscall.SIGCONT)
	}
	close(until)
	run.Pause(p.ctx, time.Second)
	send(syscall.SIGINT)
	all.Wait()
}

// readTrimmed reads a room from everywhere while it is trimmed.
func readTrimmed(p *people) {
	r := p.trims()
	load := writing{lines: 300 + p.dice.IntN(1000), length: 100 + p.dice.IntN(2000), pace: p.some(12 * time.Millisecond)}
	writer := p.anybody()
	var writes sync.WaitGroup
	writes.Go(func() { p.puts(writer, r, load) })
	for range 4 {
		run.Pause(p.ctx, p.some(2*time.Second))
		p.reads(p.anybody(), r, append(starts[p.dice.IntN(5)], "--end")...)
	}
	writes.Wait()
	p.verifies(p.anybody(), r)
}

// lateReader is a reader who comes again and again to read what came since.
func lateReader(p *people) {
	r, who := p.trims(), p.anybody()
	if p.dice.IntN(2) == 0 {
		r = p.keeping(p.ctx)
	}
	since := time.Now()
	for range 3 {
		p.puts(p.anybody(), r, writing{lines: 50, length: 400, pace: p.some(20 * time.Millisecond)})
		run.Pause(p.ctx, p.some(4*time.Second))
		next := time.Now()
		p.reads(who, r, "--since", since.UTC().Format(time.RFC3339), "--end")
		since = next
	}
}

// verifyAny checks whatever there is.
func verifyAny(p *people) {
	all := p.rooms()
	r := all[p.dice.IntN(len(all))]
	switch who := p.anybody(); p.dice.IntN(4) {
	case 0:
		p.does(who, &room{subject: "(bus)"}, "verify", "--bus")
	case 1:
		p.does(who, r, "log", r.subject)
	default:
		p.verifies(who, r)
	}
}

// readAll reads all rooms together.
func readAll(p *people) {
	who := p.anybody()
	p.judged(&room{subject: "trim.*"}, p.bus.run(p.ctx, order{who: who, args: []string{"sub", "trim.*", "kept", "--all", "--end"}}), nil)
}
