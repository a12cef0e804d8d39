package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/unibus/unibus/internal/store"
)

// ServerOptions of an embedded NATS server.
type ServerOptions struct {
	Listen  string // host:port; port 0 takes a free one
	Dir     string // JetStream's files
	Sync    string // when JetStream syncs to disk: "always", or an interval such as 10s
	TLSCert string
	TLSKey  string
	Config  string // a file of further NATS server configuration
	Log     *slog.Logger
}

// Links are the service's own connections, one per account, and the account key that signs the
// answers to the server's authorization requests.
type Links struct {
	Auth, Bus, Sys *nats.Conn
	Issuer         nkeys.KeyPair
}

// Close ends the connections.
func (l *Links) Close() {
	for _, nc := range []*nats.Conn{l.Auth, l.Bus, l.Sys} {
		if nc != nil {
			nc.Close()
		}
	}
}

// Server is an embedded NATS server whose every login is answered by auth callout.
type Server struct {
	ns    *server.Server
	lock  *flock.Flock
	Links Links
	tls   bool
}

// serverConfig is the server's configuration. The keys of the service's users live as long as the
// process: nobody else needs them.
const serverConfig = `
server_name: %q
listen: %q
jetstream { store_dir: %q, sync_interval: %s }
accounts {
  AUTH: { users: [{nkey: %s}] }
  BUS: { jetstream: enabled, users: [{nkey: %s}] }
  SYS: { users: [{nkey: %s}] }
}
system_account: SYS
authorization { timeout: 2, auth_callout { issuer: %s, account: AUTH, auth_users: [%[5]s, %[6]s, %[7]s] } }
`

// StartServer starts a server and makes the service's connections to it. Until something answers
// authorization requests nobody else gets in.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start the NATS server: %w", err)
	}
	lock := flock.New(filepath.Join(o.Dir, "lock"))
	if ok, err := lock.TryLock(); err != nil || !ok {
		return nil, fmt.Errorf("start the NATS server: %w: %s is in use by another server", store.ErrExists, o.Dir)
	}
	s := &Server{lock: lock, tls: o.TLSCert != ""}
	keys, opts, err := o.options(&s.Links)
	if err == nil {
		s.ns, err = server.NewServer(opts)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the NATS server: %w", err), lock.Unlock())
	}
	s.ns.SetLoggerV2(&serverLog{o.Log}, false, false, false)
	s.ns.Start()
	if !s.ns.ReadyForConnections(10 * time.Second) {
		s.Stop()
		return nil, fmt.Errorf("start the NATS server: %w: it does not listen on %s (in use?)", store.ErrUnavailable, o.Listen)
	}
	for i, link := range []**nats.Conn{&s.Links.Auth, &s.Links.Bus, &s.Links.Sys} {
		if *link, err = s.connect(keys[i]); err != nil {
			s.Stop()
			return nil, fmt.Errorf("start the NATS server: %w", failure(err))
		}
	}
	return s, nil
}

func (o ServerOptions) options(l *Links) ([]nkeys.KeyPair, *server.Options, error) {
	listen, err := freePort(o.Listen)
	if err != nil {
		return nil, nil, err
	}
	var keys []nkeys.KeyPair
	var names []any
	for range 3 {
		k, name, err := newKey(nkeys.CreateUser)
		if err != nil {
			return nil, nil, err
		}
		keys, names = append(keys, k), append(names, name)
	}
	issuer, name, err := newKey(nkeys.CreateAccount)
	if err != nil {
		return nil, nil, err
	}
	l.Issuer, names = issuer, append(names, name)
	sync := o.Sync
	if sync == "" {
		sync = "always"
	}
	conf := fmt.Sprintf(serverConfig, append([]any{"unibus-" + names[0].(string)[:12], listen, o.Dir, sync}, names...)...)
	if o.TLSCert != "" {
		conf += fmt.Sprintf("tls { cert_file: %q, key_file: %q }\n", o.TLSCert, o.TLSKey)
	}
	if o.Config != "" {
		more, err := os.ReadFile(o.Config)
		if err != nil {
			return nil, nil, fmt.Errorf("--nats-config: %w", err)
		}
		conf += string(more)
	}
	opts := &server.Options{NoSigs: true}
	if err := opts.ProcessConfigString(conf); err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	return keys, opts, nil
}

func newKey(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string, error) {
	k, err := create()
	if err != nil {
		return nil, "", err
	}
	name, err := k.PublicKey()
	return k, name, err
}

// freePort writes a listen address as the server wants it: it takes a free port for -1.
func freePort(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("%w: listen address %q is not host:port", store.ErrInvalid, listen)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%w: listen address %q has no port number", store.ErrInvalid, listen)
	} else if n == 0 {
		port = "-1"
	}
	return net.JoinHostPort(host, port), nil
}

func (s *Server) connect(key nkeys.KeyPair) (*nats.Conn, error) {
	name, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	return nats.Connect("", nats.InProcessServer(s.ns), nats.Nkey(name, key.Sign), nats.Name("unibus service"), nats.NoReconnect())
}

// URL is where clients connect.
func (s *Server) URL() string {
	if s.tls {
		return strings.Replace(s.ns.ClientURL(), "nats://", "tls://", 1)
	}
	return s.ns.ClientURL()
}

// Stop closes the service's connections and the server, and waits until its files are closed.
func (s *Server) Stop() {
	s.Links.Close()
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
	_ = s.lock.Unlock() // the process may be ending anyway, which unlocks it too
}

// serverLog passes on what the NATS server says at the level of its importance.
type serverLog struct{ log *slog.Logger }

func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Warnf(format string, v ...any)   { l.log.Info(fmt.Sprintf(format, v...)) }
func (l *serverLog) Fatalf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l *serverLog) Errorf(format string, v ...any)  { l.log.Info(fmt.Sprintf(format, v...)) }
func (l *serverLog) Debugf(string, ...any)           {}
func (l *serverLog) Tracef(string, ...any)           {}
