package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/unibus/unibus/internal/host"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/store"
)

// This file runs an embedded NATS server: its options become the text of a configuration (options), in a folder that stays
// its own (lock, checkCluster, name); it is started, and stopped within a limit (shutdown). What it logs goes to serverlog.go,
// what a full disk takes of it is got over in health.go.

// ServerOptions of an embedded NATS server.
type ServerOptions struct {
	Listen  string // host:port; port 0 takes a free one
	Dir     string // JetStream's files
	Name    string // of the server, in its cluster; empty: one made up once and kept in Dir
	Keys    *Keys
	Sync    string // when JetStream syncs to disk: "always", or an interval such as 10s
	TLSCert string
	TLSKey  string
	Cluster Cluster
	Config  string // a file of further NATS server configuration
	Log     *slog.Logger
}

// Cluster is how servers find together; one without a Name stands alone.
type Cluster struct {
	Name    string
	Listen  string   // host:port for the other servers
	Routes  []string // where the others listen
	TLSCert string   // with TLSKey and TLSCA: servers prove to each other who they are
	TLSKey  string
	TLSCA   string
}

// Links are the service's own connections, one for each of its duties, and the account key that signs
// the answers to the server's authorization requests.
type Links struct {
	Auth, Store, API, Notify, Hello, Sys *nats.Conn
	Issuer                               nkeys.KeyPair
}

// all are the connections by what they are for.
func (l *Links) all() map[Duty]**nats.Conn {
	return map[Duty]**nats.Conn{
		DutyAuth: &l.Auth, DutyStore: &l.Store, DutyAPI: &l.API, DutyNotify: &l.Notify, DutyHello: &l.Hello, DutySys: &l.Sys,
	}
}

// Close ends the connections.
func (l *Links) Close() {
	for _, nc := range l.all() {
		if *nc != nil {
			(*nc).Close()
		}
	}
}

// ErrInUse and ErrStoodAlone are each a store.ErrExists: a server runs on the folder already; or one that stood alone made it, and
// none of a cluster may have it.
var (
	ErrInUse      = fmt.Errorf("%w", store.ErrExists)
	ErrStoodAlone = fmt.Errorf("%w", store.ErrExists)
)

// Server is an embedded NATS server whose every login is answered by auth callout.
type Server struct {
	ns    *server.Server
	lock  *flock.Flock
	Links Links
	opts  *server.Options
	signs *signs
	log   *slog.Logger

	hangsAfter time.Duration // it has not said what it has; less in tests
}

// serverConfig is an embedded server's configuration, before that of its accounts. Streams reserve what
// they may hold at most, of what is free when the server starts: some dozen rooms of 1 GiB would be all
// that a laptop has room for, full or empty. So a server may hold more than any disk does.
const serverConfig = `
server_name: %q
listen: %q
jetstream { store_dir: %q, sync_interval: %s, max_file_store: 100000T }
`

// StartServer starts a server and makes the service's connections to it. Until something answers
// authorization requests nobody else gets in. ErrInUse and ErrStoodAlone for a folder that it cannot have, ErrExists for that
// of another cluster, ErrInvalid for a configuration that is none, ErrUnavailable when it does not listen in time, or when ctx
// ends before it does.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start the NATS server: %w", err)
	}
	lock := flock.New(filepath.Join(o.Dir, "lock"))
	if ok, err := lock.TryLock(); err != nil || !ok {
		return nil, fmt.Errorf("start the NATS server: %w: %s is in use by another server", ErrInUse, o.Dir)
	}
	s := &Server{lock: lock, signs: newSigns(), log: o.Log, hangsAfter: hangsAfter}
	opts, err := o.options()
	if err == nil {
		err = o.checkCluster()
	}
	if err == nil {
		s.ns, err = server.NewServer(opts)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the NATS server: %w", err), lock.Unlock())
	}
	s.opts = opts
	s.ns.SetLoggerV2(&serverLog{o.Log, s.signs}, false, false, false)
	started := make(chan bool, 1)
	go func() { // ends when the server has started, or with the process: over damage to its files it may hang for ever
		s.ns.Start()
		started <- s.ready(ctx)
	}()
	select {
	case <-ctx.Done():
		return nil, s.callOff(context.Cause(ctx), started)
	case ready := <-started:
		if ready {
			break
		}
		s.Stop()
		why := "it does not listen on " + o.Listen
		if fatal := s.signs.fatal.Load(); fatal != nil {
			why = *fatal
		}
		return nil, fmt.Errorf("start the NATS server: %w: %s", store.ErrUnavailable, why)
	}
	s.signs.started.Store(true)
	links, err := connectDuties("", o.Keys, nats.InProcessServer(s.ns), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
		nats.CustomReconnectDelay(reconnectDelay), nats.ErrorHandler(o.logError))
	if err != nil {
		s.Stop()
		return nil, fmt.Errorf("start the NATS server: %w", err)
	}
	s.Links = *links
	return s, nil
}

