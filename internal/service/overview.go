package service

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// What anyone may know of how a bus is: whether it is well, and how many there are of what it holds, never who or which.
// The page for browsers and /metrics show it. However many ask, it is found out once in overviewLife, so that strangers
// can give the store no work.

const (
	overviewLife   = 2 * time.Second // for which what was found is told again
	overviewWithin = 3 * time.Second // for the store to show that it can be relied on
)

// condition is how a bus is.
type condition string

const (
	well   condition = "well"
	full   condition = "full"   // nothing can be kept: the disk has no room
	unsure condition = "unsure" // the store cannot be relied on just now
)

// overview is how a bus was at a time. It does not change once it was made.
type overview struct {
	Condition   condition
	Users       int // who may connect
	Connections int // of users, on all servers
	Rooms       int // that are not archived; of which Counted says that they were counted
	Counted     bool
	At          time.Time
}

// roomTally is how many rooms there were when they were last counted, by a look at their streams that goes through all of
// them anyway.
type roomTally struct{ n atomic.Int64 }

// set notes a count.
func (c *roomTally) set(n int) { c.n.Store(int64(n) + 1) }

// get is the last count; false when there was none yet.
func (c *roomTally) get() (int, bool) {
	n := int(c.n.Load())
	return max(n-1, 0), n > 0
}

// lookout finds out how the bus is, for everyone who asks within a while at once.
type lookout struct {
	ctx    context.Context // of the service: who asked first may go while others wait for the same
	store  store.Allowlist
	watch  *watch
	roster *roster
	crowd  *crowd
	own    []crypto.PublicKey // of the service's own connections, which are no user's
	now    func() time.Time

	last    atomic.Pointer[overview]
	looking sync.Mutex // held by the one who looks; the others wait for what it finds
}

// newLookout has looked at nothing yet; it needs the parts of a service that know.
func newLookout(run context.Context, o Options, w *watch, r *roster, c *crowd) *lookout {
	l := &lookout{ctx: run, store: o.Store, watch: w, roster: r, crowd: c, now: time.Now}
	for _, user := range o.Links.Users() {
		if key, err := crypto.ParsePublicKey(user); err == nil {
			l.own = append(l.own, key)
		}
	}
	return l
}

// overview is how the bus is, or was overviewLife ago at most.
func (l *lookout) overview() *overview {
	if o := l.recent(); o != nil {
		return o
	}
	l.looking.Lock()
	defer l.looking.Unlock()
	o := l.recent() // by the look that was waited for
	if o == nil {
		o = l.look()
		l.last.Store(o)
	}
	return o
}

// recent is what was found a moment ago; nil if nobody has looked since.
func (l *lookout) recent() *overview {
	if o := l.last.Load(); o != nil && l.now().Sub(o.At) < overviewLife {
		return o
	}
	return nil
}

// look finds out how the bus is. Of the store it asks one question; all else the service knows.
func (l *lookout) look() *overview {
	ctx, cancel := context.WithTimeout(l.ctx, overviewWithin)
	defer cancel()
	o := &overview{Condition: well}
	if l.watch.healthy() != nil {
		o.Condition = full
	} else if reliable(ctx, l.store) != nil {
		o.Condition = unsure
	}
	o.At = l.now() // after the store has answered, which may have taken longer than what it said counts
	o.Users, o.Connections = l.roster.count(o.At), l.crowd.bus.sizeWithout(l.own...)
	o.Rooms, o.Counted = l.watch.streams.rooms.get()
	return o
}

// register shows it in a registry, too.
func (l *lookout) register(registry prometheus.Registerer) {
	for _, g := range []struct {
		name, help string
		value      func(o *overview) int
	}{
		{"unibus_healthy", "1 while the bus is well: its store can be relied on, and what it is given is kept, as /healthz has it.", (*overview).healthy},
		{"unibus_users", "Users who may connect.", func(o *overview) int { return o.Users }},
		{"unibus_connections", "Connections of users, on all servers.", func(o *overview) int { return o.Connections }},
		{"unibus_rooms", "Rooms that are not archived.", func(o *overview) int { return o.Rooms }},
	} {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: g.name, Help: g.help}, func() float64 {
			return float64(g.value(l.overview()))
		}))
	}
}

// healthy is 1 if the bus is well.
func (o *overview) healthy() int {
	if o.Condition == well {
		return 1
	}
	return 0
}
