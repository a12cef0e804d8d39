package service

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
	"github.com/unibus/unibus/internal/tasks"
)

// porch is an authorizer whose clock stands still, so that no pace ever recovers, and what becomes of the logins
// it is given. The first bus it knows of has an admin.
type porch struct {
	*authorizer
	t       *testing.T
	store   *gated
	state   *ledger.State
	admin   *crypto.Identity
	server  nkeys.KeyPair
	conns   uint64
	allowed atomic.Int32
	denied  atomic.Int32
	unknown atomic.Int32 // the store could not tell

	mu    sync.Mutex
	drops map[string]int
}

// gated is a store that answers about keys it does not know only when it is told to.
type gated struct {
	store.Backend
	asked    atomic.Int32
	released chan struct{}
	release  func()
}

func (g *gated) IsAuthorized(ctx context.Context, key crypto.PublicKey) (bool, error) {
	ok, err := g.Backend.IsAuthorized(ctx, key)
	if !ok {
		g.asked.Add(1)
		<-g.released
	}
	return ok, err
}

func openStore(t *testing.T) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "bus.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newPorch(t *testing.T) (*porch, *gated) {
	t.Helper()
	p := &porch{t: t, admin: person(t, 'a'), drops: map[string]int{}}
	s := &gated{Backend: openStore(t), released: make(chan struct{})}
	s.release, p.store = sync.OnceFunc(func() { close(s.released) }), s
	state, err := store.Found(t.Context(), s, p.admin, "admin", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.state = state
	issuer, err := nkeys.CreateAccount()
	if err == nil {
		p.server, err = nkeys.CreateServer()
	}
	if err != nil {
		t.Fatal(err)
	}
	log, now := slog.New(slog.DiscardHandler), time.Now().Add(crypto.TokenSkew-time.Minute) // deadlines are far, tokens valid
	clock := func() time.Time { return now }
	var wait tasks.Group
	folded := newLogs(s)
	p.authorizer = &authorizer{
		users: &allowlist{s, folded, state.ID}, logs: folded, bus: state.ID, issuer: issuer, log: log, now: clock, crowd: newCrowd(clock),
		verifier: newVerifier(folded.roster, &wait, log, clock), inboxes: newRecent[string, crypto.PublicKey](9),
		members: newPool[source](wait.Go, guarded(log), loginLimits), door: newPool[string](wait.Go, guarded(log), doorLimits),
		barred: func(crypto.PublicKey) bool { return false },
		count: func(outcome string) {
			map[string]*atomic.Int32{"allowed": &p.allowed, "denied": &p.denied, "unavailable": &p.unknown}[outcome].Add(1)
		},
		dropped: func(why string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.drops[why]++
		},
	}
	t.Cleanup(func() { s.release(); wait.Wait() })
	return p, s
}

// asks has the porch ask another store.
func (p *porch) asks(s store.Backend) {
	p.logs = newLogs(s)
	p.users = &allowlist{s, p.logs, p.bus}
}

// read lets the porch know of everyone on the bus's log.
func (p *porch) read() {
	p.t.Helper()
	if _, err := p.logs.state(p.t.Context(), p.bus); err != nil {
		p.t.Fatal(err)
	}
}

// connectionKey is what a server makes for each connection.
func connectionKey(t testing.TB) string {
	t.Helper()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	key, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// allow puts someone on the allowlist.
func (p *porch) allow(id *crypto.Identity) {
	p.t.Helper()
	storetest.Write(p.t, p.store, p.state, p.admin, &ledger.Add{Users: []ledger.NewUser{{Key: id.Key(), Name: "someone", Role: ledger.RoleUser}}})
}

// login is the request that a server makes when someone logs in from an address, as change has altered it.
func (p *porch) login(id *crypto.Identity, address string, change func(*jwt.ConnectOptions)) *nats.Msg {
	p.t.Helper()
	l, err := attack.SignLogin(attack.Options{Identity: id, Bus: p.bus})
	if err != nil {
		p.t.Fatal(err)
	}
	key := connectionKey(p.t)
	p.conns++
	c := jwt.NewAuthorizationRequestClaims("request")
	c.UserNkey, c.Server.ID = key, "server"
	c.ClientInformation = jwt.ClientInformation{Host: address, ID: p.conns, Nonce: "nonce"}
	c.ConnectOptions = jwt.ConnectOptions{
		Nkey: id.ConnectionKey().String(), Token: l.Token, SignedNonce: base64.RawURLEncoding.EncodeToString(id.SignNonce([]byte("nonce"))),
	}
	if change != nil {
		change(&c.ConnectOptions)
	}
	data, err := c.Encode(p.server)
	if err != nil {
		p.t.Fatal(err)
	}
	return &nats.Msg{Data: []byte(data)}
}

// idle waits until everything that was given to the porch so far is looked at.
func (p *porch) idle() {
	p.t.Helper()
	eventually(p.t, "all signatures are looked at", func() bool {
		p.verifier.checks.mu.Lock()
		defer p.verifier.checks.mu.Unlock()
		return len(p.verifier.checks.turns.callers) == 0
	})
}

// often gives the porch a login a number of times, never more at a time than wait.
func (p *porch) often(times int, m *nats.Msg) {
	p.t.Helper()
	for i := range times {
		if i%checkLimits.inHand == 0 {
			p.idle()
		}
		p.receive(p.t.Context(), m)
	}
	p.idle()
}

func proper(*jwt.ConnectOptions) {}

// broken breaks the signature at the begin of a token.
func broken(token string) string {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		panic(err)
	}
	raw[0] ^= 1
	return base64.RawURLEncoding.EncodeToString(raw)
}

