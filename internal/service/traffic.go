package service

import (
	"cmp"
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// What goes through the server that the service is connected to, as /metrics shows it. The server counts; it is asked now
// and then, in the system account.

// trafficWithin is how long the server may take to say what it has counted.
const trafficWithin = time.Second

// amount is so many messages, and the bytes of them.
type amount struct{ Msgs, Bytes float64 }

// carried is what a server has counted since it started. Those of clients leave out what goes between servers; an older
// server counts all in one.
type carried struct {
	Sent                amount
	SentToClients       amount `json:"sent_to_clients"`
	Received            amount
	ReceivedFromClients amount  `json:"received_from_clients"`
	SlowConsumers       float64 `json:"slow_consumers"`
}

// traffic is a collector of what a server has carried.
type traffic struct {
	sys             *nats.Conn
	last            atomic.Pointer[carried]
	msgs, size, cut *prometheus.Desc
}

// newTraffic has asked nobody yet, and shows nothing until then.
func newTraffic(sys *nats.Conn) *traffic {
	return &traffic{
		sys:  sys,
		msgs: prometheus.NewDesc("unibus_server_messages_total", "Messages that the NATS server beside this service took in from clients, and gave out to them, those of the service itself too.", []string{"direction"}, nil),
		size: prometheus.NewDesc("unibus_server_bytes_total", "Bytes of these messages.", []string{"direction"}, nil),
		cut:  prometheus.NewDesc("unibus_server_slow_consumers_total", "Connections that this server ended because they did not read what it had for them.", nil, nil),
	}
}

// ask has the server say what it has counted. A server that does not answer leaves what it said last.
func (t *traffic) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, trafficWithin)
	defer cancel()
	m, err := t.sys.RequestWithContext(ctx, "$SYS.REQ.SERVER."+t.sys.ConnectedServerId()+".STATSZ", nil)
	if err != nil {
		return
	}
	var said struct{ Statsz *carried }
	if json.Unmarshal(m.Data, &said) == nil && said.Statsz != nil {
		t.last.Store(said.Statsz)
	}
}

// Describe says what it collects.
func (t *traffic) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{t.msgs, t.size, t.cut} {
		out <- d
	}
}

// Collect tells what the server said last.
func (t *traffic) Collect(out chan<- prometheus.Metric) {
	c := t.last.Load()
	if c == nil {
		return
	}
	for direction, n := range map[string]amount{"in": cmp.Or(c.ReceivedFromClients, c.Received), "out": cmp.Or(c.SentToClients, c.Sent)} {
		out <- prometheus.MustNewConstMetric(t.msgs, prometheus.CounterValue, n.Msgs, direction)
		out <- prometheus.MustNewConstMetric(t.size, prometheus.CounterValue, n.Bytes, direction)
	}
	out <- prometheus.MustNewConstMetric(t.cut, prometheus.CounterValue, c.SlowConsumers)
}