// callOff ends a start that is not waited for any more, and says why: in the words and of the kind of its cause, or as
// ErrUnavailable if that has none. The server is stopped once it has started; one that hangs before that is left behind.
func (s *Server) callOff(cause error, started <-chan bool) error {
	err := fmt.Errorf("start the NATS server: %w", cause)
	if !store.IsKind(cause) {
		err = fmt.Errorf("start the NATS server: %w: %w", store.ErrUnavailable, cause)
	}
	select {
	case <-started:
		s.Stop()
		return err
	case <-time.After(stopLimit):
		return errors.Join(err, s.lock.Unlock())
	}
}

// logError logs what goes wrong on the service's own connections. The server may drop one that cannot keep up;
// it comes back by itself.
func (o ServerOptions) logError(nc *nats.Conn, _ *nats.Subscription, err error) {
	o.Log.Info("a connection of the service", "connection", nc.Opts.Name, "error", err)
}

// options writes the server's configuration as a text, which is what operators have of servers of their own, and has the library
// read it. What Config adds comes last. ErrInvalid for what is no configuration.
func (o ServerOptions) options() (*server.Options, error) {
	listen, err := freePort(o.Listen)
	if err != nil {
		return nil, err
	}
	name, err := o.name()
	if err != nil {
		return nil, err
	}
	sync := o.Sync
	if sync == "" {
		sync = "always"
	}
	conf := fmt.Sprintf(serverConfig, name, listen, o.Dir, sync)
	ours, err := o.Keys.Config()
	if err != nil {
		return nil, err
	}
	conf += ours
	if o.TLSCert != "" {
		conf += fmt.Sprintf("tls { cert_file: %q, key_file: %q }\n", o.TLSCert, o.TLSKey)
	}
	if o.Cluster.Name != "" {
		conf += o.Cluster.config(o.Keys)
	}
	if o.Config != "" {
		more, err := os.ReadFile(o.Config)
		if err != nil {
			return nil, fmt.Errorf("further configuration: %w", err)
		}
		conf += string(more)
	}
	// A first ping that comes early would meet logins that are not answered yet, and end them.
	opts := &server.Options{NoSigs: true, DisableShortFirstPing: true, LameDuckDuration: closeWithin, LameDuckGracePeriod: warnBefore}
	if err := opts.ProcessConfigString(conf); err != nil {
		return nil, fmt.Errorf("configuration: %w: %v", store.ErrInvalid, err)
	}
	return opts, nil
}

// config is the part of the configuration that makes a server one of a cluster. Servers ask each other
// for signs of life often: a share of all requests goes to each, until it is known to be gone.
func (c Cluster) config(k *Keys) string {
	conf := fmt.Sprintf("cluster {\n  name: %q\n  listen: %q\n  authorization { user: unibus, password: %q, timeout: 2 }\n  routes: [%s]\n  ping_interval: 2s\n  ping_max: 2\n", c.Name, c.Listen, k.Route, k.routes(c.Routes))
	if c.TLSCert != "" {
		conf += fmt.Sprintf("  tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", c.TLSCert, c.TLSKey, c.TLSCA)
	}
	return conf + "}\n"
}

// checkCluster makes sure that a folder stays what it began as. The streams of a server that stood alone do
// not become a cluster's when it joins one, nor the reverse: the NATS server would drop them.
func (o ServerOptions) checkCluster() error {
	file := filepath.Join(o.Dir, "cluster")
	kept, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	was := strings.TrimSpace(string(kept))
	_, empty := os.Stat(filepath.Join(o.Dir, "jetstream")) // where the server keeps its streams
	switch {
	case was == o.Cluster.Name:
		return nil
	case was != "":
		return fmt.Errorf("%w: %s belongs to a server of the cluster %s", store.ErrExists, o.Dir, was)
	case empty == nil:
		return fmt.Errorf("%w: %s belongs to a server that stood alone, whose streams would be lost in a cluster", ErrStoodAlone, o.Dir)
	}
	return newfile.Write(file, []byte(o.Cluster.Name+"\n"))
}

