package service

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/time/rate"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
	"github.com/unibus/unibus/internal/tasks"
)

func plainPolicy() ledger.Policy {
	p := ledger.DefaultPolicy()
	p.Encryption = ledger.EncryptionNone
	return p
}

// peeked is a login as the porch reads it, whose token is as change has altered it.
func (p *porch) peeked(id *crypto.Identity, change func(*crypto.Token), options func(*jwt.ConnectOptions)) *login {
	p.t.Helper()
	now := time.Now()
	token := crypto.Token{Use: crypto.UseConnect, Bus: &p.bus, From: now, Until: now.Add(5 * time.Minute), Inbox: crypto.Inbox{1}}
	change(&token)
	text, err := id.Token(token)
	if err != nil {
		p.t.Fatal(err)
	}
	l, err := peek(p.login(id, "10.0.0.1", func(o *jwt.ConnectOptions) { o.Token = text; options(o) }), p.now())
	if err != nil {
		p.t.Fatal(err)
	}
	return l
}

// TestProve: each thing that a login has to prove is wanted by itself.
func TestProve(t *testing.T) {
	p, _ := newPorch(t)
	mallory := person(t, 'm')
	as := func(*crypto.Token) {}
	ago := func(t *crypto.Token, by time.Duration) { t.From, t.Until = t.From.Add(-by), t.Until.Add(-by) }
	signed := func(id *crypto.Identity, nonce string) string {
		return base64.RawURLEncoding.EncodeToString(id.SignNonce([]byte(nonce)))
	}
	for name, c := range map[string]struct {
		token   func(*crypto.Token)
		options func(*jwt.ConnectOptions)
		why     string // empty: it is proven
	}{
		"as it should be": {as, proper, ""},
		"in standard base64": {as, func(o *jwt.ConnectOptions) {
			o.SignedNonce = base64.StdEncoding.EncodeToString(p.admin.SignNonce([]byte("nonce")))
		}, ""},
		"to say hello":          {func(t *crypto.Token) { t.Bus = nil }, proper, ""},
		"no connection key":     {as, func(o *jwt.ConnectOptions) { o.Nkey = "" }, "no connection key"},
		"a key that is none":    {as, func(o *jwt.ConnectOptions) { o.Nkey = o.Nkey[1:] }, "no connection key"},
		"another's key":         {as, func(o *jwt.ConnectOptions) { o.Nkey = mallory.ConnectionKey().String() }, "another connection key"},
		"the identity's key":    {as, func(o *jwt.ConnectOptions) { o.Nkey = p.admin.Key().String() }, "another connection key"},
		"no signature":          {as, func(o *jwt.ConnectOptions) { o.SignedNonce = "" }, "nonce is not signed"},
		"what is no signature":  {as, func(o *jwt.ConnectOptions) { o.SignedNonce = "!" }, "no signature of the nonce"},
		"another's signature":   {as, func(o *jwt.ConnectOptions) { o.SignedNonce = signed(mallory, "nonce") }, "nonce is not signed"},
		"one of another nonce":  {as, func(o *jwt.ConnectOptions) { o.SignedNonce = signed(p.admin, "another") }, "nonce is not signed"},
		"no token":              {as, func(o *jwt.ConnectOptions) { o.Token = "" }, "another connection key"},
		"a broken token":        {as, func(o *jwt.ConnectOptions) { o.Token = broken(o.Token) }, "signature does not verify"},
		"for the API":           {func(t *crypto.Token) { t.Use = crypto.UseAPI }, proper, "another use"},
		"for the API, no bus":   {func(t *crypto.Token) { t.Use, t.Bus = crypto.UseAPI, nil }, proper, "another use"},
		"for another bus":       {func(t *crypto.Token) { t.Bus = &crypto.ID{1} }, proper, "another bus"},
		"expired":               {func(t *crypto.Token) { ago(t, 2*crypto.TokenSkew) }, proper, "expired"},
		"expired, to say hello": {func(t *crypto.Token) { ago(t, 2*crypto.TokenSkew); t.Bus = nil }, proper, "expired"},
		"not yet valid":         {func(t *crypto.Token) { ago(t, -4*crypto.TokenSkew) }, proper, "not yet valid"},
		"for too long":          {func(t *crypto.Token) { t.Until = t.From.Add(crypto.MaxConnectLife + time.Second) }, proper, "longer"},
		"no inbox":              {func(t *crypto.Token) { t.Inbox = crypto.Inbox{} }, proper, "no inbox"},
		"no inbox, no bus":      {func(t *crypto.Token) { t.Inbox, t.Bus = crypto.Inbox{}, nil }, proper, "no inbox"},
	} {
		err := p.peeked(p.admin, c.token, c.options).prove(p.bus, p.now())
		switch {
		case c.why == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.why != "" && (!errors.Is(err, store.ErrDenied) || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s: %v, want %q", name, err, c.why)
		}
	}
}

// TestNoLogin: what is no request of a server is neither answered nor counted.
func TestNoLogin(t *testing.T) {
	p, _ := newPorch(t)
	encoded := base64.RawURLEncoding.EncodeToString
	for name, data := range map[string]string{
		"nothing":              "",
		"two parts":            "a." + encoded([]byte("{}")),
		"four parts":           "a." + encoded([]byte("{}")) + ".b.c",
		"no base64":            "a.!.b",
		"no JSON":              "a." + encoded([]byte("{")) + ".b",
		"claims of other form": "a." + encoded([]byte(`{"nats":7}`)) + ".b",
	} {
		if _, err := peek(&nats.Msg{Data: []byte(data)}, p.now()); err == nil {
			t.Errorf("%s is taken", name)
		}
		p.receive(t.Context(), &nats.Msg{Data: []byte(data)})
	}
	unsigned := p.login(p.admin, "10.0.0.1", proper)
	unsigned.Data = unsigned.Data[:len(unsigned.Data)-4]
	l, err := peek(unsigned, p.now())
	if err != nil {
		t.Fatal(err)
	}
	p.answer(t.Context(), l)
	if p.allowed.Load()+p.denied.Load()+p.unknown.Load() > 0 || len(p.drops) > 0 || p.crowd.isIn(l.conn) {
		t.Error("something came of a request that no server made")
	}
}

// outcome is what became of the only login a porch was given.
func (p *porch) outcome() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for why, n := range p.drops {
		out = append(out, fmt.Sprintf("%s:%d", why, n))
	}
	for what, n := range map[string]int32{"allowed": p.allowed.Load(), "denied": p.denied.Load(), "unavailable": p.unknown.Load()} {
		if n > 0 {
			out = append(out, fmt.Sprintf("%s:%d", what, n))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// ailing is a store of which some answers fail.
type ailing struct {
	store.Backend
	entries bool   // it reads none
	heads   bool   // it does not say where logs end
	lists   bool   // somebody whom its log does not know
	reading func() // called before it reads entries; nil: nothing is
}

func (s *ailing) Heads(ctx context.Context, logs ...crypto.ID) ([]ledger.Head, error) {
	if s.heads {
		return nil, store.ErrUnavailable
	}
	return s.Backend.Heads(ctx, logs...)
}

func (s *ailing) Entries(ctx context.Context, log crypto.ID, after uint64) iter.Seq2[store.Entry, error] {
	if s.entries {
		return func(yield func(store.Entry, error) bool) { yield(store.Entry{}, store.ErrUnavailable) }
	}
	if s.reading != nil {
		s.reading()
	}
	return s.Backend.Entries(ctx, log, after)
}

func (s *ailing) IsAuthorized(ctx context.Context, key crypto.PublicKey) (bool, error) {
	if s.lists {
		return true, nil
	}
	return s.Backend.IsAuthorized(ctx, key)
}

// loginCase is a login, what it meets on its way, and what becomes of it.
type loginCase struct {
	who    byte // 'a' is the admin
	token  func(*crypto.Token)
	before func(p *porch) // what it meets
	want   string
	inside bool // it has a seat then
}

// aUser and aStranger are what a login's token says of who logs in: one who knows the bus, or one who says hello.
func aUser(*crypto.Token)       {}
func aStranger(t *crypto.Token) { t.Bus = nil }

// onAnotherBus is what the token of a login for another bus says.
func onAnotherBus(t *crypto.Token) { t.Bus = &crypto.ID{1} }

// namingARoom is what the token of a login says that names a room which is not there.
func namingARoom(t *crypto.Token) { t.Rooms = []crypto.ID{{2}} }

// noTurns takes nothing in.
var noTurns = turnLimits{}

// noPace lets nobody be fast.
func noPace(p *porch) { p.verifier.paces = newRates[source](1, 0, 0) }

// receivedLogins are those that are decided on when they come.
var receivedLogins = map[string]loginCase{
	"over a connection that is in": {'a', aUser, func(p *porch) { p.crowd.bus.appeared(p.admin.Key(), connID{"server", 1}, p.now().Add(loginLife)) }, "denied:1", true},
	"dropped a moment ago":         {'a', aUser, func(p *porch) { p.barred = func(key crypto.PublicKey) bool { return key == p.admin.Key() } }, "login-barred:1", false},
	"many signatures to look at":   {'a', aUser, func(p *porch) { p.read(); p.verifier.checks.turns.limits = noTurns }, "login-busy:1", false},
	"many strangers":               {'m', aUser, func(p *porch) { p.verifier.strangers = rate.NewLimiter(0, 0) }, "login-fast:1", false},
	"many of this stranger":        {'m', aUser, noPace, "login-fast:1", false},
}

// checkedLogins are those that are decided on when it is their turn to have their signatures looked at.
var checkedLogins = map[string]loginCase{
	"another bus":                 {'a', onAnotherBus, nil, "denied:1", false},
	"another bus, many refused":   {'a', onAnotherBus, noPace, "denied:1 login-fast:1", false},
	"many strangers to ask about": {'m', aUser, func(p *porch) { p.verifier.asks.turns.limits = noTurns }, "login-busy:1", false},
	"many logins in hand":         {'a', aUser, func(p *porch) { p.read(); p.members.turns.limits = noTurns }, "login-busy:1", false},
	"many logins of the user":     {'a', aUser, func(p *porch) { p.read(); noPace(p) }, "login-fast:1", false},
	"many hellos in hand":         {'m', aStranger, func(p *porch) { p.door.turns.limits = noTurns }, "login-busy:1", false},
	"no seat to say hello":        {'m', aStranger, func(p *porch) { p.crowd.door = newSeats[string](0, 0, 0) }, "door-full:1", false},
}

// answeredLogins are those that are decided on when it is their turn to be answered.
var answeredLogins = map[string]loginCase{
	"let in":                        {'a', aUser, nil, "allowed:1", true},
	"let in, to say hello":          {'m', aStranger, nil, "allowed:1", false}, // its seat is taken before
	"not on the allowlist":          {'m', aUser, nil, "denied:1", false},
	"as many connections as may be": {'a', aUser, func(p *porch) { p.crowd.bus = newSeats[crypto.PublicKey](0, 0, 0) }, "bus-full:1", false},
	"told of that a moment ago": {'a', aUser, func(p *porch) {
		p.crowd.bus = newSeats[crypto.PublicKey](0, 0, 0)
		p.crowd.mayTell(p.admin.Key(), p.now())
	}, "bus-full:1", false},
	"nothing to sign answers with":   {'a', aUser, (*porch).forgetIssuer, "", true},
	"nor refusals":                   {'m', aUser, (*porch).forgetIssuer, "denied:1", false},
	"the store does not answer":      {'a', aUser, func(p *porch) { p.store.Close() }, "unavailable:1", false},
	"a record is damaged":            {'m', aUser, func(p *porch) { p.asks(&ailing{Backend: p.store, lists: true}) }, "unavailable:1", false},
	"the store does not read a room": {'a', namingARoom, func(p *porch) { p.asks(&ailing{Backend: p.store, entries: true}) }, "unavailable:1", false},
	"a room that is not there":       {'a', namingARoom, nil, "allowed:1", true},
}

// forgetIssuer leaves the porch nothing to sign answers with.
func (p *porch) forgetIssuer() {
	key, err := p.issuer.PublicKey()
	if err == nil {
		p.issuer, err = nkeys.FromPublicKey(key)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// TestLoginOutcomes: each reason for which a login is refused, or left without an answer, wherever it is on its way.
// Each step is taken by itself, without the pools between, so that nothing else can be the reason.
func TestLoginOutcomes(t *testing.T) {
	received := func(p *porch, l *login) { p.receive(p.t.Context(), l.Msg); p.idle() }
	checked := func(p *porch, l *login) { p.check(p.t.Context(), l) }
	answered := func(p *porch, l *login) { p.answer(p.t.Context(), l) }
	late := func(step func(*porch, *login)) func(*porch, *login) {
		return func(p *porch, l *login) {
			l.arrived = l.arrived.Add(-answerTimeout - 1)
			step(p, l)
		}
	}
	tooLate := map[string]loginCase{"late": {'a', aUser, nil, "login-busy:1", false}}
	for name, c := range map[string]struct {
		step   func(*porch, *login)
		logins map[string]loginCase
	}{
		"received":       {received, receivedLogins},
		"checked":        {checked, checkedLogins},
		"checked, late":  {late(checked), tooLate},
		"answered":       {answered, answeredLogins},
		"answered, late": {late(answered), tooLate},
	} {
		for what, login := range c.logins {
			t.Run(name+"/"+what, func(t *testing.T) { login.try(t, c.step) })
		}
	}
}

// try has the login take one step.
func (c *loginCase) try(t *testing.T, step func(*porch, *login)) {
	p, s := newPorch(t)
	s.release()
	if c.before != nil {
		c.before(p)
	}
	l := p.peeked(person(t, c.who), c.token, proper)
	step(p, l)
	if got := p.outcome(); got != c.want {
		t.Errorf("it ends with %q, want %q", got, c.want)
	}
	if p.crowd.isIn(l.conn) != c.inside {
		t.Errorf("it has a seat: %v", !c.inside)
	}
	if len(p.drops) > 0 && p.crowd.mayComeIn(l.conn.server, l.conn.id) {
		t.Error("others wait for a login that is not answered")
	}
}

// counting is a store that counts how often it is asked whether somebody may use the bus.
type counting struct {
	store.Backend
	asked atomic.Int32
}

func (s *counting) IsAuthorized(ctx context.Context, key crypto.PublicKey) (bool, error) {
	s.asked.Add(1)
	return s.Backend.IsAuthorized(ctx, key)
}

// TestAllowlistAskedOnce: one login asks the allowlist once, however many rooms it names, whether its user is known here
// already or not; one who says hello asks it nothing, nor does one who proves nothing.
func TestAllowlistAskedOnce(t *testing.T) {
	rooms := func(t *crypto.Token) { t.Rooms = []crypto.ID{{2}, {3}, {4}} }
	for name, c := range map[string]struct {
		token  func(*crypto.Token)
		before func(p *porch)
		want   int32
	}{
		"a user":                    {aUser, (*porch).read, 1},
		"a user with rooms":         {rooms, (*porch).read, 1},
		"one who is not known here": {rooms, func(*porch) {}, 1},
		"one who says hello":        {aStranger, func(*porch) {}, 0},
		"one of another bus":        {onAnotherBus, func(*porch) {}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p, gate := newPorch(t)
			gate.release()
			s := &counting{Backend: gate}
			p.asks(s)
			p.verifier.roster = p.logs.roster
			c.before(p)
			l := p.peeked(p.admin, c.token, proper)
			p.check(t.Context(), l)
			eventually(t, "it is decided", func() bool { return p.outcome() != "" })
			if got := s.asked.Load(); got != c.want {
				t.Errorf("it was asked %d times, and the login ended with %s", got, p.outcome())
			}
		})
	}
}

// TestGranted: a login has exactly the rights in rooms that their logs give.
func TestGranted(t *testing.T) {
	p, _ := newPorch(t)
	bob := person(t, 'b')
	room := func(change func(*ledger.Policy), bodies ...ledger.Body) crypto.ID {
		t.Helper()
		policy, s := plainPolicy(), new(ledger.State)
		change(&policy)
		subject := fmt.Sprint("r", p.conns)
		p.conns++
		for _, body := range append([]ledger.Body{&ledger.Create{Bus: p.bus, Subject: subject, Policy: policy, Nonce: make([]byte, 16)}}, bodies...) {
			storetest.Write(t, p.store, s, p.admin, body)
		}
		return s.ID
	}
	invite := func(role ledger.Role) ledger.Body {
		return &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: role}}}
	}
	connection := connectionKey(t)
	remove := &ledger.Remove{Keys: []crypto.PublicKey{bob.Key()}}
	p.allow(bob)
	stored, live := func(*ledger.Policy) {}, func(policy *ledger.Policy) { policy.Retain = nil }
	for name, c := range map[string]struct {
		room                        crypto.ID
		readsLive, stores, sendsNow bool
	}{
		"a member":                     {room(stored, invite(ledger.RoleMember)), true, true, false},
		"a member, of one not stored":  {room(live, invite(ledger.RoleMember)), true, false, true},
		"a reader":                     {room(stored, invite(ledger.RoleReader)), true, false, false},
		"a reader, of one not stored":  {room(live, invite(ledger.RoleReader)), true, false, false},
		"a member of an archived room": {room(stored, invite(ledger.RoleMember), &ledger.Archive{}), true, false, false},
		"a stranger":                   {room(stored), false, false, false},
		"one who was removed":          {room(live, invite(ledger.RoleMember), remove), false, false, false},
		"the bus, named as a room":     {p.bus, false, false, false},
		"a room that is not there":     {crypto.ID{9}, false, false, false},
	} {
		req := jwt.NewAuthorizationRequestClaims("request")
		req.UserNkey = connection
		uc, err := p.decide(t.Context(), req, p.peeked(bob, func(t *crypto.Token) { t.Rooms = []crypto.ID{c.room} }, proper))
		if err != nil {
			t.Fatal(err)
		}
		rights := len(uc.Sub.Allow) + len(uc.Pub.Allow)
		got := []bool{
			slices.Contains(uc.Sub.Allow, bus.LiveFilter(c.room)),
			slices.Contains(uc.Pub.Allow, bus.StoredSubject(c.room, bob.Key())),
			slices.Contains(uc.Pub.Allow, bus.LiveSubject(c.room, bob.Key())),
		}
		if !slices.Equal(got, []bool{c.readsLive, c.stores, c.sendsNow}) {
			t.Errorf("%s may read, store and send %v", name, got)
		}
		for _, ok := range got {
			if ok {
				rights--
			}
		}
		if rights != 3 { // its inbox, its notices and the API
			t.Errorf("%s may do more: %v %v", name, uc.Sub.Allow, uc.Pub.Allow)
		}
	}
}

// unreadable is a store whose logs cannot be read, but for one.
type unreadable struct {
	store.Backend
	but crypto.ID
}

func (u unreadable) Entries(ctx context.Context, log crypto.ID, after uint64) iter.Seq2[store.Entry, error] {
	if log == u.but {
		return u.Backend.Entries(ctx, log, after)
	}
	return func(yield func(store.Entry, error) bool) { yield(store.Entry{}, store.ErrUnavailable) }
}

// TestGrantedNothingUnread: who names a room whose log cannot be read is not let in without it.
func TestGrantedNothingUnread(t *testing.T) {
	p, _ := newPorch(t)
	bob := person(t, 'b')
	p.allow(bob)
	s := new(ledger.State)
	storetest.Write(t, p.store, s, p.admin, &ledger.Create{Bus: p.bus, Subject: "r", Policy: plainPolicy(), Nonce: make([]byte, 16)})
	p.asks(unreadable{p.store, p.bus})
	req := jwt.NewAuthorizationRequestClaims("request")
	req.UserNkey = connectionKey(t)
	for rooms, want := range map[int]error{0: nil, 1: store.ErrUnavailable} {
		_, err := p.decide(t.Context(), req, p.peeked(bob, func(t *crypto.Token) { t.Rooms = []crypto.ID{s.ID}[:rooms] }, proper))
		if !errors.Is(err, want) {
			t.Errorf("naming %d rooms: %v, want %v", rooms, err, want)
		}
	}
}

// TestLoginsNotServed: a service that cannot be asked says so.
func TestLoginsNotServed(t *testing.T) {
	n, admin := node(t, "")
	peer := mustDial(t, n, admin, n.Bus)
	peer.Close()
	p, _ := newPorch(t)
	if _, err := p.serve(t.Context(), peer.Conn, new(tasks.Group)); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("it is served over a closed connection: %v", err)
	}
}

// TestLoginLasts: a login lasts as long as logins do, and that of somebody whose access ends sooner no longer than that.
func TestLoginLasts(t *testing.T) {
	p, _ := newPorch(t)
	for name, c := range map[string]struct{ access, login time.Duration }{
		"for good": {0, loginLife}, "for less": {loginLife / 2, loginLife / 2}, "for longer": {2 * loginLife, loginLife},
	} {
		who := person(t, name[len(name)-1])
		user := ledger.NewUser{Key: who.Key(), Name: "someone-" + name[4:], Role: ledger.RoleUser}
		if c.access > 0 {
			ends := crypto.Number(p.now().Add(c.access).UnixMilli())
			user.Expires = &ends
		}
		storetest.Write(t, p.store, p.state, p.admin, &ledger.Add{Users: []ledger.NewUser{user}})
		req := jwt.NewAuthorizationRequestClaims("request")
		req.UserNkey = connectionKey(t)
		uc, err := p.decide(t.Context(), req, p.peeked(who, aUser, proper))
		if err != nil {
			t.Fatal(err)
		}
		if want := p.now().Add(c.login).Unix(); uc.Expires != want {
			t.Errorf("access %s: a login ends %d seconds from when it should", name, uc.Expires-want)
		}
	}
}
