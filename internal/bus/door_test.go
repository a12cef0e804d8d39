package bus

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
)

// This file is a service that does nothing but let peers in, and the peers.

// door answers logins as a service does that decides by switches alone.
type door struct {
	members, strangers atomic.Bool   // are let in; members are at first
	asked              chan struct{} // gets one for each login that is answered

	mu     sync.Mutex
	rights func(crypto.Token, *jwt.Permissions) // that a login gets; nil: all
	hold   chan struct{}                        // answers wait until it is closed; nil: they do not
	tokens []crypto.Token
}

// openDoor answers the logins of a server.
func openDoor(t *testing.T, l Links) *door {
	t.Helper()
	d := &door{asked: make(chan struct{}, 1024)}
	d.members.Store(true)
	_, err := l.Auth.Subscribe("$SYS.REQ.USER.AUTH", func(m *nats.Msg) { d.answer(l, m) })
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Auth.Flush(); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *door) answer(l Links, m *nats.Msg) {
	req, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
	if err != nil {
		return
	}
	token, err := crypto.DecodeToken(req.ConnectOptions.Token)
	if err != nil {
		return
	}
	d.mu.Lock()
	d.tokens = append(d.tokens, token)
	rights, hold := d.rights, d.hold
	d.mu.Unlock()
	d.asked <- struct{}{}
	if hold != nil {
		<-hold
	}
	answer := jwt.NewAuthorizationResponseClaims(req.UserNkey)
	answer.Audience = req.Server.ID
	user := jwt.NewUserClaims(req.UserNkey)
	user.Name, user.Audience = token.Key.String(), AccountBus
	let := d.members.Load()
	if token.Bus == nil {
		user.Audience, let = AccountDoor, d.strangers.Load()
	}
	if rights != nil {
		rights(token, &user.Permissions)
	}
	if let {
		answer.Jwt, _ = user.Encode(l.Issuer)
	} else {
		answer.Error = "no"
	}
	if text, err := answer.Encode(l.Issuer); err == nil {
		_ = m.Respond([]byte(text)) // the server may have given up
	}
}

// holdAnswers has the answers to logins wait until the function it returns is called.
func (d *door) holdAnswers() (release func()) {
	hold := make(chan struct{})
	d.set(hold, nil)
	return sync.OnceFunc(func() {
		d.set(nil, nil)
		close(hold)
	})
}

func (d *door) set(hold chan struct{}, rights func(crypto.Token, *jwt.Permissions)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hold, d.rights = hold, rights
}

// logins are how many logins were asked about, and last is the rooms of the last one.
func (d *door) logins() (n int, last []crypto.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.tokens), d.tokens[len(d.tokens)-1].Rooms
}

// forget takes what logins there were off asked.
func (d *door) forget() {
	for len(d.asked) > 0 {
		<-d.asked
	}
}

// dial connects a peer, which is closed with the test.
func dial(t *testing.T, o DialOptions) *Conn {
	t.Helper()
	o.Bus, o.Timeout = crypto.ID{1}, 20*time.Second
	c, err := Dial(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// peered is a server with a door, and one peer.
type peered struct {
	*testing.T
	server *Server
	door   *door
	id     *crypto.Identity
	conn   *Conn
}

func newPeered(t *testing.T, rooms ...crypto.ID) *peered {
	t.Helper()
	s, _ := startServer(t, serverOptions(t))
	d := openDoor(t, s.Links)
	id := identity(t, 1)
	return &peered{t, s, d, id, dial(t, DialOptions{Servers: s.URL(), Identity: id, Rooms: rooms})}
}

// breakOff has the peer's first connection break, and come back.
func (p *peered) breakOff() {
	p.Helper()
	if err := p.conn.first.nc.ForceReconnect(); err != nil {
		p.Fatal(err)
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s after a minute", what)
		}
	}
}

// numbered are rooms with the numbers from one to another.
func numbered(from, to int) (rooms []crypto.ID) {
	for n := from; n <= to; n++ {
		rooms = append(rooms, crypto.ID{byte(n), byte(n >> 8), 1})
	}
	return rooms
}

// names reports whether all rooms are named.
func names(list, rooms []crypto.ID) bool {
	return !slices.ContainsFunc(rooms, func(room crypto.ID) bool { return !slices.Contains(list, room) })
}
