//go:build unix

package main

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/test/run"
)

// These are the rounds in which a room itself changes, or somebody's clock does.

// comeAndGo has a guest come into a room and go again while it is written and read.
func comeAndGo(p *people) {
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

// storeNothing has a room store nothing for a while.
func storeNothing(p *people) {
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

// archiveRoom archives a room while it is written and read.
func archiveRoom(p *people) {
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

// stepClock has a writer's clock step back.
func stepClock(p *people) {
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
