package service

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// inRoom connects as someone who needs a room.
func inRoom(t *testing.T, n *Node, id *crypto.Identity, rooms ...crypto.ID) *attack.Peer {
	t.Helper()
	p, err := attack.Dial(attack.Options{URL: n.URL(), Identity: id, Bus: n.Bus, Rooms: rooms})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// enter appends an entry to a log by way of the API.
func enter(t *testing.T, p *attack.Peer, log *ledger.State, by *crypto.Identity, body ledger.Body) (status int, answer []byte) {
	t.Helper()
	statement, err := log.Next(by, body, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	request, err := json.Marshal(store.EntryBody{Entry: statement})
	if err != nil {
		t.Fatal(err)
	}
	answer, status, err = p.Call(t.Context(), "POST", "/logs/"+log.ID.String(), request)
	if err != nil {
		t.Fatal(err)
	}
	if status == 201 {
		if _, err := storetest.Advance(log, statement); err != nil {
			t.Fatal(err)
		}
	}
	return status, answer
}

// TestKickedFromOneRoom: a removal ends the connections that named the room, and only those; a change of policy
// that leaves frames where they go ends none; a log's change of where they go ends its writers'.
func TestKickedFromOneRoom(t *testing.T) {
	n, admin := node(t, "")
	bob := person(t, 'b')
	addUser(t, n, admin, bob)
	owner := mustDial(t, n, admin, n.Bus)
	room, status, answer := createRoom(t, owner, admin, "den")
	if status != 201 {
		t.Fatalf("%d %s", status, answer)
	}
	do := func(body ledger.Body) {
		t.Helper()
		if status, answer := enter(t, owner, room, admin, body); status != 201 {
			t.Fatalf("%T: %d %s", body, status, answer)
		}
	}
	policy := room.Room.Policy
	do(&ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}})
	within, without := inRoom(t, n, bob, room.ID), inRoom(t, n, bob)

	policy.Pad = true
	do(&ledger.SetPolicy{Policy: policy})
	if within.IsClosed() || within.Flush() != nil {
		t.Error("a change of padding ended a connection")
	}
	policy.Retain = &ledger.Retain{}
	do(&ledger.SetPolicy{Policy: policy})
	eventually(t, "a writer is dropped when storing begins", within.IsClosed)

	within = inRoom(t, n, bob, room.ID)
	do(&ledger.Remove{Keys: []crypto.PublicKey{bob.Key()}})
	eventually(t, "the connection that named the room is dropped", within.IsClosed)
	if without.IsClosed() || without.Flush() != nil {
		t.Error("a connection without the room was dropped")
	}
}

// TestEndingsBounded: one author's entries that end others' connections come at a bounded rate.
func TestEndingsBounded(t *testing.T) {
	n, admin := node(t, "")
	owner := mustDial(t, n, admin, n.Bus)
	room, status, answer := createRoom(t, owner, admin, "den")
	if status != 201 {
		t.Fatalf("%d %s", status, answer)
	}
	policy := room.Room.Policy
	for i := range 3 * endingBurst {
		if policy.Retain = nil; i%2 == 0 {
			policy.Retain = &ledger.Retain{}
		}
		switch status, _ := enter(t, owner, room, admin, &ledger.SetPolicy{Policy: policy}); {
		case status == 429 && i >= endingBurst:
			return
		case status != 201:
			t.Fatalf("entry %d: %d", i, status)
		}
	}
	t.Error("never refused")
}

