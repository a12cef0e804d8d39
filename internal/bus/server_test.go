package bus

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/store"
)

// TestServerOptions: what cannot be a server's configuration is refused before anything is started, and its folder is
// free again.
func TestServerOptions(t *testing.T) {
	cert, key := certificate(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("nonsense {"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(o *ServerOptions)
		kind   error
	}{
		"no port":                 {func(o *ServerOptions) { o.Listen = "127.0.0.1" }, store.ErrInvalid},
		"a port that is none":     {func(o *ServerOptions) { o.Listen = "127.0.0.1:x" }, store.ErrInvalid},
		"a port above all":        {func(o *ServerOptions) { o.Listen = "127.0.0.1:65536" }, store.ErrInvalid},
		"an interval that is not": {func(o *ServerOptions) { o.Sync = "soon" }, store.ErrInvalid},
		"no further file":         {func(o *ServerOptions) { o.Config = file + "none" }, os.ErrNotExist},
		"a further file of none":  {func(o *ServerOptions) { o.Config = file }, store.ErrInvalid},
		"no certificate":          {func(o *ServerOptions) { o.TLSCert, o.TLSKey = file+"none", key }, store.ErrInvalid},
		"no key of it":            {func(o *ServerOptions) { o.TLSCert, o.TLSKey = cert, file }, store.ErrInvalid},
		"no folder":               {func(o *ServerOptions) { o.Dir = filepath.Join(file, "jetstream") }, nil},
	} {
		t.Run(what, func(t *testing.T) {
			o := serverOptions(t)
			whole := o
			c.change(&o)
			if s, err := StartServer(t.Context(), o); err == nil {
				s.Stop()
				t.Fatal("it starts")
			} else if c.kind != nil && !errors.Is(err, c.kind) || !strings.HasPrefix(err.Error(), "start the NATS server: ") {
				t.Errorf("%v", err)
			}
			startServer(t, whole)
		})
	}
}

// TestClusterOptions: a server of a cluster is told of the others, with the password that they share, and of certificates
// that they prove themselves with.
func TestClusterOptions(t *testing.T) {
	o := serverOptions(t)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cert, key := certificate(t)
	o.Name, o.Sync = "one", "10s"
	o.Cluster = Cluster{Name: "c", Listen: "127.0.0.1:0", Routes: []string{"127.0.0.1:1", "nats-route://127.0.0.1:2"}, TLSCert: cert, TLSKey: key, TLSCA: cert}
	opts, err := o.options()
	if err != nil {
		t.Fatal(err)
	}
	var routes []string
	for _, r := range opts.Routes {
		routes = append(routes, r.String())
	}
	want := "nats-route://unibus:" + o.Keys.Route + "@127.0.0.1:1 nats-route://unibus:" + o.Keys.Route + "@127.0.0.1:2"
	if strings.Join(routes, " ") != want || opts.Cluster.Name != "c" || opts.Cluster.Password != o.Keys.Route || opts.ServerName != "one" {
		t.Errorf("%q, %+v", routes, opts.Cluster)
	}
	if opts.Cluster.TLSConfig == nil || opts.Cluster.TLSConfig.ClientCAs == nil || opts.SyncAlways || opts.SyncInterval.Seconds() != 10 {
		t.Errorf("TLS %+v, sync %v, %v", opts.Cluster.TLSConfig, opts.SyncAlways, opts.SyncInterval)
	}
}

// TestFolder: a folder stays that of one server at a time, keeps its name, and is not taken from a server that stood alone
// into a cluster, nor out of one, or into another.
func TestFolder(t *testing.T) {
	alone := serverOptions(t)
	s, err := StartServer(t.Context(), alone)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := StartServer(t.Context(), alone); !errors.Is(err, ErrInUse) || !errors.Is(err, store.ErrExists) {
		t.Errorf("a second server: %v", err)
	}
	name := s.ns.Name()
	s.Stop()
	again, err := StartServer(t.Context(), alone)
	if err != nil {
		t.Fatal(err)
	}
	if again.ns.Name() != name || !strings.HasPrefix(name, "unibus-") {
		t.Errorf("it is called %s, and was %s", again.ns.Name(), name)
	}
	again.Stop()
	in := func(o ServerOptions, cluster string) error {
		o.Cluster.Name = cluster
		return o.checkCluster()
	}
	if err := in(alone, "c"); !errors.Is(err, ErrStoodAlone) || !errors.Is(err, store.ErrExists) {
		t.Errorf("from alone into a cluster: %v", err)
	}
	fresh := serverOptions(t)
	if err := os.MkdirAll(fresh.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cluster string
		kind    error
	}{{"c", nil}, {"c", nil}, {"d", store.ErrExists}, {"", store.ErrExists}} {
		if err := in(fresh, c.cluster); !errors.Is(err, c.kind) || errors.Is(err, ErrStoodAlone) {
			t.Errorf("of c into %q: %v", c.cluster, err)
		}
	}
}

// TestCannotListen: a server that cannot listen, or is not waited for, is not started, and says why.
func TestCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := serverOptions(t)
	o.Listen = taken.Addr().String()
	if _, err := StartServer(t.Context(), o); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	o.Listen = "127.0.0.1:0"
	if _, err := StartServer(ended, o); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	startServer(t, o) // its folder is free
}

// TestServerLog: what the server says is logged by its importance, without passwords; why it does not start is told to who
// starts it, and the first reason alone.
func TestServerLog(t *testing.T) {
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l := &serverLog{log, newSigns()}
	l.Fatalf("first %s", "nats://u:secret@host:1")
	l.Fatalf("second")
	l.Debugf("detail")
	l.Tracef("detail")
	if why := l.signs.fatal.Load(); why == nil || !strings.HasPrefix(*why, "first nats://") || strings.Contains(*why, "secret") || text.Len() > 0 {
		t.Errorf("%v, %s", why, &text)
	}
	l.signs.started.Store(true)
	for _, c := range []struct {
		write func(string, ...any)
		level string
	}{{l.Noticef, "DEBUG"}, {l.Warnf, "INFO"}, {l.Errorf, "INFO"}, {l.Fatalf, "ERROR"}} {
		text.Reset()
		c.write("no space left at %s", "nats://u:secret@host:1")
		if line := text.String(); !strings.Contains(line, "level="+c.level+" ") || c.level != "DEBUG" && strings.Contains(line, "secret") {
			t.Errorf("%s", line)
		}
	}
	if !l.signs.stuck.Load() {
		t.Error("a full disk is not seen in it")
	}
	text.Reset()
	ServerOptions{Log: log}.logError(&nats.Conn{Opts: nats.Options{Name: "c"}}, nil, errors.New("slow"))
	if line := text.String(); !strings.Contains(line, "connection=c") || !strings.Contains(line, "error=slow") {
		t.Errorf("%s", line)
	}
}