// TestForgedLogins: whoever tries to log in as someone else, without the keys for it, uses up nothing of what that
// one has, not even at the same address.
func TestForgedLogins(t *testing.T) {
	mallory := person(t, 'm')
	for name, forge := range map[string]func(*jwt.ConnectOptions){
		"with a broken token": func(o *jwt.ConnectOptions) { o.Token = broken(o.Token) },
		"with a broken nonce": func(o *jwt.ConnectOptions) { o.SignedNonce = base64.RawURLEncoding.EncodeToString(make([]byte, 64)) },
		"with another's nonce": func(o *jwt.ConnectOptions) {
			o.SignedNonce = base64.RawURLEncoding.EncodeToString(mallory.SignNonce([]byte("nonce")))
		},
		"with a token that was overheard": func(o *jwt.ConnectOptions) {
			o.Nkey, o.SignedNonce = mallory.ConnectionKey().String(), base64.RawURLEncoding.EncodeToString(mallory.SignNonce([]byte("nonce")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := newPorch(t)
			p.read()
			const forged = 4 * loginBurst
			m := p.login(p.admin, "10.0.0.1", forge)
			p.often(forged, m)
			if n := p.denied.Load(); n != forged {
				t.Errorf("%d of %d were refused", n, forged)
			}
			p.receive(t.Context(), p.login(p.admin, "10.0.0.1", proper))
			eventually(t, "the user is let in", func() bool { return p.allowed.Load() == 1 })
		})
	}
}

// TestMadeUpLogins: identities that are nobody's have few turns together, however many they are, and users theirs.
func TestMadeUpLogins(t *testing.T) {
	p, s := newPorch(t)
	p.read()
	const many = 2 * loginBurst
	for i := range many {
		p.receive(t.Context(), p.login(nobody(t, i), "10.0.0.1", proper))
	}
	p.idle()
	eventually(t, "the store is asked about some", func() bool { return int(s.asked.Load()) == strangerLimits.each })
	p.receive(t.Context(), p.login(p.admin, "10.0.0.1", proper))
	eventually(t, "the user is let in meanwhile", func() bool { return p.allowed.Load() == 1 })
	if n := s.asked.Load(); int(n) != strangerLimits.each {
		t.Errorf("the store is asked about %d at once", n)
	}
	s.release()
	eventually(t, "who had a turn is refused", func() bool { return int(p.denied.Load()) >= strangerLimits.each })
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.drops["login-fast"]; n < many-loginBurst-int(maxPace.Seconds()*loginRate) {
		t.Errorf("%d of %d came too fast", n, many)
	}
}

// TestNewcomer: someone whom the service has not read of yet is let in as the store says, and known then.
func TestNewcomer(t *testing.T) {
	p, _ := newPorch(t)
	p.read()
	bob := person(t, 'b')
	p.allow(bob)
	if p.verifier.roster.has(bob.Key(), p.now()) {
		t.Fatal("the newcomer is known already")
	}
	p.receive(t.Context(), p.login(bob, "10.0.0.1", proper))
	eventually(t, "the newcomer is let in", func() bool { return p.allowed.Load() == 1 })
	if !p.verifier.roster.has(bob.Key(), p.now()) {
		t.Error("the newcomer is not known")
	}
}

// TestLoginPace: who logs in without end waits for its pace; another, and the same one elsewhere, does not.
func TestLoginPace(t *testing.T) {
	p, _ := newPorch(t)
	bob := person(t, 'b')
	p.allow(bob)
	p.read()
	at := time.Now() // all at one moment, however long it takes here
	p.verifier.now = func() time.Time { return at }
	for range 2 * loginBurst { // each over a connection of its own
		p.receive(t.Context(), p.login(bob, "10.0.0.1", proper))
	}
	eventually(t, "some come too fast", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.drops["login-fast"] > 0
	})
	before := p.allowed.Load()
	p.receive(t.Context(), p.login(p.admin, "10.0.0.1", proper))
	p.receive(t.Context(), p.login(bob, "10.0.0.2", proper))
	eventually(t, "the others are let in", func() bool { return p.allowed.Load() >= before+2 })
}

