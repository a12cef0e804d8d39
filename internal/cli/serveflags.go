package cli

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store/open"
)

// The flags of serve, and everything that is refused of them before anything is made: each check is a method of its own.

// serveFlags are the flags of serve, all of which are settings.
type serveFlags struct {
	// listen is where NATS clients connect, http where the API is served over TCP; empty http: it is not.
	listen, http string
	// sync is always, or an interval that a power failure may take.
	sync string
	// tlsCert and tlsKey are files, for clients; serverName is that of this server in its cluster; natsConfig is a file of
	// further configuration of the embedded server.
	tlsCert, tlsKey, serverName, natsConfig string
	// replicas is on how many servers a new store is kept; 0: as many as the shape of the bus asks for.
	replicas int
	// maxRooms is how many rooms a user may make.
	maxRooms int
	// external is for servers that are there already: no server is embedded then.
	external bool
	// cluster is how several of them are one bus; without a name there is none.
	cluster bus.Cluster
}

// define makes the flags.
func (f *serveFlags) define(fs *pflag.FlagSet) {
	fs.Var(newDefault(&f.listen, "127.0.0.1:4222", parseAddress), "listen", "`ADDRESS` for NATS clients; port 0 takes a free one")
	fs.Var(newValue(&f.replicas, parseBetween(1, 5)), "replicas", "on how many servers a new JetStream store is kept, 1 to 5 (default 3 in a cluster, else 1)")
	fs.Var(newDefault(&f.sync, "always", parseSync), "sync", "when messages are synced to disk: always, or an `INTERVAL` that a power failure may take")
	fs.Var(newValue(&f.http, parseAddress), "http", "serve the membership API, /metrics, /healthz and a page for browsers on this TCP `ADDRESS` too")
	fs.Var(newDefault(&f.maxRooms, strconv.Itoa(service.DefaultMaxRooms), parseCount), "max-rooms", "how many rooms a user may create, archived ones not counted")
	fs.StringVar(&f.tlsCert, "tls-cert", "", "TLS certificate `FILE` for NATS clients")
	fs.StringVar(&f.tlsKey, "tls-key", "", "TLS key `FILE`")
	fs.Var(newValue(&f.serverName, parseWord), "server-name", "`NAME` of this server in its cluster (default one made up once)")
	fs.Var(newValue(&f.cluster.Name, parseWord), "cluster-name", "be one of the servers of the cluster `NAME`")
	fs.Var(newValue(&f.cluster.Listen, parseAddress), "cluster-listen", "`ADDRESS` for the other servers of the cluster")
	fs.Var(newValue(&f.cluster.Routes, parseRoutes), "routes", "`ADDRESSES` where the other servers listen")
	fs.StringVar(&f.cluster.TLSCert, "cluster-tls-cert", "", "TLS certificate `FILE` towards the other servers")
	fs.StringVar(&f.cluster.TLSKey, "cluster-tls-key", "", "TLS key `FILE` towards the other servers")
	fs.StringVar(&f.cluster.TLSCA, "cluster-tls-ca", "", "`FILE` of the authority that signs the servers' certificates")
	fs.BoolVar(&f.external, "external", false, "no embedded server: serve beside those at --server or --context")
	fs.StringVar(&f.natsConfig, "nats-config", "", "`FILE` of further NATS server configuration")
}

// embeddedOnly are the flags that say how the embedded server is to be.
var embeddedOnly = []string{
	"listen", "sync", "tls-cert", "tls-key", "server-name", "nats-config",
	"cluster-name", "cluster-listen", "routes", "cluster-tls-cert", "cluster-tls-key", "cluster-tls-ca",
}

// checkUseful refuses, beside external servers, a flag of the embedded one on the command line: who gives it would believe
// that it has an effect. From elsewhere it may be meant for another run.
func (f *serveFlags) checkUseful(given *pflag.FlagSet) error {
	for _, name := range embeddedOnly {
		if f.external && given.Changed(name) {
			return hinted(usage("--%s has no effect with --external: there is no embedded server", name), hintNoServer)
		}
	}
	return nil
}

