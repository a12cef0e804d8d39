// Package attack holds the adversaries of the test suite: what someone can do who speaks NATS itself, with
// no more rights than the bus gives, and who keeps none of a client's manners. Only tests import it.
package attack

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
)

// Peer is a bare NATS connection that is logged in as an identity.
type Peer struct {
	*nats.Conn
	ID    *crypto.Identity
	Bus   crypto.ID
	Inbox crypto.Inbox
}

// Options of Dial.
type Options struct {
	URL      string
	Identity *crypto.Identity
	Bus      crypto.ID   // zero: only to say hello
	Rooms    []crypto.ID // that the token names
	Login    *Login      // one signed before; nil: it is signed now
	Nats     []nats.Option
}

// Login is a signed connect token, and the inbox that it names. It may be used until it expires.
type Login struct {
	Token string
	Inbox crypto.Inbox
}

// SignLogin signs a login as the options say.
func SignLogin(o Options) (*Login, error) {
	l := new(Login)
	_, _ = rand.Read(l.Inbox[:])
	now := time.Now()
	t := crypto.Token{Use: crypto.UseConnect, From: now, Until: now.Add(5 * time.Minute), Rooms: o.Rooms, Inbox: l.Inbox}
	if !o.Bus.IsZero() {
		t.Bus = &o.Bus
	}
	var err error
	l.Token, err = o.Identity.Token(t)
	return l, err
}

// Dial logs in, and does not come back when the connection breaks.
func Dial(o Options) (*Peer, error) {
	login := o.Login
	if login == nil {
		var err error
		if login, err = SignLogin(o); err != nil {
			return nil, err
		}
	}
	var err error
	p := &Peer{ID: o.Identity, Bus: o.Bus, Inbox: login.Inbox}
	sign := func(nonce []byte) ([]byte, error) { return o.Identity.SignNonce(nonce), nil }
	opts := append([]nats.Option{
		nats.Nkey(o.Identity.ConnectionKey().String(), sign), nats.Token(login.Token), nats.NoReconnect(), nats.Timeout(10 * time.Second),
		nats.CustomInboxPrefix(bus.InboxPrefix(p.Inbox)),
	}, o.Nats...)
	p.Conn, err = nats.Connect(o.URL, opts...)
	return p, err
}

// APIToken signs a token for the API that names the connection's inbox.
func (p *Peer) APIToken() (string, error) {
	now := time.Now()
	return p.ID.Token(crypto.Token{Use: crypto.UseAPI, Bus: &p.Bus, From: now, Until: now.Add(time.Hour), Inbox: p.Inbox})
}

// Request builds a request to the API.
func (p *Peer) Request(method, path string, body []byte) (*nats.Msg, error) {
	token, err := p.APIToken()
	if err != nil {
		return nil, err
	}
	return &nats.Msg{Subject: bus.APISubject(p.Inbox), Data: bytes.Clone(body), Header: nats.Header{
		"Method": {method}, "Path": {path}, "Authorization": {"Bearer " + token},
	}}, nil
}

// Call asks the API, and returns the answer and its status.
func (p *Peer) Call(ctx context.Context, method, path string, body []byte) (reply []byte, status int, err error) {
	m, err := p.Request(method, path, body)
	if err != nil {
		return nil, 0, err
	}
	answer, err := p.RequestMsgWithContext(ctx, m)
	if err != nil {
		return nil, 0, err
	}
	_, err = fmt.Sscan(answer.Header.Get("Status"), &status)
	return answer.Data, status, err
}

// OK reports whether a status is one of success.
func OK(status int) bool { return status >= http.StatusOK && status < http.StatusMultipleChoices }

// Deaf dials connections that read nothing while it is locked.
type Deaf struct{ sync.Mutex }

// Dial is for nats.SetCustomDialer.
func (d *Deaf) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &deafConn{c, d}, err
}

type deafConn struct {
	net.Conn
	deaf *Deaf
}

// Read reads, and gives nothing away while the peer is deaf.
func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.deaf.Lock() // what came is handed over when it is unlocked, and no more is read before
	defer c.deaf.Unlock()
	return n, err
}
