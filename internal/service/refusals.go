package service

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/unibus/unibus/internal/crypto"
)

// What becomes of who asks more than it is answered, in three steps: it is told that the service is busy; it is not told any
// more, which costs less; it is dropped.

const (
	busyRate   = 200      // answers that the service is busy, to one caller in a second
	busyBurst  = 512      // of them at once: more than a well-behaved client has requests under way
	floodRate  = 2000     // requests of one caller beyond its queue, in a second, after which it is dropped
	floodUnit  = 16 << 10 // bytes that count as one more request
	barredFor  = 10 * time.Second
	maxRefused = 4096 // callers remembered
)

// refusals is what becomes of callers who ask for more than their queue holds. They are told so at a
// bounded rate; who takes no notice loses its connections, and is let in again after a while: what a
// connection sends costs the servers time that no queue gives back.
type refusals struct {
	callers *recent[crypto.PublicKey, *refused]
}

// refused is one caller's lately refused requests.
type refused struct {
	mu      sync.Mutex
	answers *rate.Limiter
	since   time.Time // when the second began in which count were refused
	count   int
	barred  time.Time // until then
}

// newRefusals has refused nobody yet.
func newRefusals() *refusals {
	return &refusals{newRecent[crypto.PublicKey, *refused](maxRefused)}
}

// refuse notes a refused request of some bytes, and says whether to answer it, and whether its caller has just become
// one to be dropped. Those of whom nobody knows who they are have one queue, and are never dropped.
func (r *refusals) refuse(caller crypto.PublicKey, size int, now time.Time) (answer, drop bool) {
	c := r.callers.getOrMake(caller, func() *refused { return &refused{answers: rate.NewLimiter(busyRate, busyBurst)} })
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) >= time.Second {
		c.since, c.count = now, 0
	}
	was := c.count
	if c.count += 1 + size/floodUnit; was < floodRate && c.count >= floodRate && caller != (crypto.PublicKey{}) {
		c.barred = now.Add(barredFor)
		return false, true
	}
	return c.answers.AllowN(now, 1), false
}

// barred reports whether a caller was dropped a moment ago.
func (r *refusals) isBarred(caller crypto.PublicKey, now time.Time) bool {
	c, ok := r.callers.get(caller)
	if !ok {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Before(c.barred)
}