// name is the server's name. It has to stay: a cluster knows its members, and where they keep what,
// by name.
func (o ServerOptions) name() (string, error) {
	if o.Name != "" {
		return o.Name, nil
	}
	file := filepath.Join(o.Dir, "name")
	err := newfile.Write(file, []byte("unibus-"+strings.ToLower(rand.Text()[:12])+"\n"))
	if err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	kept, err := os.ReadFile(file)
	return strings.TrimSpace(string(kept)), err
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

// URL is where clients connect. Of a server that listens on all addresses it has one by which other machines may reach it.
func (s *Server) URL() string {
	u, err := url.Parse(s.ns.ClientURL())
	if err != nil { // cannot happen: the server has written it
		return s.ns.ClientURL()
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort(host.Address(), u.Port())
	}
	return u.String()
}

// Stop closes the service's connections and the server, and waits until its files are closed, within
// readLimit and stopLimit.
func (s *Server) Stop() (ended bool) {
	if s.Links.Store != nil {
		_ = s.Links.Store.FlushTimeout(readLimit)
	}
	s.Links.Close()
	if !shutdown(s.ns) {
		s.log.Warn("the NATS server did not stop in time, and was left", "limit", stopLimit)
		return false // it may still write: the lock goes with the process
	}
	_ = s.lock.Unlock() // the process may be ending anyway, which unlocks it too
	return true
}

// Exposed returns the address where the server listens beyond this machine without TLS; empty if it does
// not.
func (s *Server) Exposed() string {
	if s.opts.TLSConfig != nil || Loopback(s.opts.Host) {
		return ""
	}
	return net.JoinHostPort(s.opts.Host, fmt.Sprint(s.opts.Port))
}

// Loopback reports whether a host, as a listen address names it, is reached from this machine only.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// startLimit is how long a server may take to listen.
const startLimit = 10 * time.Second

// ready waits until the server listens, and returns false when it cannot, or does not in time, or ctx ends.
func (s *Server) ready(ctx context.Context) bool {
	for deadline := time.Now().Add(startLimit); ctx.Err() == nil && s.signs.fatal.Load() == nil && time.Now().Before(deadline); {
		if s.ns.ReadyForConnections(100 * time.Millisecond) {
			return true
		}
	}
	return false
}

// readLimit is how long a server that is to stop may take to read what it was asked before, and stopLimit, how long to stop
// before it is left behind: it does what it was asked, steps down from what it leads, which takes a second, and closes its
// files.
const (
	readLimit = 200 * time.Millisecond
	stopLimit = 2200 * time.Millisecond
)

// A server that stops closes the connections of its clients one after the other, within closeWithin, after
// warning them.
const (
	closeWithin = 50 * time.Millisecond
	warnBefore  = time.Millisecond
)

// settleLimit is how long a server may take to do what it was asked about streams before JetStream stops all the same.
const settleLimit = time.Second

// settle waits until the server has done what it was asked about streams. One that is made while JetStream stops stays open:
// its files, and what would write them, are nobody's then (nats-server 2.15.2, jetstream.go shutdownJetStream).
func settle(ns *server.Server) {
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if info, err := ns.Jsz(nil); err != nil || info.API.Inflight == 0 {
			return
		}
	}
}

// shutdown stops the server, and returns false when that took too long. Every message that was
// acknowledged is on disk by then: what is lost is a tidy end. It lets nobody in any more before it stops:
// a login that has to be asked about after that ends the process with a panic (nats-server 2.15.2,
// events.go newRespInbox).
func shutdown(ns *server.Server) bool {
	done := make(chan struct{})
	go func() { // ends with the process at the latest
		defer close(done)
		settle(ns)
		ns.LameDuckShutdown()
		ns.Shutdown() // one that does not listen yet, or any more, is not a lame duck
		ns.WaitForShutdown()
	}()
	select {
	case <-done:
		return true
	case <-time.After(stopLimit):
		return false
	}
}
