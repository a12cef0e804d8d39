package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
	"github.com/unibus/unibus/internal/tasks"
)

// longest is for what has to happen at some time.
const longest = 20 * time.Second

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(longest); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func person(t *testing.T, seed byte) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{seed})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// dial connects as someone, to say hello when the bus is zero.
func dial(t *testing.T, n *Node, id *crypto.Identity, of crypto.ID) (*attack.Peer, error) {
	t.Helper()
	p, err := attack.Dial(attack.Options{URL: n.URL(), Identity: id, Bus: of})
	if err == nil {
		t.Cleanup(p.Close)
	}
	return p, err
}

func mustDial(t *testing.T, n *Node, id *crypto.Identity, of crypto.ID) *attack.Peer {
	t.Helper()
	p, err := dial(t, n, id, of)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// addUser puts someone on the allowlist.
func addUser(t *testing.T, n *Node, admin, id *crypto.Identity) {
	t.Helper()
	s, err := store.Load(t.Context(), n.store, n.Bus)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Write(t, n.store, s, admin, &ledger.Add{Users: []ledger.NewUser{{Key: id.Key(), Name: "someone", Role: ledger.RoleUser}}})
}

// desk is a handler in the place of a node's own: /slow is not answered before it is told to, /panic panics.
type desk struct {
	*carrier
	begun   atomic.Int32
	release chan struct{}
	stop    func() // ends it as a service is ended
	said    bytes.Buffer
	drops   sync.Map // why: *atomic.Int32
}

func (d *desk) dropsOf(why string) int32 {
	n, _ := d.drops.LoadOrStore(why, new(atomic.Int32))
	return n.(*atomic.Int32).Load()
}

func newDesk(t *testing.T, n *Node, known ...crypto.PublicKey) *desk {
	t.Helper()
	d := &desk{release: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(&d.said, nil))
	logs := newLogs(nil)
	for _, key := range known {
		logs.roster.users[key] = standing{}
	}
	api := newRouter(n.Bus, &allowlist{logs: logs, bus: n.Bus}, time.Now)
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { d.begun.Add(1); <-d.release })
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("as a bug would") })
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithCancel(t.Context())
	d.stop = cancel
	var wait tasks.Group
	d.carrier = newCarrier(carrierOptions{
		ctx: ctx, handler: mux, authenticate: api.authenticate, verifier: newVerifier(logs.roster, &wait, log, time.Now), inboxes: newInboxes(),
		held: func(context.Context, crypto.PublicKey) (int, error) { return 0, nil }, drop: func(crypto.PublicKey) {}, log: log, now: time.Now,
	}, &wait)
	wait.Go(d.answerBusy)
	d.dropped = func(why string) {
		n, _ := d.drops.LoadOrStore(why, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
	}
	n.subs = slices.DeleteFunc(n.subs, func(sub *nats.Subscription) bool {
		own := sub.Subject == bus.APIFilter
		if own {
			err := sub.Unsubscribe()
			if err != nil {
				t.Fatal(err)
			}
		}
		return own
	})
	sub, err := d.carry(n.Links().API)
	if err == nil {
		err = n.Links().API.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sub.Unsubscribe() // the node has stopped, perhaps
		cancel()
		wait.Wait()
	})
	return d
}

// floodable is a node with a user who floods it, and another's connection beside.
func floodable(t *testing.T) (n *Node, bob *crypto.Identity, flooder, other *attack.Peer) {
	t.Helper()
	n, admin := node(t, "")
	bob = person(t, 'b')
	addUser(t, n, admin, bob)
	return n, bob, mustDial(t, n, bob, n.Bus), mustDial(t, n, admin, n.Bus)
}