// TestUnread: a caller whose servers hold much of what it was answered waits until it has read; the servers are
// not asked about one who was answered little, and one they say nothing of is answered.
func TestUnread(t *testing.T) {
	key, now, held, asked := person(t, 1).Key(), time.Now(), 0, 0
	var fails error
	u := newUnread(func(context.Context, crypto.PublicKey) (int, error) { asked++; return held, fails }, func() time.Time { return now })
	u.add(key, maxUnread-1)
	if u.full(t.Context(), key) || asked != 0 {
		t.Errorf("little: asked %d times", asked)
	}
	u.add(key, 1)
	held = maxUnread
	if first, again := u.full(t.Context(), key), u.full(t.Context(), key); !first || !again || asked != 1 {
		t.Errorf("much: asked %d times", asked)
	}
	now = now.Add(unreadWait)
	fails = errors.New("no answer")
	if u.full(t.Context(), key) {
		t.Error("servers that do not say")
	}
	fails, held = nil, 5
	if u.full(t.Context(), key) || u.of(key).bytes != 5 {
		t.Error("read")
	}
	if u.full(t.Context(), person(t, 2).Key()) {
		t.Error("another")
	}
}

// TestSlowReadersOverHTTP: what is being written to one caller is bounded; one answer always goes, and others'
// do, too.
func TestSlowReadersOverHTTP(t *testing.T) {
	var w writing
	key, other := person(t, 1).Key(), person(t, 2).Key()
	if !w.begin(key, maxUnread+1) || w.begin(key, 1) || !w.begin(other, 1) {
		t.Error("one, none beside it, another's")
	}
	w.end(key, maxUnread+1)
	w.end(other, 1)
	if !w.begin(key, maxUnread-1) || !w.begin(key, 1) || w.begin(key, 1) {
		t.Error("two that fit, and no more")
	}
	w.end(key, maxUnread-1)
	w.end(key, 1)
	if len(w.bytes) != 0 {
		t.Errorf("%d callers are remembered", len(w.bytes))
	}
}

// TestUnreadByServers: what a connection does not read is counted, as the servers tell it.
func TestUnreadByServers(t *testing.T) {
	n, admin := node(t, "")
	var deaf attack.Deaf
	p, err := attack.Dial(attack.Options{URL: n.URL(), Identity: admin, Bus: n.Bus, Nats: []nats.Option{nats.SetCustomDialer(&deaf)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	servers := bus.NewServers(n.Links().Sys)
	if err := servers.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := p.Request("GET", "/users", nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Reply = bus.InboxPrefix(p.Inbox) + ".x"
	if _, err := p.Subscribe(m.Reply, func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	deaf.Lock()
	defer deaf.Unlock()
	answer := make([]byte, 1<<19)
	eventually(t, "the servers hold what is not read", func() bool {
		for range 8 {
			if err := n.Links().API.Publish(m.Reply, answer); err != nil {
				t.Fatal(err)
			}
		}
		held, err := servers.Unread(t.Context(), admin.Key())
		if err != nil {
			t.Fatal(err)
		}
		return held >= maxUnread
	})
}

// TestKnownConnections: the service knows which connections were let in: those may not log in once more.
func TestKnownConnections(t *testing.T) {
	n, admin := node(t, "")
	p := mustDial(t, n, admin, n.Bus)
	conn := func() (id connID) {
		n.crowd.bus.mu.Lock()
		defer n.crowd.bus.mu.Unlock()
		for c, seat := range n.crowd.bus.taken {
			if seat.of == admin.Key() {
				id = c
			}
		}
		return id
	}()
	cid, err := p.GetClientID()
	if err != nil || conn.id != cid || !n.crowd.isIn(conn) || n.crowd.isIn(connID{conn.server, cid + 1}) {
		t.Fatalf("connection %d is not known to be in: %v, %v", cid, conn, err)
	}
}

// TestIgnoredDelayNoKick: a login that will not be answered, or can only say hello, is not waited for; any other is.
func TestIgnoredDelayNoKick(t *testing.T) {
	a := &authorizer{crowd: newCrowd(time.Now), dropped: func(string) {}}
	l := &login{conn: connID{"S", 1}}
	if !a.crowd.mayComeIn("S", 1) {
		t.Error("one that nothing is known of")
	}
	a.ignore(l, "login-busy")
	if a.crowd.mayComeIn("S", 1) || !a.crowd.mayComeIn("S", 2) || !a.crowd.mayComeIn("T", 1) {
		t.Error("one that is ignored, and others")
	}
}
