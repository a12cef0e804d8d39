package bus

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
)

// TestRefusedOrNobodyIs: a bus that refuses everyone, as when its clock is off, is asked again; one that lets
// strangers say hello and refuses this login has barred this identity.
func TestRefusedOrNobodyIs(t *testing.T) {
	s, _ := startServer(t, serverOptions(t))
	d := openDoor(t, s.Links)
	back := make(chan struct{}, 16)
	c := dial(t, DialOptions{Servers: s.URL(), Identity: identity(t, 1), Connected: func() { back <- struct{}{} }})
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
	if err := c.Grant(t.Context(), crypto.ID{1}); onlyDenied(err) == nil { // that it is closed says less
		t.Errorf("whoever uses it then is told %v", err)
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