// TestRoster: the service knows who is on the allowlist as its log says, and what that says of time.
func TestRoster(t *testing.T) {
	p, _ := newPorch(t)
	bob, carol := person(t, 'b'), person(t, 'c')
	add := func(id *crypto.Identity, name string, expires *crypto.Number) {
		t.Helper()
		statement, err := p.state.Next(p.admin, &ledger.Add{Users: []ledger.NewUser{{Key: id.Key(), Name: name, Role: ledger.RoleUser, Expires: expires}}}, time.Now())
		if err == nil {
			_, _, err = p.logs.append(t.Context(), p.bus, statement, func(*ledger.State, *ledger.State, *ledger.Entry) error { return nil })
		}
		if err == nil {
			_, err = storetest.Advance(p.state, statement)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	soon := crypto.Number(now.Add(time.Hour).UnixMilli())
	add(bob, "bob", nil)
	add(carol, "carol", &soon)
	has := p.verifier.roster.has
	if !has(p.admin.Key(), now) || !has(bob.Key(), now) || !has(carol.Key(), now) || has(person(t, 'd').Key(), now) || has(crypto.PublicKey{}, now) {
		t.Error("the roster is not what the log says")
	}
	if later := now.Add(2 * time.Hour); has(carol.Key(), later) || !has(bob.Key(), later) {
		t.Error("the roster knows no time")
	}
	statement, err := p.state.Next(p.admin, &ledger.Revoke{Keys: []crypto.PublicKey{bob.Key()}}, now)
	if err == nil {
		_, _, err = p.logs.append(t.Context(), p.bus, statement, func(*ledger.State, *ledger.State, *ledger.Entry) error { return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
	if has(bob.Key(), now) || !has(carol.Key(), now) {
		t.Error("who was revoked is still on the roster, or another is not")
	}
	room := new(ledger.State)
	statement, err = room.Next(bob, &ledger.Create{Bus: p.bus, Subject: "r", Policy: plainPolicy(), Nonce: make([]byte, 16)}, now)
	if err != nil {
		t.Fatal(err)
	}
	change, err := storetest.Advance(room, statement)
	if err != nil {
		t.Fatal(err)
	}
	if p.verifier.roster.update(room, change.Entry.Touches()); has(bob.Key(), now) {
		t.Error("the log of a room says who may use the bus")
	}
}

// TestStrangersOverHTTP: requests of people who are nobody, or not who they say, are answered before their bodies
// are read, and keep no user waiting, not even one whom the service has not met yet.
func TestStrangersOverHTTP(t *testing.T) {
	n, admin := node(t, "")
	bob := person(t, 'b')
	addUser(t, n, admin, bob)
	for name, c := range map[string]struct {
		token  func(i int) string
		status int
	}{
		"nobody's":   {func(i int) string { return apiToken(t, n, nobody(t, i)) }, http.StatusForbidden},
		"not theirs": {func(int) string { return broken(apiToken(t, n, bob)) }, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			const many = maxPerCaller + maxQueued + 12
			count := map[int]int{}
			for i := range many {
				conn, err := net.Dial("tcp", n.HTTP)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_, err = fmt.Fprintf(conn, "POST /logs HTTP/1.1\r\nHost: unibus\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n{", c.token(i))
				if err == nil {
					err = conn.SetReadDeadline(time.Now().Add(longest))
				}
				if err != nil {
					t.Fatal(err)
				}
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatalf("request %d, whose body does not come: %v", i, err)
				}
				answer.Body.Close()
				count[answer.StatusCode]++
			}
			if count[c.status] == 0 || count[c.status]+count[http.StatusTooManyRequests] != many {
				t.Errorf("answers by status: %v", count)
			}
		})
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.HTTP+"/bus", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+apiToken(t, n, bob))
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("a user's first request: %s", answer.Status)
	}
}

func nobody(t *testing.T, i int) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'n', byte(i), byte(i >> 8)})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func apiToken(t *testing.T, n *Node, id *crypto.Identity) string {
	t.Helper()
	token, err := (&attack.Peer{ID: id, Bus: n.Bus}).APIToken()
	if err != nil {
		t.Fatal(err)
	}
	return token
}
