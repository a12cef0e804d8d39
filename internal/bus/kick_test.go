package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
)

// kicked is a server, what is known of it, and a peer that says when it lost its connection, and when it is back.
type kicked struct {
	*peered
	servers    *Servers
	lost, back chan struct{}
}

func newKicked(t *testing.T) *kicked {
	t.Helper()
	s, _ := startServer(t, serverOptions(t))
	k := &kicked{peered: &peered{T: t, server: s, door: openDoor(t, s.Links), id: identity(t, 1)}, lost: make(chan struct{}, 16), back: make(chan struct{}, 16)}
	k.conn = dial(t, DialOptions{
		Servers: s.URL(), Identity: k.id, Connected: func() { k.back <- struct{}{} }, Lost: func(error) { k.lost <- struct{}{} },
	})
	k.servers = NewServers(s.Links.Sys)
	if err := k.servers.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k
}

// cid is the number of the peer's connection on the server.
func (k *kicked) cid() uint64 {
	k.Helper()
	cid, err := k.conn.first.nc.GetClientID()
	if err != nil {
		k.Fatal(err)
	}
	return cid
}

// TestServers: a server is known from when it answers until it says that it stops, is followed by another of its name,
// or was silent for as long as a login lasts.
func TestServers(t *testing.T) {
	s, _ := startServer(t, serverOptions(t))
	servers := NewServers(s.Links.Sys)
	known := func(want ...string) {
		t.Helper()
		var names []string
		for _, seen := range servers.List() {
			names = append(names, seen.ID+" "+seen.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("known are %q, not %q", names, want)
		}
	}
	known()
	if err := servers.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	this := s.ns.ID() + " " + s.ns.Name()
	known(this)
	if err := servers.Follow(); err != nil {
		t.Fatal(err)
	}
	servers.Heard("A", "a")
	servers.Heard("B", "a") // started again
	known("B a", this)
	servers.seen["B"] = Seen{"B", "a", time.Now().Add(-forgetAfter - time.Second)}
	servers.Heard("C", "c")
	known("C c", this)
	if err := s.Links.Sys.Publish("$SYS.SERVER.C.SHUTDOWN", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "end of a server", func() bool { return len(servers.List()) == 1 })
	known(this)
	s.Links.Sys.Close()
	if servers.Follow() == nil || servers.Look(t.Context()) == nil {
		t.Error("servers are looked at over a closed connection")
	}
}

// TestKick: a user's connections that are concerned are dropped, and no other's; one that came after the first look was
// decided on newer grounds, and stays.
func TestKick(t *testing.T) {
	k := newKicked(t)
	other := dial(t, DialOptions{Servers: k.server.URL(), Identity: identity(t, 2)})
	before := other.first.current()
	kick := NewKick(k.servers)
	if err := kick.User(t.Context(), identity(t, 3).Key(), All); err != nil || !kick.Due() {
		t.Errorf("who is not there: %v", err)
	}
	if err := kick.User(t.Context(), k.id.Key(), func(string, uint64) bool { return false }); err != nil || len(k.lost) > 0 {
		t.Errorf("who is not concerned: %v", err)
	}
	var concerned []uint64
	cid := k.cid()
	err := kick.User(t.Context(), k.id.Key(), func(server string, cid uint64) bool {
		if server != k.server.ns.ID() {
			t.Errorf("on the server %s", server)
		}
		concerned = append(concerned, cid)
		return true
	})
	if err != nil || !slices.Contains(concerned, cid) {
		t.Errorf("%v, asked about %v", err, concerned)
	}
	<-k.lost
	<-k.back
	now := k.cid()
	if err := kick.User(t.Context(), k.id.Key(), All); err != nil || k.cid() != now || now == cid {
		t.Errorf("the later connection is dropped: %v", err)
	}
	if before.ctx.Err() != nil {
		t.Error("another user's connection is dropped")
	}
}

// deaf is a connection of which nothing is read any more once it is closed to it.
type deaf struct {
	net.Conn
	ends chan struct{} // is closed then; reading goes on when the test ends
	test context.Context
}

// Read reads until it is deaf.
func (d *deaf) Read(b []byte) (int, error) {
	select {
	case <-d.ends:
		<-d.test.Done()
	default:
	}
	return d.Conn.Read(b)
}

// Dial connects.
func (d *deaf) Dial(network, address string) (net.Conn, error) {
	var err error
	d.Conn, err = net.Dial(network, address)
	return d, err
}

// TestUnread: what a user does not read of what was sent is counted, of that user alone.
func TestUnread(t *testing.T) {
	k := newKicked(t)
	room := crypto.ID{2}
	o := DialOptions{Servers: k.server.URL(), Identity: identity(t, 2), Bus: crypto.ID{1}, Timeout: 20 * time.Second}
	base, err := o.base()
	if err != nil {
		t.Fatal(err)
	}
	d := &deaf{ends: make(chan struct{}), test: t.Context()}
	nc, err := nats.Connect(o.Servers, append(base, nats.SetCustomDialer(d), nats.NoReconnect(), nats.Token(o.token(crypto.Token{Bus: &o.Bus, Inbox: newInbox()})))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.SubscribeSync(LiveFilter(room)); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	close(d.ends)
	for range 24 { // more than systems keep for a connection
		k.conn.Publish(room, make([]byte, 1<<20))
	}
	if err := k.conn.Flush(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	unread := func(id *crypto.Identity) int {
		n, err := k.servers.Unread(t.Context(), id.Key())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := unread(o.Identity); n < 1<<20 {
		t.Errorf("%d bytes are unread", n)
	}
	eventually(t, "reading", func() bool { return unread(k.id) == 0 })
}

// TestKickDuringLogin: a login that was under way when a kick began was decided before, so it is waited for, and dropped.
// One of which it is known that it will not succeed is not waited for.
func TestKickDuringLogin(t *testing.T) {
	k := newKicked(t)
	release := k.door.holdAnswers()
	defer release()
	k.door.forget()
	k.breakOff()
	<-k.door.asked
	var waited []uint64
	k.servers.MayComeIn = func(_ string, cid uint64) bool {
		waited = append(waited, cid)
		release() // now that it is waited for
		return true
	}
	var dropped []uint64
	err := NewKick(k.servers).User(t.Context(), k.id.Key(), func(_ string, cid uint64) bool {
		dropped = append(dropped, cid)
		return true
	})
	if err != nil || len(waited) == 0 || !slices.Contains(dropped, waited[0]) {
		t.Fatalf("%v, waited for %v, dropped %v", err, waited, dropped)
	}
	eventually(t, "later login", func() bool {
		cid, err := k.conn.first.nc.GetClientID()
		return err == nil && k.conn.IsConnected() && !slices.Contains(dropped, cid)
	})
	release = k.door.holdAnswers()
	defer release()
	k.door.forget()
	k.breakOff()
	<-k.door.asked
	k.servers.MayComeIn = func(string, uint64) bool { return false }
	if err := NewKick(k.servers).User(t.Context(), k.id.Key(), All); err != nil {
		t.Error(err)
	}
}

// TestKickGivesUp: a kick ends with its context, while a login is waited for too.
func TestKickGivesUp(t *testing.T) {
	k := newKicked(t)
	release := k.door.holdAnswers()
	defer release()
	k.door.forget()
	k.breakOff()
	<-k.door.asked
	ctx, cancel := context.WithCancel(t.Context())
	k.servers.MayComeIn = func(string, uint64) bool { cancel(); return true }
	if err := NewKick(k.servers).User(ctx, k.id.Key(), All); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := k.servers.Unread(ctx, k.id.Key()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestSilent: who is connected to a server that does not answer is not known, and looked for again only when it is heard
// of, or given up.
func TestSilent(t *testing.T) {
	k := newKicked(t)
	k.servers.Heard("GONE", "other")
	kick := NewKick(k.servers)
	err := kick.User(t.Context(), k.id.Key(), All)
	var silent *Silent
	if !errors.As(err, &silent) || len(silent.Servers) != 1 || !strings.HasPrefix(err.Error(), "no answer from other (last heard of 0s ago)") {
		t.Fatalf("%v", err)
	}
	<-k.lost // on the one that answers
	if kick.Due() {
		t.Error("it is due though nothing changed")
	}
	if _, err := k.servers.Unread(t.Context(), k.id.Key()); err != nil {
		t.Errorf("what the others hold is known: %v", err)
	}
	k.servers.Heard("GONE", "other")
	if !kick.Due() {
		t.Error("it is not due though the server was heard of")
	}
	k.servers.forget("GONE")
	if err := kick.User(t.Context(), k.id.Key(), All); err != nil || !kick.Due() {
		t.Errorf("it is given up: %v", err)
	}
}

// TestDropAll: everyone is dropped but the service's own users; on servers that were heard of, and on one.
func TestDropAll(t *testing.T) {
	k := newKicked(t)
	but := k.server.Links.Users()
	if err := DropAll(t.Context(), k.servers, time.Now().Add(time.Hour), but); err != nil || len(k.lost) > 0 {
		t.Errorf("on servers heard of in an hour: %v", err)
	}
	for what, drop := range map[string]func() error{
		"all": func() error { return DropAll(t.Context(), k.servers, time.Time{}, but) },
		"on":  func() error { return DropOn(t.Context(), k.servers, k.server.ns.ID(), but) },
	} {
		// The peer comes back: it is let in no more until that is checked.
		k.door.members.Store(false)
		if err := drop(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		<-k.lost
		if !k.server.Links.API.IsConnected() || !k.server.Links.Notify.IsConnected() {
			t.Errorf("%s: the service is dropped", what)
		}
		k.door.members.Store(true)
		<-k.back
	}
	if err := DropOn(t.Context(), k.servers, "NONE", but); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("on a server that is not there: %v", err)
	}
	k.servers.Heard("NONE", "none")
	if err := DropAll(t.Context(), k.servers, time.Time{}, but); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("with a server that is not there: %v", err)
	}
}

// TestDropAllLooksAgain: who came while the others were dropped is dropped, too, until nobody is there.
func TestDropAllLooksAgain(t *testing.T) {
	s, _ := startServer(t, serverOptions(t))
	sys := s.Links.Sys
	var mu sync.Mutex
	come, dropped := []string{`{"cid":1}`, `{"cid":2}`, ""}, []string{}
	for what, answer := range map[string]func(order string) string{
		"CONNZ": func(string) string {
			now := come[0]
			come = come[1:]
			return `{"data":{"connections":[` + now + `]}}`
		},
		"KICK": func(order string) string { dropped = append(dropped, order); return "{}" },
	} {
		if _, err := sys.Subscribe("$SYS.REQ.SERVER.OTHER."+what, func(m *nats.Msg) {
			mu.Lock()
			defer mu.Unlock()
			_ = m.Respond([]byte(answer(string(m.Data)))) // or it is waited for in vain
		}); err != nil {
			t.Fatal(err)
		}
	}
	err := DropOn(t.Context(), NewServers(sys), "OTHER", nil)
	mu.Lock()
	defer mu.Unlock()
	if err != nil || !slices.Equal(dropped, []string{`{"cid":1}`, `{"cid":2}`}) || len(come) > 0 {
		t.Errorf("dropped are %q, %v; of what is there, it was told all but %q", dropped, err, come)
	}
}

// TestAnswers: whoever asks many is told what each says, and of an answer that is none; without anyone it is told nothing.
func TestAnswers(t *testing.T) {
	s, _ := startServer(t, serverOptions(t))
	sys := s.Links.Sys
	if all, err := AskServices(t.Context(), sys, time.Second); len(all) > 0 || err != nil {
		t.Errorf("no service: %v, %v", all, err)
	}
	for i := range 3 {
		text := fmt.Sprintf(`{"host":"h%d","full":%v}`, i, i == 1)
		if _, err := sys.Subscribe(StatusSubject, func(m *nats.Msg) { _ = m.Respond([]byte(text)) }); err != nil {
			t.Fatal(err)
		}
	}
	var hosts []string
	all, err := AskServices(t.Context(), sys, time.Second)
	for _, status := range all {
		hosts = append(hosts, fmt.Sprint(status.Host, status.Full))
	}
	if slices.Sort(hosts); err != nil || !slices.Equal(hosts, []string{"h0false", "h1true", "h2false"}) {
		t.Errorf("%q, %v", hosts, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := AskServices(ended, sys, time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if _, err := sys.Subscribe(StatusSubject, func(m *nats.Msg) { _ = m.Respond([]byte("{")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := AskServices(t.Context(), sys, time.Second); err == nil {
		t.Error("an answer that is none is taken for one")
	}
	sys.Close()
	if _, err := AskServices(t.Context(), sys, time.Second); err == nil {
		t.Error("it asks over a closed connection")
	}
}
