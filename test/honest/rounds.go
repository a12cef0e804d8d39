//go:build unix

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/test/run"
)

// round is what some people do in a room for some seconds.
type round struct {
	name  string
	often int // relative to others
	do    func(*people)
}

var rounds = []round{
	{"write", 4, (*people).write},
	{"killed writer", 4, (*people).killed},
	{"two writers", 4, (*people).two},
	{"slow reader", 4, (*people).slow},
	{"trimming", 4, (*people).trim},
	{"late reader", 3, (*people).late},
	{"members", 3, (*people).members},
	{"nothing stored", 3, (*people).nothing},
	{"archive", 1, (*people).archive},
	{"clock", 4, (*people).clock},
	{"verify", 2, (*people).verify},
	{"pattern", 1, (*people).pattern},
}

// people do one round on a bus.
type people struct {
	*bus
	ctx   context.Context
	dice  *rand.Rand
	actor string
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

// write is a writer who is left alone.
func (p *people) write() {
	r := p.keeping(p.ctx)
	p.puts(p.anybody(), r, writing{lines: 20 + p.dice.IntN(300), length: 20 + p.dice.IntN(200), pace: p.some(15 * time.Millisecond)})
	if p.dice.IntN(3) == 0 {
		p.reads(p.anybody(), r, "--all", "--end")
	}
}

// killing is a signal at some moment.
func (p *people) killing(within time.Duration) <-chan syscall.Signal {
	c := make(chan syscall.Signal, 1)
	time.AfterFunc(p.some(within), func() { c <- syscall.SIGKILL })
	return c
}

// killed is a writer who is killed at some moment, writes again, and is read.
func (p *people) killed() {
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

// two write at the same time with one state directory, and one of them may be killed.
func (p *people) two() {
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

// slow is a reader who is stopped again and again while the room is trimmed.
func (p *people) slow() {
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

// trim is a room that is trimmed while it is read from everywhere.
func (p *people) trim() {
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

// late is a reader who comes again and again to read what came since.
func (p *people) late() {
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

// members come and go while a room is written and read.
func (p *people) members() {
	r := p.bus.shared
	if p.dice.IntN(2) == 0 {
		r = p.bus.joined
	}
	if !r.turn.TryLock() {
		return
	}
	defer r.turn.Unlock()
	owner, guest := p.founder, p.guest
	until := make(chan struct{})
	end := p.follows(p.bus.people[1], r, nil, "--new")
	var writes sync.WaitGroup
	writes.Go(func() {
		p.puts(p.bus.people[2], r, writing{lines: 3000, length: 60, pace: 8 * time.Millisecond, until: until})
	})
	for range 2 {
		if !p.may(owner, r, conflict, "invite", r.subject, key(guest)) {
			break
		}
		p.reads(guest, r, "--all", "--end")
		left := p.follows(guest, r, []int{denied}, "--all")
		p.puts(guest, r, writing{lines: 20, length: 60})
		if p.dice.IntN(2) == 0 {
			p.does(owner, r, "rekey", r.subject)
		}
		p.reads(guest, r, "--last", "20", "--end")
		p.verifies(guest, r)
		if !p.does(owner, r, "kick", r.subject, key(guest)) {
			p.may(owner, r, notFound, "kick", r.subject, key(guest))
		}
		left()
	}
	close(until)
	writes.Wait()
	end()
	p.reads(p.anybody(), r, "--all", "--end")
	p.verifies(p.anybody(), r)
}

// nothing is stored for a while.
func (p *people) nothing() {
	r := p.bus.switched
	if !r.turn.TryLock() {
		return
	}
	defer r.turn.Unlock()
	until := make(chan struct{})
	end := p.follows(p.bus.people[1], r, nil, "--all")
	var writes sync.WaitGroup
	for _, who := range p.bus.people[:2] {
		writes.Go(func() {
			p.puts(who, r, writing{lines: 5000, length: 60, pace: 5 * time.Millisecond, until: until, parted: true})
		})
	}
	run.Pause(p.ctx, p.some(3*time.Second))
	stores := true
	for range 2 {
		if p.does(p.founder, r, "room", "set", r.subject, "--retain", "none", "--yes") {
			stores = false
		}
		run.Pause(p.ctx, p.some(3*time.Second))
		p.puts(p.bus.people[2], r, writing{lines: 1, length: 60})
		if p.does(p.founder, r, "room", "set", r.subject, "--retain", "1h") {
			stores = true
		}
		run.Pause(p.ctx, p.some(3*time.Second))
		p.reads(p.anybody(), r, "--all", "--end")
	}
	close(until)
	writes.Wait()
	end()
	r.emptied() // what was written before is gone, in part
	if !stores {
		return
	}
	p.puts(p.bus.people[0], r, writing{lines: 10, length: 60})
	p.reads(p.anybody(), r, "--all", "--end")
	p.verifies(p.anybody(), r)
}

// archive archives a room while it is written and read.
func (p *people) archive() {
	r, err := p.newRoom(p.ctx, p.unique("archive."), false)
	if err != nil {
		tell("%v", err)
		return
	}
	until := make(chan struct{})
	end := p.follows(p.bus.people[1], r, []int{denied}, "--all")
	var writes sync.WaitGroup
	for _, who := range p.bus.people[1:] {
		writes.Go(func() {
			res := p.bus.write(p.ctx, who, r, writing{lines: 2000, length: 60, pace: 5 * time.Millisecond, until: until})
			p.published(r, res, denied)
		})
	}
	run.Pause(p.ctx, time.Second+p.some(3*time.Second))
	archived := p.does(p.founder, r, "room", "archive", r.subject, "--yes")
	run.Pause(p.ctx, p.some(2*time.Second))
	p.reads(p.founder, r, "--all", "--end")
	close(until)
	writes.Wait()
	end()
	p.reads(p.anybody(), r, "--all", "--end")
	p.verifies(p.anybody(), r)
	r.archived = archived
	p.mu.Lock()
	defer p.mu.Unlock()
	p.past = append(p.past, r)
}

// ahead is as far as a clock may be with which one can log in, and a little less.
const ahead = crypto.TokenSkew - 10*time.Second

// offsets are ways in which a clock is wrong, one after the other.
var offsets = [][]time.Duration{
	{0, -2 * time.Minute}, {0, -time.Hour, 0}, {30 * time.Second, 0, -30 * time.Second}, {-20 * time.Minute},
	{ahead, ahead - time.Minute, 0}, {ahead, -2 * time.Hour}, {0, -3 * time.Second},
}

// clock is a writer whose clock steps back.
func (p *people) clock() {
	r := p.keeping(p.ctx)
	if p.dice.IntN(2) == 0 {
		r = p.trims()
	}
	name := p.unique("clock")
	who, set, env := p.bus.clock.of(p.anybody(), name)
	defer os.Remove(filepath.Join(p.bus.clock.file + "-" + name))
	steps := offsets[p.dice.IntN(len(offsets))]
	if err := set(steps[0]); err != nil {
		p.j.fail(p.actor, r.subject, err)
		return
	}
	until := make(chan struct{})
	var writes sync.WaitGroup
	writes.Go(func() {
		p.puts(who, r, writing{lines: 2000, length: 200, pace: 8 * time.Millisecond, until: until, env: []string{env}, parted: true})
	})
	for _, step := range steps[1:] {
		run.Pause(p.ctx, time.Second+p.some(3*time.Second))
		if err := set(step); err != nil {
			p.j.fail(p.actor, r.subject, err)
		}
		tell("%s: %s: the clock of %s is off by %v", p.actor, r.subject, filepath.Base(who.Identity), step)
	}
	run.Pause(p.ctx, time.Second+p.some(3*time.Second))
	close(until)
	writes.Wait()
	who.Binary = *binary
	for range 2 {
		p.reads(p.anybody(), r, "--all", "--end")
		p.puts(who, r, writing{lines: 3, length: 200})
		run.Pause(p.ctx, p.some(6*time.Second)) // until some of it is trimmed
	}
	p.reads(p.anybody(), r, "--last", "30", "--end")
	p.verifies(p.anybody(), r)
}

// verify checks whatever there is.
func (p *people) verify() {
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

// pattern reads all rooms together.
func (p *people) pattern() {
	who := p.anybody()
	p.judged(&room{subject: "trim.*"}, p.bus.run(p.ctx, order{who: who, args: []string{"sub", "trim.*", "kept", "--all", "--end"}}), nil)
}