// checkFiles fails with ErrNotFound when a file that a flag names is not there.
func (f *serveFlags) checkFiles(set *settings) error {
	for _, named := range [][2]string{
		{"tls-cert", f.tlsCert}, {"tls-key", f.tlsKey}, {"nats-config", f.natsConfig},
		{"cluster-tls-cert", f.cluster.TLSCert}, {"cluster-tls-key", f.cluster.TLSKey}, {"cluster-tls-ca", f.cluster.TLSCA},
	} {
		if _, err := os.Stat(named[1]); named[1] != "" && errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s: %w: there is no file %s", set.called(named[0]), unibus.ErrNotFound, named[1])
		}
	}
	return nil
}

// checkStartable refuses what could not start, and would leave a new data folder behind.
func (f *serveFlags) checkStartable(set *settings, o service.NodeOptions) error {
	for _, pair := range [][3]string{{"tls", f.tlsCert, f.tlsKey}, {"cluster-tls", f.cluster.TLSCert, f.cluster.TLSKey}} {
		if pair[1] == "" || pair[2] == "" {
			continue
		}
		if _, err := tls.LoadX509KeyPair(pair[1], pair[2]); err != nil {
			return hinted(usage("%s, %s: no certificate and its key: %s", set.told(pair[0]+"-cert", pair[1]), set.told(pair[0]+"-key", pair[2]), strings.TrimPrefix(err.Error(), "tls: ")),
				hintKeyPair)
		}
	}
	// Beside external servers the keys have to be there: new ones would open nothing.
	if keys := cmp.Or(o.Keys, service.KeysFile(o.Dir)); f.external {
		if _, err := os.Stat(keys); errors.Is(err, os.ErrNotExist) {
			return hinted(fmt.Errorf("serve --external: %w: there is no file %s with the service's keys", unibus.ErrNotFound, keys),
				hintExternalKeys)
		}
		return nil
	}
	// A folder that is there is not left behind by a port that is taken, which is then told by the server.
	if _, err := os.Stat(o.Dir); errors.Is(err, os.ErrNotExist) {
		return f.checkFree(set)
	}
	return nil
}

// checkFree fails when another program listens where this one is to.
func (f *serveFlags) checkFree(set *settings) error {
	for _, flag := range [][2]string{{"listen", f.listen}, {"http", f.http}} {
		if flag[1] == "" {
			continue
		}
		l, err := net.Listen("tcp", flag[1])
		if errors.Is(err, syscall.EADDRINUSE) {
			return hinted(fmt.Errorf("%s: %w: another program listens there", set.told(flag[0], flag[1]), unibus.ErrExists),
				hintFreePort(set.sources[flag[0]].place, flag[0]))
		}
		// It was free: the server will listen there in a moment.
		if err == nil {
			l.Close()
		}
	}
	return nil
}

// checkStore refuses a store and copies of it that serve cannot keep a bus in.
func checkStore(set *settings, o service.NodeOptions) error {
	if o.Store != "" && o.Store != service.JetStream && !open.IsFile(o.Store) {
		return hinted(usage("%s: serve keeps a bus in sqlite:PATH or in jetstream", set.called("store")), hintServeStore)
	}
	if o.Replicas > 0 && o.Store != service.JetStream {
		return usage("%s is for --store jetstream", set.called("replicas"))
	}
	return nil
}

// checkCluster says what is missing for a cluster.
func checkCluster(set *settings, o service.NodeOptions) error {
	c := o.Cluster
	switch {
	case c.Name == "":
		for _, of := range []struct {
			name string
			set  bool
		}{{"cluster-listen", c.Listen != ""}, {"routes", len(c.Routes) > 0}, {"cluster-tls-cert", c.TLSCert != ""}} {
			if of.set {
				return usage("%s: a cluster needs --cluster-name", set.called(of.name))
			}
		}
		return nil
	case c.Listen == "":
		return usage("%s needs --cluster-listen", set.called("cluster-name"))
	case (c.TLSCert == "") != (c.TLSKey == "") || (c.TLSCert == "") != (c.TLSCA == ""):
		return usage("%s, %s and %s go together", set.called("cluster-tls-cert"), set.called("cluster-tls-key"), set.called("cluster-tls-ca"))
	case o.Store != service.JetStream:
		return usage("%s: the servers of a cluster share a store: --store jetstream", set.called("store"))
	}
	return nil
}

// unsafeRoutes reports whether what the servers of a cluster say to each other can be read by others.
func unsafeRoutes(c bus.Cluster) bool {
	host, _, err := net.SplitHostPort(c.Listen)
	if c.Name == "" || err != nil || c.TLSCert != "" {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback()
}
