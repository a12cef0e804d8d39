package service

import (
	"sync"
	"time"
)

// Turns are how many share what one would use up. turns is the order itself, and pure; pool works on what it says is next,
// and is where the goroutines are.

// turnLimits bound what is worked on and what waits. Bytes are those of the requests in hand, from when
// they are taken until they are answered.
type turnLimits struct {
	atOnce   int // worked on, of all callers
	each     int // worked on, of one caller
	shared   int // the same while others ask, too; 0: as many
	inHand   int // of one caller, those worked on and those that wait
	bytes    int // of one caller
	allBytes int
}

// turns is who is next: callers take turns, each with its own requests in the order they came. A caller
// with many requests thus delays nobody's first one. It knows no time and starts nothing; pool does.
// It is not safe for concurrent use.
type turns[K comparable, J any] struct {
	limits  turnLimits
	callers map[K]*queue[J]
	order   []K // callers with something that may be started, the longest served ago first
	running int
	bytes   int

	started int // requests
	last    K   // whose was the latest
	changed int // started, when that was another's than the one before; 0: it never was
}

// company is among how many of the latest requests there has to be one of somebody else for a caller not to be alone.
const company = 256

// each is how many of one caller's requests may be worked on.
func (t *turns[K, J]) each() int {
	if t.inCompany() {
		return t.limits.shared
	}
	return t.limits.each
}

// inCompany reports whether callers have fewer at once, since several ask.
func (t *turns[K, J]) inCompany() bool {
	return t.limits.shared > 0 && t.changed > 0 && t.started-t.changed < company
}

// countStart remembers whose request is started.
func (t *turns[K, J]) countStart(caller K) {
	if t.started++; t.started > 1 && caller != t.last {
		t.changed = t.started
	}
	t.last = caller
}

// queue is one caller's requests.
type queue[J any] struct {
	waiting []job[J]
	running int
	inHand  int
	bytes   int
	listed  bool // in turns.order
}

// job is one request and how many bytes it has.
type job[J any] struct {
	size int
	do   J
}

// reserve makes room for a request of some bytes; false when its caller has too much in hand, or all
// callers together have. What was reserved is given back by done.
func (t *turns[K, J]) reserve(caller K, size int) bool {
	q := t.callers[caller]
	if q == nil {
		q = &queue[J]{}
	}
	l := &t.limits
	if q.inHand >= l.inHand || q.bytes+size > l.bytes || t.bytes+size > l.allBytes {
		return false
	}
	if t.callers == nil {
		t.callers = map[K]*queue[J]{}
	}
	t.callers[caller] = q
	q.inHand++
	q.bytes += size
	t.bytes += size
	return true
}

// put lets a request wait for its turn, for which room was reserved.
func (t *turns[K, J]) put(caller K, size int, do J) {
	q := t.callers[caller]
	q.waiting = append(q.waiting, job[J]{size, do})
	t.list(caller, q)
}

// list puts a caller at the end of those whose turn comes, if anything of it may be started.
func (t *turns[K, J]) list(caller K, q *queue[J]) {
	if !q.listed && len(q.waiting) > 0 && q.running < t.each() {
		q.listed = true
		t.order = append(t.order, caller)
	}
}

// next starts a request: done has to follow once it is answered. ok is false when none waits, or as many
// as may be are worked on.
func (t *turns[K, J]) next() (caller K, next job[J], ok bool) {
	if t.running >= t.limits.atOnce || len(t.order) == 0 {
		return caller, next, false
	}
	caller = t.order[0]
	t.order = t.order[1:]
	t.countStart(caller)
	q := t.callers[caller]
	q.listed = false
	next = q.waiting[0]
	q.waiting[0] = job[J]{} // its bytes go when it is answered, not when the queue's array does
	q.waiting = q.waiting[1:]
	q.running++
	t.running++
	t.list(caller, q)
	return caller, next, true
}

// done ends a request that next started.
func (t *turns[K, J]) done(caller K, size int) {
	t.running--
	t.callers[caller].running--
	t.giveBack(caller, size)
}

// giveBack ends a reservation of which nothing was put.
func (t *turns[K, J]) giveBack(caller K, size int) {
	q := t.callers[caller]
	q.inHand--
	q.bytes -= size
	t.bytes -= size
	if q.inHand == 0 {
		delete(t.callers, caller)
		return
	}
	t.list(caller, q)
}

// While several ask, what worked on one's request rests after it: so much longer than that took, the longer the more
// it cost, or the busier the machine is. One who asks all the time has a part of the machine, and leaves the rest; one
// who waits for its answers hardly notices.
const (
	restFactor = 3
	maxRest    = 25 * time.Millisecond
)

// pool works on requests in turns, each in a goroutine.
type pool[K comparable] struct {
	start func(...func()) bool // a tasks.Group's Go
	safe  func(func())         // runs a request; what panics is an error of that request alone

	mu    sync.Mutex
	turns turns[K, func()]
}

// newPool works in what start starts, with as much as limits allow.
func newPool[K comparable](start func(...func()) bool, safe func(func()), limits turnLimits) *pool[K] {
	return &pool[K]{start: start, safe: safe, turns: turns[K, func()]{limits: limits}}
}

// offer works on a request when its turn comes. It never waits; false when there is no room for it.
func (p *pool[K]) offer(caller K, size int, do func()) bool {
	if !p.reserve(caller, size) {
		return false
	}
	p.put(caller, size, do)
	return true
}

// reserve makes room for a request that put or giveBack follows.
func (p *pool[K]) reserve(caller K, size int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turns.reserve(caller, size)
}

// giveBack ends a reservation of which nothing was put.
func (p *pool[K]) giveBack(caller K, size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turns.giveBack(caller, size)
}

// put works on a request for which room was reserved, when its turn comes.
func (p *pool[K]) put(caller K, size int, do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turns.put(caller, size, do)
	if caller, first, ok := p.turns.next(); ok && !p.start(func() { p.work(caller, first) }) {
		p.turns.done(caller, first.size) // everything is ending: nobody will be answered any more
	}
}

// work does a request, and others whose turn has come, until there is none.
func (p *pool[K]) work(caller K, next job[func()]) {
	for ok := true; ok; {
		began := time.Now()
		p.safe(next.do)
		p.mu.Lock()
		if p.turns.inCompany() {
			p.mu.Unlock()
			time.Sleep(min(restFactor*time.Since(began), maxRest))
			p.mu.Lock()
		}
		p.turns.done(caller, next.size)
		caller, next, ok = p.turns.next()
		p.mu.Unlock()
	}
}