// ask sends a request to d and returns where its answer comes.
func ask(t *testing.T, p *attack.Peer, path string) <-chan *nats.Msg {
	t.Helper()
	m, err := p.Request("GET", path, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Reply = p.NewInbox()
	answers := make(chan *nats.Msg, 2)
	if _, err := p.ChanSubscribe(m.Reply, answers); err != nil {
		t.Fatal(err)
	}
	if err := p.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	return answers
}

func status(t *testing.T, answers <-chan *nats.Msg) string {
	t.Helper()
	select {
	case m := <-answers:
		return m.Header.Get("Status")
	case <-time.After(longest):
		t.Fatal("no answer")
		return ""
	}
}

// TestCallersTakeTurns: one caller's requests beyond 32 wait, beyond 288 are refused, and another's are
// answered meanwhile.
func TestCallersTakeTurns(t *testing.T) {
	n, admin := node(t, "")
	bob := person(t, 'b')
	addUser(t, n, admin, bob)
	d := newDesk(t, n, admin.Key(), bob.Key())
	flooder, other := mustDial(t, n, admin, n.Bus), mustDial(t, n, bob, n.Bus)
	var slow []<-chan *nats.Msg
	for range maxPerCaller + maxQueued {
		slow = append(slow, ask(t, flooder, "/slow"))
	}
	last := ask(t, flooder, "/slow")
	m := <-last
	if m.Header.Get("Status") != "429" || m.Header.Get("Retry-After") == "" || !strings.Contains(string(m.Data), "unibus:busy") {
		t.Errorf("the 289th request: %v %s", m.Header, m.Data)
	}
	eventually(t, "32 are worked on", func() bool { return d.begun.Load() == maxPerCaller })
	if got := status(t, ask(t, other, "/")); got != "200" {
		t.Errorf("another caller's first request: %s", got)
	}
	if n := d.begun.Load(); n != maxPerCaller {
		t.Errorf("%d of one caller are worked on at once", n)
	}
	close(d.release)
	for i, answers := range slow {
		if got := status(t, answers); got != "200" {
			t.Errorf("request %d: %s", i, got)
		}
	}
}

// TestCallersBytes: what one caller has in hand is bounded in bytes, too.
func TestCallersBytes(t *testing.T) {
	n, admin := node(t, "")
	d := newDesk(t, n, admin.Key())
	p := mustDial(t, n, admin, n.Bus)
	var refused atomic.Int32
	answers := p.NewInbox()
	if _, err := p.Subscribe(answers, func(m *nats.Msg) {
		if m.Header.Get("Status") == "429" {
			refused.Add(1)
		}
	}); err != nil {
		t.Fatal(err)
	}
	m, err := p.Request("PUT", "/slow", make([]byte, 1<<20-4096))
	if err != nil {
		t.Fatal(err)
	}
	m.Reply = answers
	for range 10 {
		if err := p.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "six of ten are too much", func() bool { return refused.Load() == 6 })
	if n := d.begun.Load(); n > callerBytes>>20 {
		t.Errorf("%d MiB of one caller are worked on", n)
	}
	close(d.release)
}

// TestUnanswerable: a request whose reply subject is not in its asker's inbox gets nothing, and is counted.
func TestUnanswerable(t *testing.T) {
	n, admin := node(t, "")
	d := newDesk(t, n, admin.Key())
	p := mustDial(t, n, admin, n.Bus)
	other := mustDial(t, n, admin, n.Bus)
	theirs, err := other.SubscribeSync(bus.InboxPrefix(other.Inbox) + ".>")
	if err != nil {
		t.Fatal(err)
	}
	for _, reply := range []string{"", bus.InboxPrefix(other.Inbox) + ".x", bus.InboxPrefix(p.Inbox), bus.InboxPrefix(p.Inbox) + "x.y", bus.APISubject(p.Inbox)} {
		m, err := p.Request("GET", "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		m.Reply = reply
		if err := p.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	if got := status(t, ask(t, p, "/")); got != "200" {
		t.Errorf("one that can be answered: %s", got)
	}
	if n := d.dropsOf("unanswerable"); n != 5 {
		t.Errorf("%d were counted", n)
	}
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, _ := theirs.Pending(); n != 0 {
		t.Errorf("another got %d answers", n)
	}
}

// TestAnothersToken: on a connection's subject only its own identity's requests are answered.
func TestAnothersToken(t *testing.T) {
	n, admin := node(t, "")
	d := newDesk(t, n, admin.Key())
	p := mustDial(t, n, admin, n.Bus)
	if got := status(t, ask(t, p, "/")); got != "200" {
		t.Fatalf("one's own: %s", got)
	}
	ask(t, &attack.Peer{Conn: p.Conn, ID: person(t, 100), Bus: n.Bus, Inbox: p.Inbox}, "/slow")
	if got := status(t, ask(t, p, "/")); got != "200" {
		t.Errorf("one's own, after another's: %s", got)
	}
	if d.begun.Load() != 0 || d.dropsOf("unanswerable") != 1 {
		t.Errorf("another's: %d begun, %d counted", d.begun.Load(), d.dropsOf("unanswerable"))
	}
}

// TestGarbageDropped: who sends requests that nobody can verify is dropped like one who asks too much, and keeps
// nobody waiting meanwhile.
func TestGarbageDropped(t *testing.T) {
	for name, forge := range map[string]func(m *nats.Msg, i int){
		"no token":      func(m *nats.Msg, _ int) { m.Header = nil },
		"no signature":  func(m *nats.Msg, i int) { m.Header.Set("Authorization", fmt.Sprintf("Bearer %d", i)) },
		"a broken one":  func(m *nats.Msg, i int) { m.Header.Set("Authorization", m.Header.Get("Authorization")+fmt.Sprint(i)) },
		"foreign inbox": func(m *nats.Msg, _ int) { m.Reply = bus.InboxPrefix(crypto.Inbox{1}) + ".x" },
	} {
		t.Run(name, func(t *testing.T) {
			_, _, flooder, other := floodable(t)
			good, err := flooder.Request("GET", "/bus", nil)
			if err != nil {
				t.Fatal(err)
			}
			good.Reply = bus.InboxPrefix(flooder.Inbox) + ".x"
			eventually(t, "the flooder is dropped", func() bool {
				for i := range 1000 {
					m := &nats.Msg{Subject: good.Subject, Reply: good.Reply, Header: maps.Clone(good.Header)}
					forge(m, i)
					_ = flooder.PublishMsg(m) // it is closed, at last
				}
				if _, status, err := other.Call(t.Context(), "GET", "/bus", nil); status != 200 || err != nil {
					t.Errorf("another's call: %d, %v", status, err)
				}
				return flooder.IsClosed()
			})
		})
	}
}

// TestVerifyingBounded: of one connection's tokens only so many are looked at.
func TestVerifyingBounded(t *testing.T) {
	c := newAskers(time.Now)
	now, seen := time.Now(), 0
	for range 4000 {
		if c.mayVerify("a", now) {
			seen++
		}
	}
	if seen != ownBurst || !c.mayVerify("b", now) || !c.mayVerify("a", now.Add(time.Second)) {
		t.Errorf("%d of 4000 at once", seen)
	}
}

// TestVerifiedOnce: with a token that was verified a user asks as often as it likes.
func TestVerifiedOnce(t *testing.T) {
	now, id := time.Now(), person(t, 'a')
	c := newAskers(func() time.Time { return now })
	token, err := (&attack.Peer{ID: id, Bus: crypto.ID{1}, Inbox: crypto.Inbox{1}}).APIToken()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * ownBurst {
		if who, err := c.of("Bearer "+token, "a"); err != nil || who.key != id.Key() {
			t.Fatalf("request %d: by %s, %v", i, who.key, err)
		}
	}
}

// TestMadeUpIdentities: requests of identities that are nobody's, by a connection that another service let in, share
// one turn, so that however many are made up, users have theirs.
func TestMadeUpIdentities(t *testing.T) {
	n, admin := node(t, "")
	d := newDesk(t, n, admin.Key())
	p, other := mustDial(t, n, admin, n.Bus), mustDial(t, n, admin, n.Bus)
	for i := range 40 {
		stranger := &attack.Peer{Conn: p.Conn, ID: nobody(t, i), Bus: n.Bus, Inbox: p.Inbox}
		ask(t, stranger, "/slow")
	}
	eventually(t, "they are worked on", func() bool { return d.begun.Load() == maxPerCaller })
	if got := status(t, ask(t, other, "/")); got != "200" {
		t.Errorf("a user: %s", got)
	}
	if n := d.begun.Load(); n != maxPerCaller {
		t.Errorf("%d of made-up identities are worked on at once", n)
	}
	close(d.release)
}

// TestPanic: a bug in a handler is an error line and an answer, over NATS and over HTTP.
func TestPanicCarried(t *testing.T) {
	n, admin := node(t, "")
	d := newDesk(t, n, admin.Key())
	p := mustDial(t, n, admin, n.Bus)
	if got := status(t, ask(t, p, "/panic")); got != "500" {
		t.Errorf("over NATS: %s", got)
	}
	web := httptest.NewServer(d)
	defer web.Close()
	token, err := p.APIToken()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/panic": 500, "/": 200} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", web.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		reply.Body.Close()
		if reply.StatusCode != want {
			t.Errorf("%s over HTTP: %s", path, reply.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if got := status(t, ask(t, p, "/")); got != "200" {
		t.Errorf("after a panic: %s", got)
	}
	if lines := strings.Count(d.said.String(), "\n"); lines != 2 || !strings.Contains(d.said.String(), "as a bug would") {
		t.Errorf("said in %d lines: %s", lines, d.said.String())
	}
}

// TestFlooderDropped: who goes on asking although it is refused loses its connection, and is not let in for
// a while; another is not touched.
func TestFlooderDropped(t *testing.T) {
	n, bob, flooder, other := floodable(t)
	m, err := flooder.Request("GET", "/users", nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Reply = bus.InboxPrefix(flooder.Inbox) + ".x"
	eventually(t, "the flooder is dropped", func() bool {
		for range 1000 {
			_ = flooder.PublishMsg(m) // it is closed, at last
		}
		return flooder.IsClosed()
	})
	if _, err := dial(t, n, bob, n.Bus); err == nil {
		t.Error("the flooder is let in again at once")
	}
	if _, status, err := other.Call(t.Context(), "GET", "/bus", nil); status != 200 || err != nil {
		t.Errorf("another's call: %d, %v", status, err)
	}
}

// TestNinthHello: of one address eight say hello at once; the ninth waits until one has gone.
func TestNinthHello(t *testing.T) {
	n, _ := node(t, "")
	var eight []*attack.Peer
	for i := range maxHello {
		eight = append(eight, mustDial(t, n, person(t, byte(i+1)), crypto.ID{}))
	}
	ninth := make(chan error, 1)
	go func() {
		_, err := dial(t, n, person(t, 99), crypto.ID{})
		ninth <- err
	}()
	waits := func() int { n.crowd.door.mu.Lock(); defer n.crowd.door.mu.Unlock(); return n.crowd.door.waits }
	eventually(t, "the ninth waits", func() bool { return waits() == 1 })
	select {
	case err := <-ninth:
		t.Fatalf("the ninth did not wait: %v", err)
	default:
	}
	eight[3].Close()
	if err := <-ninth; err != nil {
		t.Errorf("the ninth, when one had gone: %v", err)
	}
	if _, err := dial(t, n, person(t, 98), crypto.ID{}); err == nil {
		t.Error("a tenth, when none had gone")
	}
}

// TestHelloRate: a connection that says hello without end has a few answers, and is dropped.
func TestHelloRate(t *testing.T) {
	n, _ := node(t, "")
	p := mustDial(t, n, person(t, 1), crypto.ID{})
	var answers atomic.Int32
	if _, err := p.Subscribe(bus.InboxPrefix(p.Inbox)+".x", func(*nats.Msg) { answers.Add(1) }); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	eventually(t, "it is dropped", func() bool {
		for range 100 {
			_ = p.PublishRequest(bus.HelloSubject(p.Inbox), bus.InboxPrefix(p.Inbox)+".x", nil) // it is closed, at last
		}
		return p.IsClosed()
	})
	if most := helloEachBurst + helloEachRate*int32(time.Since(begun).Seconds()+1); answers.Load() > most {
		t.Errorf("%d answers, more than %d", answers.Load(), most)
	}
	if _, _, err := bus.Hello(t.Context(), bus.DialOptions{Servers: n.URL(), Identity: person(t, 2), Timeout: longest}); err != nil {
		t.Errorf("another's hello: %v", err)
	}
}

// TestConnectionsOfOneUser: the 257th connection of a user is not answered; another's is, and so is this
// user's when one has gone.
func TestConnectionsOfOneUser(t *testing.T) {
	n, admin := node(t, "")
	bob := person(t, 'b')
	addUser(t, n, admin, bob)
	count := func() int {
		n.crowd.bus.mu.Lock()
		defer n.crowd.bus.mu.Unlock()
		return n.crowd.bus.count[admin.Key()]
	}
	for i := range maxConnections - 1 { // of other servers
		n.crowd.cameIn(connID{"elsewhere", uint64(i)}, admin.Key().String())
	}
	last := mustDial(t, n, admin, n.Bus)
	if _, err := dial(t, n, admin, n.Bus); err == nil {
		t.Error("the 257th connection was let in")
	}
	mustDial(t, n, bob, n.Bus)
	last.Close()
	eventually(t, "it has gone", func() bool { return count() == maxConnections-1 })
	mustDial(t, n, admin, n.Bus)
}

// TestManyAtOnce: a hundred who start at once on one machine all get in, to say hello and to log in.
func TestManyAtOnce(t *testing.T) {
	n, admin := node(t, "")
	for name, f := range map[string]func() error{
		"hello": func() error {
			_, _, err := bus.Hello(t.Context(), bus.DialOptions{Servers: n.URL(), Identity: admin, Timeout: longest})
			return err
		},
		"login": func() error {
			c, err := bus.Dial(bus.DialOptions{Servers: n.URL(), Identity: admin, Bus: n.Bus, Timeout: longest})
			if err == nil {
				c.Close()
			}
			return err
		},
	} {
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if err := f(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		all.Wait()
	}
}

// createRoom asks for a room without encryption.
func createRoom(t *testing.T, p *attack.Peer, id *crypto.Identity, subject string) (room *ledger.State, status int, answer []byte) {
	t.Helper()
	policy := ledger.DefaultPolicy()
	policy.Encryption = "none"
	policy.Retain = nil
	room = new(ledger.State)
	statement, err := room.Next(id, &ledger.Create{Bus: p.Bus, Subject: subject, Policy: policy, Nonce: make([]byte, 16)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := storetest.Advance(room, statement); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(store.EntryBody{Entry: statement})
	if err != nil {
		t.Fatal(err)
	}
	answer, status, err = p.Call(t.Context(), "POST", "/logs", body)
	if err != nil {
		t.Fatal(err)
	}
	return room, status, answer
}
