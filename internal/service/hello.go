package service

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/store"
)

// Saying hello is how a stranger learns which bus this is, over an account that holds nothing else (SPEC.md §7). Anyone on
// the network can do it, so it is answered at a rate, and what is sent without end ends the connection it comes by.

const (
	helloRate       = 200 // strangers answered in a second
	helloBurst      = 50
	helloDelay      = time.Second // that an answer waits for that rate
	helloEachRate   = 2           // answers to one connection in a second; one is enough for it
	helloEachBurst  = 4
	helloFlood      = 200     // hellos of one connection without an answer, after which it is dropped
	maxGreeted      = 2048    // connections remembered; the account holds no more at once
	helloPending    = 4096    // messages that have come and are not looked at yet
	helloPendingMax = 4 << 20 // bytes of them
)

// greeter answers strangers with the first statement of the bus log, and takes the card that one may
// send along. It does no more than its rate allows, and no connection has more than a few of its answers: one that goes
// on is dropped, since the servers remember each request for a while.
type greeter struct {
	answer  []byte
	all     *rate.Limiter
	each    *recent[string, *greeted] // by the subject, which the servers let one connection use
	offered func(card []byte)
	dropped func(why string)
	drop    func(subject string) // ends the connection that uses it; never waits
}

// greeted is one connection that says hello.
type greeted struct {
	answers *rate.Limiter
	ignored int
}

// newGreeter prepares the answer, which is the same for everyone.
func newGreeter(founded store.BusBody) (*greeter, error) {
	answer, err := json.Marshal(founded)
	return &greeter{answer: answer, all: rate.NewLimiter(helloRate, helloBurst), each: newRecent[string, *greeted](maxGreeted)}, err
}

// greet answers over a connection that can do nothing else.
func (g *greeter) greet(nc *nats.Conn) (*nats.Subscription, error) {
	sub, err := nc.QueueSubscribe(bus.HelloFilter, "unibus", g.receive)
	if err == nil {
		err = sub.SetPendingLimits(helloPending, helloPendingMax)
	}
	return sub, err
}

// receive answers a hello, at once or a little later, or leaves it without an answer. It never waits.
func (g *greeter) receive(m *nats.Msg) {
	one := g.each.getOrMake(m.Subject, func() *greeted { return &greeted{answers: rate.NewLimiter(helloEachRate, helloEachBurst)} })
	delay, ok := time.Duration(0), one.answers.Allow()
	if ok {
		delay, ok = inTurn(g.all, time.Now(), helloDelay)
	}
	if !ok {
		g.dropped("hello")
		if one.ignored++; one.ignored%helloFlood == 0 {
			g.drop(m.Subject)
		}
		return
	}
	answer := func() {
		_ = m.Respond(g.answer) // the caller has gone
		g.offered(m.Data)
	}
	if delay == 0 {
		answer()
		return
	}
	time.AfterFunc(delay, answer) // no more of them than the rate allows in helloDelay
}

// inTurn is how long something has to wait for a rate to allow it; false when that is too long.
func inTurn(l *rate.Limiter, now time.Time, longest time.Duration) (time.Duration, bool) {
	turn := l.ReserveN(now, 1)
	delay := turn.DelayFrom(now)
	if delay > longest {
		turn.CancelAt(now)
		return 0, false
	}
	return delay, true
}
