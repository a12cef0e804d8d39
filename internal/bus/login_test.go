package bus

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// TestHello: who knows no bus asks which it is, leaves a card, and takes nothing for an answer that is none.
func TestHello(t *testing.T) {
	s, _ := startServer(t, serverOptions(t))
	d := openDoor(t, s.Links)
	id := identity(t, 1)
	o := DialOptions{Servers: s.URL(), Identity: id, Timeout: 5 * time.Second}
	if _, _, err := Hello(t.Context(), o); !errors.Is(err, store.ErrDenied) {
		t.Errorf("strangers are not let in: %v", err)
	}
	d.strangers.Store(true)
	if _, _, err := Hello(t.Context(), o); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("nobody answers: %v", err)
	}
	answers, cards := make(chan string, 1), make(chan []byte, 1)
	_, err := s.Links.Hello.Subscribe(HelloFilter, func(m *nats.Msg) {
		cards <- m.Data
		_ = m.Respond([]byte(<-answers))
	})
	if err == nil {
		err = s.Links.Hello.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	for answer, want := range map[string]string{`{"Founded":"YWJj"}`: "abc", `{}`: "", `{"Founded":""}`: "", `{`: ""} {
		answers <- answer
		founded, _, err := Hello(t.Context(), o)
		if card, _ := id.Card(); string(<-cards) != string(card) {
			t.Error("that is not its card")
		}
		if string(founded) != want || (want == "") != errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %q, %v", answer, founded, err)
		}
	}
	o.Servers = "nats://127.0.0.1:1"
	elsewhere := []string{"", s.URL()} // where a server becomes known while it is waited for
	o.Elsewhere = func() (to string) { to, elsewhere = elsewhere[0], elsewhere[1:]; return to }
	answers <- `{"Founded":"YWJj"}`
	if founded, _, err := Hello(t.Context(), o); string(founded) != "abc" || err != nil {
		t.Errorf("elsewhere: %q, %v", founded, err)
	}
	o.Elsewhere = nil
	if _, _, err := Hello(t.Context(), o); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
}

// contexts is a folder of NATS contexts, by name.
func contexts(t *testing.T, texts map[string]string) {
	t.Helper()
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	dir := filepath.Join(home, "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// certificate makes a certificate for loopback that is its own authority, in two files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: text}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// TestContexts: a NATS context says where to connect, and with which authority; one that is not there, or cannot be
// used, is named.
func TestContexts(t *testing.T) {
	o := serverOptions(t)
	o.TLSCert, o.TLSKey = certificate(t)
	s, _ := startServer(t, o)
	if !strings.HasPrefix(s.URL(), "tls://") {
		t.Fatalf("it is reached at %s", s.URL())
	}
	openDoor(t, s.Links)
	contexts(t, map[string]string{
		"whole":    `{"url":"` + s.URL() + `","ca":"` + o.TLSCert + `"}`,
		"without":  `{"url":"` + s.URL() + `"}`,
		"mutual":   `{"url":"` + s.URL() + `","ca":"` + o.TLSCert + `","cert":"` + o.TLSCert + `","key":"` + o.TLSKey + `"}`,
		"broken":   `{`,
		"unusable": `{"url":"` + s.URL() + `","nkey":"` + filepath.Join(t.TempDir(), "none") + `"}`,
	})
	for name, kind := range map[string]error{"whole": nil, "without": store.ErrUnavailable, "broken": store.ErrInvalid, "unusable": store.ErrInvalid, "none": store.ErrNotFound} {
		t.Run("peer/"+name, func(t *testing.T) {
			c, err := Dial(DialOptions{Context: name, Identity: identity(t, 1), Bus: crypto.ID{1}, Timeout: 5 * time.Second})
			if !errors.Is(err, kind) || err != nil && !strings.Contains(err.Error(), "NATS context "+name) {
				t.Fatal(err)
			}
			if err == nil {
				c.Close()
			}
		})
	}
	for name, kind := range map[string]error{"whole": nil, "mutual": nil, "without": store.ErrUnavailable, "none": store.ErrNotFound} {
		t.Run("service/"+name, func(t *testing.T) {
			l, err := External(DialOptions{Context: name, Servers: s.URL(), Timeout: 5 * time.Second}, o.Keys)
			if !errors.Is(err, kind) {
				t.Fatal(err)
			}
			if err == nil {
				if n := len(l.Users()); n != len(duties) {
					t.Errorf("%d users", n)
				}
				l.Close()
			}
		})
		t.Run("operator/"+name, func(t *testing.T) {
			nc, err := Operator(DialOptions{Context: name, Keys: o.Keys, Timeout: 5 * time.Second})
			if !errors.Is(err, kind) {
				t.Fatal(err)
			}
			if err == nil {
				nc.Close()
			}
		})
	}
}

// TestOtherKeys: who has not the service's keys is not the service.
func TestOtherKeys(t *testing.T) {
	s, _ := startServer(t, serverOptions(t))
	openDoor(t, s.Links)
	other, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	o := DialOptions{Servers: s.URL(), Timeout: 5 * time.Second}
	if _, err := External(o, other); !errors.Is(err, store.ErrDenied) {
		t.Errorf("as the service: %v", err)
	}
	o.Keys = other
	if _, err := Operator(o); !errors.Is(err, store.ErrDenied) {
		t.Errorf("as its operator: %v", err)
	}
	o.Direct = true
	if _, err := Dial(o); !errors.Is(err, store.ErrDenied) {
		t.Errorf("straight: %v", err)
	}
}

// TestDirect: who goes straight to the servers has every right, in no session's name, and comes back by itself.
func TestDirect(t *testing.T) {
	o := serverOptions(t)
	s, _ := startServer(t, o)
	back := make(chan struct{}, 1)
	c := dial(t, DialOptions{Servers: s.URL(), Direct: true, Keys: o.Keys, Rooms: numbered(1, 3), Identity: identity(t, 1), Connected: func() { back <- struct{}{} }})
	if err := c.Grant(t.Context(), numbered(1, 500)...); err != nil || len(c.links.all()) != 1 {
		t.Errorf("%d connections, %v", len(c.links.all()), err)
	}
	if err := c.first.nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	<-back
	if err := c.Flush(t.Context(), crypto.ID{1}); err != nil {
		t.Error(err)
	}
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := c.barring.ask(ctx, nil); err != nil {
		t.Errorf("a server that is not there bars nobody: %v", err)
	}
}

// TestCutDialer: a connection that asks what a refusal means ends with who asks.
func TestCutDialer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := cutDialer{ctx}.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := (cutDialer{ctx}).Dial("tcp", l.Addr().String()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestBrokenOff: that a login is taken up and broken off each time is told as that, and not as if nobody listened.
func TestBrokenOff(t *testing.T) {
	s, _ := startServer(t, serverOptions(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "nats://"))
			if err == nil {
				go func() { _, _ = io.Copy(client, server) }() // its greeting
				_, _ = client.Read(make([]byte, 4096))         // the login
				server.Close()
			}
			client.Close()
		}
	}()
	o := DialOptions{Servers: "nats://" + l.Addr().String(), Identity: identity(t, 1), Bus: crypto.ID{1}, Timeout: time.Second}
	if _, err := Dial(o); !errors.Is(err, ErrUnanswered) {
		t.Errorf("%v", err)
	}
}
