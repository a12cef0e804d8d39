package open

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestParse: each form of a URL means one thing, and anything else is refused without showing a password.
func TestParse(t *testing.T) {
	for text, want := range map[string]URL{
		"sqlite:a.db":                      {Path: "a.db"},
		"sqlite:/a b/c?d.db":               {Path: "/a b/c?d.db"},
		"sqlite:sqlite:x":                  {Path: "sqlite:x"},
		"nats://h:4222":                    {Servers: "nats://h:4222"},
		"nats://h:4222?replicas=3":         {Servers: "nats://h:4222", Replicas: 3},
		"nats://a:1,nats://b:2?replicas=5": {Servers: "nats://a:1,nats://b:2", Replicas: 5},
		"tls://u:secret@h":                 {Servers: "tls://u:secret@h:4222"},
		"nats://":                          {},
		"nats://?replicas=1":               {Replicas: 1},
	} {
		if got, err := Parse(text); got != want || err != nil {
			t.Errorf("%s means %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                                 `store "": not valid: neither sqlite:PATH nor nats://HOST:PORT`,
		"jetstream":                        `store "jetstream": not valid: neither sqlite:PATH nor nats://HOST:PORT`,
		"ws://u:secret@h":                  `store "ws://h": not valid: neither sqlite:PATH nor nats://HOST:PORT`,
		"nats:h":                           `store "…": not valid: neither`,
		"sqlite:":                          `store "sqlite:": not valid: sqlite: needs a path`,
		"nats://u:secret@h?replicas=0":     `store "nats://h?replicas=0": not valid: 1 to 5 replicas are possible`,
		"nats://h?replicas=6":              `store "nats://h?replicas=6": not valid: 1 to 5 replicas are possible`,
		"nats://h?replicas=many":           `store "nats://h?replicas=many": not valid: after the ? only replicas=N is known`,
		"nats://h?replicas=1&tls=no":       `store "nats://h?replicas=1&tls=no": not valid: after the ? only replicas=N is known`,
		"nats://h?%zz":                     `store "nats://h?%zz": not valid: after the ? only replicas=N is known`,
		"nats://u:secret@h:port":           `store "nats://…": not valid: the port of a server is a number`,
		"nats://u:secret@h?token=a-secret": `store "nats://h?token=a-secret": not valid`,
	} {
		u, err := Parse(text)
		if !errors.Is(err, store.ErrInvalid) || !strings.HasPrefix(err.Error(), want) || u != (URL{}) {
			t.Errorf("%s: %+v, %v, want %s", text, u, err, want)
		}
		if unknown := strings.Contains(want, "neither"); unknown != errors.Is(err, ErrKind) {
			t.Errorf("%s is of an unknown kind: %v", text, !unknown)
		}
	}
	if u, err := ParseServers("h:4222,i:4222"); err != nil || u.Servers != "nats://h:4222,nats://i:4222" {
		t.Errorf("a list of servers means %+v, %v", u, err)
	}
}

// TestAddress: a store is remembered by where it is, without passwords, and from whatever folder.
func TestAddress(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"sqlite:a.db":                       "sqlite:" + filepath.Join(here, "a.db"),
		"sqlite:/x/../a.db":                 "sqlite:/a.db",
		"nats://u:secret@h:4222?replicas=3": "nats://h:4222",
		"nats://":                           "context:prod",
	} {
		u, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := u.Address("prod"); got != want || err != nil {
			t.Errorf("%s is at %q, %v, want %q", text, got, err, want)
		}
	}
}

// TestSame: one store by two names is the same, and two stores are not.
func TestSame(t *testing.T) {
	dir := t.TempDir()
	file, link, other := filepath.Join(dir, "a.db"), filepath.Join(dir, "link.db"), filepath.Join(dir, "b.db")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.WriteFile(other, nil, 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{FileURL(file), FileURL(file), true},
		{FileURL(file), FileURL(dir + "/./a.db"), true},
		{FileURL(file), FileURL(link), true},
		{FileURL(file), FileURL(other), false},
		{FileURL("not/there"), FileURL("not/../not/there"), true},
		{FileURL(file), "nats://h", false},
		{"nats://h:4222", "nats://h:4222/", true},
		{"nats://h:4222", "nats://h:4222?replicas=3", true},
		{"nats://h:4222", "nats://i:4222", false},
		{"nats://h:4222?x=y", "nats://h:4222?x=y", false}, // which means nothing
		{"h:4222", "h:4222", true},
		{"nats://a:1,nats://b:2", "B:02, tls://a:1", true},
		{"nats://", "nats://?replicas=1", true},
	} {
		if got := Same(c.a, c.b); got != c.same {
			t.Errorf("%s and %s are the same: %v", c.a, c.b, got)
		}
	}
}

// TestTimes: a service is told no soon, an operator waits, and so does a client at a file that others hold.
func TestTimes(t *testing.T) {
	const short, long = time.Second, time.Minute
	for _, c := range []struct {
		name          string
		o             Options
		file, servers time.Duration
	}{
		{"a service", Options{For: Service}, store.DefaultOpTimeout, store.DefaultOpTimeout},
		{"a service that says", Options{For: Service, Step: short}, short, short},
		{"an operator", Options{For: Operator}, Slow, Slow},
		{"an operator that says", Options{For: Operator, Step: short}, short, short},
		{"a client", Options{Step: short}, Slow, short},
		{"a patient client", Options{Step: long}, long, long},
		{"a client that does not say", Options{}, Slow, store.DefaultOpTimeout},
	} {
		if file, servers := c.o.fileCall(), c.o.serversCall(); file != c.file || servers != c.servers {
			t.Errorf("%s waits %v for a file, %v for servers", c.name, file, servers)
		}
	}
	for _, c := range []struct {
		name    string
		o       Options
		bounded bool
	}{{"a service", Options{For: Service}, false}, {"an operator", Options{For: Operator}, true}, {"a client", Options{}, true}} {
		ctx, cancel := c.o.bound(t.Context())
		if _, bounded := ctx.Deadline(); bounded != c.bounded {
			t.Errorf("%s waits for servers to open a store for ever: %v", c.name, !bounded)
		}
		cancel()
	}
}

// jetStream is a connection to a server with JetStream.
func jetStream(t *testing.T) *nats.Conn {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server does not start")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// TestOpen: what a URL names is opened if it is there, made only when that is wanted, and is the same afterwards.
func TestOpen(t *testing.T) {
	nc := jetStream(t)
	for _, text := range []string{FileURL(filepath.Join(t.TempDir(), "a.db")), nc.ConnectedUrl() + "?replicas=1"} {
		u, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := Open(t.Context(), u, nc, Options{For: Operator}); !errors.Is(err, store.ErrNotFound) || s != nil {
			t.Errorf("%s, which is not there: %v, %v", text, s, err)
		}
		for _, missing := range []Missing{Make, Refuse} {
			s, err := Open(t.Context(), u, nc, Options{For: Service, Step: 20 * time.Second, Missing: missing})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Bus(t.Context()); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s, which is empty: %v", text, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if nc.IsClosed() {
		t.Error("the connection is the caller's, and was closed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := InServers(ctx, URL{}, nc, Options{Missing: Make}); err == nil {
		t.Error("opened in no time")
	}
}
