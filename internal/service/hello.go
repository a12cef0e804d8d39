package service

import (
	"encoding/json"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/store"
)

const (
	helloRate       = 200 // strangers answered in a second
	helloBurst      = 50
	helloEachRate   = 2 // answers to one connection in a second; one is enough for it
	helloEachBurst  = 4
	maxGreeted      = 2048    // connections remembered; the account holds no more at once
	helloPending    = 4096    // messages that have come and are not looked at yet
	helloPendingMax = 4 << 20 // bytes of them
)

// greeter answers strangers with the first statement of the bus log, and takes the card that one may
// send along. It does no more than its rate allows, and no connection has more than a few of its answers.
type greeter struct {
	answer  []byte
	all     *rate.Limiter
	each    *recent[string, *rate.Limiter] // by the subject, which the servers let one connection use
	offered func(card []byte)
	dropped func(why string)
}

func newGreeter(founded store.BusBody, offered func(card []byte), dropped func(why string)) (*greeter, error) {
	answer, err := json.Marshal(founded)
	return &greeter{
		answer: answer, all: rate.NewLimiter(helloRate, helloBurst), each: newRecent[string, *rate.Limiter](maxGreeted),
		offered: offered, dropped: dropped,
	}, err
}

// greet answers over a connection that can do nothing else.
func (g *greeter) greet(nc *nats.Conn) (*nats.Subscription, error) {
	sub, err := nc.QueueSubscribe(bus.HelloFilter, "unibus", g.receive)
	if err == nil {
		err = sub.SetPendingLimits(helloPending, helloPendingMax)
	}
	return sub, err
}

func (g *greeter) receive(m *nats.Msg) {
	one := g.each.getOrMake(m.Subject, func() *rate.Limiter { return rate.NewLimiter(helloEachRate, helloEachBurst) })
	if !one.Allow() || !g.all.Allow() {
		g.dropped("hello")
		return
	}
	_ = m.Respond(g.answer) // the caller has gone
	g.offered(m.Data)
}
