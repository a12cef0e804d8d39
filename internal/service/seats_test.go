package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// TestSeats reads lines for two seats at each place and a queue of two: "a1" is a login of connection 1 at
// place a, "-1" that connection 1 has gone, "+2" that 2 s pass. A grant lasts 5 s, a wait 1 s. The answer
// lists those who got a seat, in order, and in brackets who was turned away.
func TestSeats(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"there is room", "a1 a2", "1 2"},
		{"the third waits", "a1 a2 a3", "1 2"},
		{"until one goes", "a1 a2 a3 -1", "1 2 3"},
		{"elsewhere there is room", "a1 a2 a3 b4", "1 2 4"},
		{"the longest waiting is next", "a1 a2 a3 a4 -2 -1", "1 2 3 4"},
		{"who comes later does not pass by", "a1 a2 a3 -1 a5 -2", "1 2 3 5"},
		{"the queue is full", "a1 a2 a3 a4 a5", "1 2 [5]"},
		{"all queues together", "a1 a2 a3 a4 b1 b2 b3 b4", "1 2 1 2 [4]"},
		{"too late", "a1 a2 a3 +2 -1 a4", "1 2 4"},
		{"a grant that nobody used ends", "a1 a2 +6 a3 a4", "1 2 3 4"},
		{"one that has gone twice counts once", "a1 a2 -1 -1 a3 a4", "1 2 3"},
		{"one that nobody knew has gone", "-9 a1 a2 a3", "1 2"},
	} {
		s := newSeats[string](2, 2, 3)
		now := time.Unix(1e9, 0)
		var got []string
		for word := range strings.FieldsSeq(c.line) {
			id := uint64(word[1] - '0')
			switch word[0] {
			case '+':
				now = now.Add(time.Duration(id) * time.Second)
				s.sweep(now)
			case '-':
				s.left(connID{"s", id}, now)
			default:
				place := word[:1]
				conn := connID{"s", id}
				if place == "b" {
					conn.server = "t"
				}
				if !s.takeOrWait(place, conn, now, 5*time.Second, time.Second, func() { got = append(got, word[1:]) }) {
					got = append(got, "["+word[1:]+"]")
				}
			}
		}
		if out := strings.Join(got, " "); out != c.want {
			t.Errorf("%s: %s > %s, not %s", c.name, c.line, out, c.want)
		}
		for place, queue := range s.waiting {
			if len(queue) == 0 {
				t.Errorf("%s: the place %s is remembered though nobody waits there", c.name, place)
			}
		}
	}
	s, now := newSeats[string](1, 0, 0), time.Unix(1e9, 0)
	if !s.take("a", connID{"s", 1}, now, time.Second) || s.take("a", connID{"s", 2}, now, time.Second) || s.has(connID{"s", 2}) {
		t.Error("more seats are taken than there are")
	}
}

// TestCrowdEvents: what servers tell all services is counted by each, whoever let the connection in.
func TestCrowdEvents(t *testing.T) {
	c := newCrowd(time.Now)
	key := person(t, 1).Key()
	tell := func(account, what, server string, id int) {
		c.event(&nats.Msg{Subject: "$SYS.ACCOUNT." + account + "." + what, Data: fmt.Appendf(nil,
			`{"server":{"id":%q},"client":{"id":%d,"user":%q,"host":"2001:db8::%d"}}`, server, id, key, id)})
	}
	tell("BUS", "CONNECT", "s", 1)
	tell("BUS", "CONNECT", "s", 2)
	tell("BUS", "CONNECT", "t", 1)
	tell("STORE", "CONNECT", "s", 3)
	tell("BUS", "SERVER.CONNS", "s", 6)
	tell("BUS", "CONNECT", "", 7)
	tell("DOOR", "CONNECT", "s", 4)
	tell("DOOR", "CONNECT", "s", 5)
	c.cameIn(connID{"s", 8}, "no key")
	counts := func() []int {
		return []int{c.bus.count[key], c.door.count["2001:db8::/64"], len(c.bus.taken) + len(c.door.taken)}
	}
	if got := counts(); !slices.Equal(got, []int{3, 2, 5}) {
		t.Errorf("they came: %v", got)
	}
	tell("BUS", "DISCONNECT", "s", 1)
	tell("DOOR", "DISCONNECT", "s", 4)
	if got := counts(); !slices.Equal(got, []int{2, 1, 3}) {
		t.Errorf("two went: %v", got)
	}
	c.bus.serverLeft("t", time.Now())
	if got := counts(); !slices.Equal(got, []int{1, 1, 2}) {
		t.Errorf("a server stopped: %v", got)
	}
	c.event(&nats.Msg{Subject: "$SYS.ACCOUNT.BUS.CONNECT", Data: []byte("{")})
}

// TestSeed: who is connected when a service starts is counted, but for those who have gone since.
func TestSeed(t *testing.T) {
	n, admin := node(t, "")
	mustDial(t, n, admin, n.Bus)
	here, gone := newCrowd(time.Now), newCrowd(time.Now)
	if err := here.seed(t.Context(), n.Links().Sys); err != nil || here.bus.count[admin.Key()] != 1 {
		t.Fatalf("%d connections are counted, %v", here.bus.count[admin.Key()], err)
	}
	for conn := range here.bus.taken {
		gone.gone.put(conn, struct{}{})
	}
	if err := gone.seed(t.Context(), n.Links().Sys); err != nil || len(gone.bus.taken) != 0 {
		t.Errorf("%d connections that have gone are counted, %v", len(gone.bus.taken), err)
	}
}

// TestDropUnknownHello: one who says hello, and was let in by another service, is that one's to drop.
func TestDropUnknownHello(t *testing.T) {
	c := newCrowd(time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	var wait tasks.Group
	drop := c.dropHello(ctx, nil, &wait) // which has no connection to drop it over
	drop("elsewhere")
	cancel()
	wait.Wait()
}

// TestCrowdNotServed: a service that cannot be told who comes and goes, or who is there, says so.
func TestCrowdNotServed(t *testing.T) {
	n, admin := node(t, "")
	peer := mustDial(t, n, admin, n.Bus)
	peer.Close()
	c := newCrowd(time.Now)
	if _, err := c.follow(peer.Conn); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("it follows over a closed connection: %v", err)
	}
	if err := c.seed(t.Context(), peer.Conn); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("it asks over a closed connection: %v", err)
	}
	if _, err := new(greeter).greet(peer.Conn); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("it greets over a closed connection: %v", err)
	}
	sys := n.Links().Sys
	sub, err := sys.Subscribe("$SYS.REQ.SERVER.PING.CONNZ", func(m *nats.Msg) { _ = m.Respond([]byte("{")) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.seed(t.Context(), sys); err == nil || !strings.Contains(err.Error(), "connections of a server") {
		t.Errorf("an answer that is none: %v", err)
	}
}

func TestAddressOf(t *testing.T) {
	for host, want := range map[string]string{
		"127.0.0.1": "127.0.0.1", "::ffff:10.0.0.1": "::ffff:10.0.0.1", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "pipe": "pipe", "": "",
	} {
		if got := addressOf(host); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
}
