package bus

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
)

// door answers logins as a service does that decides by a switch alone.
type door struct {
	members, strangers atomic.Bool // are let in
	asked              chan struct{}
}

// open answers the logins of a server.
func (d *door) open(t *testing.T, l Links) {
	t.Helper()
	d.asked = make(chan struct{}, 1024)
	_, err := l.Auth.Subscribe("$SYS.REQ.USER.AUTH", func(m *nats.Msg) {
		req, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
		if err != nil {
			return
		}
		token, err := crypto.DecodeToken(req.ConnectOptions.Token)
		if err != nil {
			return
		}
		answer := jwt.NewAuthorizationResponseClaims(req.UserNkey)
		answer.Audience = req.Server.ID
		user := jwt.NewUserClaims(req.UserNkey)
		user.Name, user.Audience = token.Key.String(), AccountBus
		let := d.members.Load()
		if token.Bus == nil {
			user.Audience, let = AccountDoor, d.strangers.Load()
		}
		if let {
			answer.Jwt, _ = user.Encode(l.Issuer)
		} else {
			answer.Error = "no"
		}
		text, err := answer.Encode(l.Issuer)
		if err == nil {
			_ = m.Respond([]byte(text)) // the server may have given up
		}
		d.asked <- struct{}{}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Auth.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestRefusedOrNobodyIs: a bus that refuses everyone, as when its clock is off, is asked again; one that lets
// strangers say hello and refuses this login has barred this identity.
func TestRefusedOrNobodyIs(t *testing.T) {
	s, _ := begin(t)
	var d door
	d.open(t, s.Links)
	d.members.Store(true)
	id := identity(t, 1)
	back := make(chan struct{}, 16)
	c, err := Dial(DialOptions{Servers: s.URL(), Identity: id, Bus: crypto.ID{1}, Timeout: 20 * time.Second, Connected: func() { back <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d.members.Store(false)
	for len(d.asked) > 0 {
		<-d.asked
	}
	if err := c.first.nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	for range 6 { // the login itself, and some that ask what its refusal means
		<-d.asked
	}
	select {
	case <-c.Done():
		t.Fatalf("given up while nobody is let in: %v", c.Err())
	default:
	}
	d.members.Store(true)
	<-back
	d.members.Store(false)
	d.strangers.Store(true)
	if err := c.first.nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if err := c.Err(); onlyDenied(err) == nil {
		t.Errorf("barred as %v", err)
	}
}

// TestUnfinished: a login that a server breaks off is tried again; one that nobody takes up, or that is refused, is not.
func TestUnfinished(t *testing.T) {
	broken := func(errno error) error { return &net.OpError{Op: "write", Net: "tcp", Err: errno} }
	for err, want := range map[error]bool{
		fmt.Errorf("read: %w", io.EOF):                   true,
		broken(syscall.ECONNRESET):                       true,
		broken(syscall.EPIPE):                            true,
		errors.New("nats: Authentication Timeout"):       true,
		errors.New("nats: expected 'PONG', got 'PING'"):  true,
		broken(syscall.ECONNREFUSED):                     false,
		nats.ErrAuthorization:                            false,
		nats.ErrNoServers:                                false,
		errors.New("nats: maximum connections exceeded"): false,
	} {
		if unfinished(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}

// TestDeniedFeed: a refusal says which room's subscription was refused.
func TestDeniedFeed(t *testing.T) {
	room := crypto.ID{1}
	for text, want := range map[string]bool{
		`nats: permissions violation: Permissions Violation for Subscription to "` + LiveFilter(room) + `"`:             true,
		`nats: permissions violation: Permissions Violation for Publish to "` + LiveFilter(room) + `"`:                  false,
		`nats: permissions violation: Permissions Violation for Subscription to "unibus.n.x"`:                           false,
		`nats: permissions violation: Permissions Violation for Subscription to "unibus.r.x.*"`:                         false,
		`nats: permissions violation: Permissions Violation for Subscription to "` + LiveFilter(room) + `" using queue`: true,
	} {
		if got, ok := deniedFeed(errors.New(text)); ok != want || ok && got != room {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
}
