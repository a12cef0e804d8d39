package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/adrg/xdg"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/dev"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/upkeep"
)

// serveFlags are the flags of serve, all of which are settings.
type serveFlags struct {
	listen, sync, http, tlsCert, tlsKey, serverName, natsConfig string
	replicas, maxRooms                                          int
	external                                                    bool
	cluster                                                     bus.Cluster
}

func (a *app) serveCmd() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use: "serve", Short: "Run a bus: embedded NATS server, store and service", Args: cobra.NoArgs,
		Long: "Run a bus: a NATS server with JetStream, a store, and the service that answers logins and the\nmembership API. The first start founds the bus, with the local identity as its first admin. One\nline on stdout says when it is ready.\n\nSeveral of them make one bus: give each --cluster-name, --cluster-listen, the --routes to the others,\nand the same --keys file. With --external the service runs beside NATS servers that are there already\n(see unibus nats-config). With --bus ID it founds none, and waits until that bus is restored or migrated\ninto its store.\n\nEach flag is a setting, too: UNIBUS_LISTEN in the environment, listen in config.yaml; see unibus(1).",
		Example: `  unibus serve
  unibus serve --store jetstream
  unibus serve --cluster-name prod --cluster-listen 10.0.0.1:6222 --routes 10.0.0.2:6222,10.0.0.3:6222 --listen 10.0.0.1:4222
  unibus serve --external --server nats://10.0.0.1:4222 --keys service.nk --store jetstream`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.useful(cmd.Flags()); err != nil {
				return err
			}
			o, err := a.nodeOptions(cmd.Context(), &f)
			if err != nil {
				return err
			}
			if err := f.startable(o); err != nil { // before anything is made
				return err
			}
			_, missing := os.Stat(a.identityFile())
			id, name, err := a.founder()
			if err != nil {
				return err
			}
			o.Identity, o.Founder = id, name
			keepBelow(serverMemory)
			node, err := service.StartNode(cmd.Context(), o)
			if err != nil {
				return f.notStarted(o, err)
			}
			defer node.Stop()
			if node.Founded {
				a.notice("founded the bus %s; %s (%s) is its first admin", node.Bus, name, id.Key())
			} else if missing != nil {
				a.notice("the identity that was made is nobody on the bus %s: its admins have theirs elsewhere", node.Bus)
			}
			if err := a.ready(node); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return nil
		},
	}
	a.dataFlag(c)
	f.define(c.Flags())
	return c
}

// define makes the flags.
func (f *serveFlags) define(fs *pflag.FlagSet) {
	fs.Var(newDefault(&f.listen, "127.0.0.1:4222", listenAddress), "listen", "`ADDRESS` for NATS clients; port 0 takes a free one")
	fs.Var(newValue(&f.replicas, between(1, 5)), "replicas", "on how many servers a new JetStream store is kept, 1 to 5 (default 3 in a cluster, else 1)")
	fs.Var(newDefault(&f.sync, "always", syncing), "sync", "when messages are synced to disk: always, or an `INTERVAL` that a power failure may take")
	fs.Var(newValue(&f.http, listenAddress), "http", "serve the membership API, /metrics and /healthz on this TCP `ADDRESS` too")
	fs.Var(newDefault(&f.maxRooms, strconv.Itoa(service.DefaultMaxRooms), count), "max-rooms", "how many rooms a user may create, archived ones not counted")
	fs.StringVar(&f.tlsCert, "tls-cert", "", "TLS certificate `FILE` for NATS clients")
	fs.StringVar(&f.tlsKey, "tls-key", "", "TLS key `FILE`")
	fs.StringVar(&f.serverName, "server-name", "", "`NAME` of this server in its cluster (default one made up once)")
	fs.StringVar(&f.cluster.Name, "cluster-name", "", "be one of the servers of the cluster `NAME`")
	fs.Var(newValue(&f.cluster.Listen, listenAddress), "cluster-listen", "`ADDRESS` for the other servers of the cluster")
	fs.Var(newValue(&f.cluster.Routes, routes), "routes", "`ADDRESSES` where the other servers listen")
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

// useful refuses, beside external servers, a flag of the embedded one on the command line: who gives it would believe
// that it has an effect. From elsewhere it may be meant for another run.
func (f *serveFlags) useful(given *pflag.FlagSet) error {
	for _, name := range embeddedOnly {
		if f.external && given.Changed(name) {
			return hinted(usage("--%s has no effect with --external: there is no embedded server", name), "leave it out: the servers have a configuration of their own")
		}
	}
	return nil
}

// filesThere fails with ErrNotFound when a file that a flag names is not there.
func (f *serveFlags) filesThere() error {
	for _, named := range [][2]string{
		{"tls-cert", f.tlsCert}, {"tls-key", f.tlsKey}, {"nats-config", f.natsConfig},
		{"cluster-tls-cert", f.cluster.TLSCert}, {"cluster-tls-key", f.cluster.TLSKey}, {"cluster-tls-ca", f.cluster.TLSCA},
	} {
		if _, err := os.Stat(named[1]); named[1] != "" && errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("--%s: %w: there is no file %s", named[0], unibus.ErrNotFound, named[1])
		}
	}
	return nil
}

// startable refuses what could not start, and would leave a new data folder behind.
func (f *serveFlags) startable(o service.NodeOptions) error {
	for _, pair := range [][3]string{{"tls", f.tlsCert, f.tlsKey}, {"cluster-tls", f.cluster.TLSCert, f.cluster.TLSKey}} {
		if pair[1] == "" || pair[2] == "" {
			continue
		}
		if _, err := tls.LoadX509KeyPair(pair[1], pair[2]); err != nil {
			return hinted(usage("--%s-cert %s, --%s-key %s: no certificate and its key: %s", pair[0], pair[1], pair[0], pair[2], strings.TrimPrefix(err.Error(), "tls: ")),
				"both are PEM files, the key that of the certificate")
		}
	}
	if keys := cmp.Or(o.Keys, service.KeysFile(o.Dir)); f.external {
		if _, err := os.Stat(keys); errors.Is(err, os.ErrNotExist) {
			return hinted(fmt.Errorf("serve --external: %w: there is no file %s with the service's keys", unibus.ErrNotFound, keys),
				"--keys FILE; unibus nats-config makes it, and prints the configuration that the servers need with it")
		}
		return nil
	}
	if _, err := os.Stat(o.Dir); errors.Is(err, os.ErrNotExist) {
		return f.taken()
	}
	return nil
}

// taken fails when another program listens where this one is to.
func (f *serveFlags) taken() error {
	for _, flag := range [][2]string{{"listen", f.listen}, {"http", f.http}} {
		if flag[1] == "" {
			continue
		}
		l, err := net.Listen("tcp", flag[1])
		if errors.Is(err, syscall.EADDRINUSE) {
			return hinted(fmt.Errorf("--%s %s: %w: another program listens there", flag[0], flag[1], unibus.ErrUnavailable),
				"another address: --"+flag[0]+" 127.0.0.1:PORT; port 0 takes a free one")
		}
		if err == nil {
			l.Close()
		}
	}
	return nil
}

// notStarted says what helps when a node does not start.
func (f *serveFlags) notStarted(o service.NodeOptions, err error) error {
	if errors.Is(err, unibus.ErrUnavailable) && !f.external {
		if taken := f.taken(); taken != nil {
			return taken
		}
	}
	kept, kerr := service.KeptIn(o.Dir)
	keptThere := kerr == nil && kept == service.JetStream
	switch damaged := errors.Is(err, store.ErrDamaged); {
	case errors.Is(err, service.ErrOwnCopies):
		return hinted(err, "empty "+o.Dir+" but for service.nk, and start this server again: it copies what the others have; if several servers say so, empty all of them first")
	case damaged && (o.Store == service.JetStream || !f.external && o.Store == "" && keptThere):
		return hinted(err, upkeep.BackToServers)
	case o.Store != service.JetStream && (errors.Is(err, store.ErrElsewhere) || f.external && damaged && keptThere):
		named := "" // where a folder has a database as well, it has to be said which bus is meant
		if !f.external {
			named = " --bus ID"
		}
		return hinted(err, "to serve the bus that is kept in the servers: --store "+service.JetStream+named)
	}
	if errors.Is(err, unibus.ErrExists) && strings.Contains(err.Error(), "in use by another server") {
		return hinted(err, "another unibus serve runs on "+o.Dir+": stop it, or give this one its own --data DIR and --listen ADDRESS")
	}
	return err
}

// nodeOptions reads the flags of serve.
func (a *app) nodeOptions(ctx context.Context, f *serveFlags) (service.NodeOptions, error) {
	dir, err := filepath.Abs(a.dataDir()) // which doctor is told, wherever it is run
	if err != nil {
		return service.NodeOptions{}, err
	}
	level := slog.LevelWarn
	if a.set.verbose {
		level = slog.LevelInfo
	}
	o := service.NodeOptions{
		Listen: f.listen, Dir: dir, Store: a.set.store, Replicas: f.replicas, Keys: a.set.keys,
		Sync: f.sync, HTTP: f.http, MaxRooms: f.maxRooms, TLSCert: f.tlsCert, TLSKey: f.tlsKey,
		Name: f.serverName, Config: f.natsConfig, Cluster: f.cluster, Bus: a.set.bus,
		Log: slog.New(slog.NewTextHandler(a.err.raw, &slog.HandlerOptions{Level: level, ReplaceAttr: redacted})),
	}
	if err := f.filesThere(); err != nil {
		return o, err
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return o, usage("--tls-cert and --tls-key go together")
	}
	on, err := dev.Features(os.Getenv("UNIBUS_FEATURES"))
	if err != nil {
		return o, usage("UNIBUS_FEATURES: %w", err)
	}
	if o.Store == "" && (on[dev.Decentralized] || o.Cluster.Name != "") {
		o.Store = service.JetStream
	}
	if o.Store != "" && o.Store != service.JetStream && !strings.HasPrefix(o.Store, "sqlite:") {
		return o, usage("--store %s: serve keeps a bus in sqlite:PATH or in jetstream", redact.URL(o.Store))
	}
	if o.Replicas > 0 && o.Store != service.JetStream {
		return o, usage("--replicas is for --store jetstream")
	}
	if f.external {
		servers, err := a.server(ctx)
		if err != nil {
			return o, err
		}
		o.External = &bus.DialOptions{Servers: servers, Context: a.set.context, Timeout: a.set.timeout}
		if o.Cluster.Name != "" {
			return o, usage("--external has no embedded server: --cluster-name is none of its flags")
		}
	}
	return o, a.checkCluster(o)
}

// redacted keeps passwords in URLs out of the log.
func redacted(_ []string, at slog.Attr) slog.Attr {
	switch v := at.Value.Any().(type) {
	case string:
		at.Value = slog.StringValue(redact.Text(v))
	case error:
		at.Value = slog.StringValue(redact.Text(v.Error()))
	}
	return at
}

// checkCluster says what is missing for a cluster, or unsafe.
func (a *app) checkCluster(o service.NodeOptions) error {
	c := o.Cluster
	switch {
	case c.Name == "" && (c.Listen != "" || len(c.Routes) > 0 || c.TLSCert != ""):
		return usage("a cluster needs --cluster-name")
	case c.Name == "":
		return nil
	case c.Listen == "":
		return usage("--cluster-name needs --cluster-listen")
	case (c.TLSCert == "") != (c.TLSKey == "") || (c.TLSCert == "") != (c.TLSCA == ""):
		return usage("--cluster-tls-cert, --cluster-tls-key and --cluster-tls-ca go together")
	case o.Store != service.JetStream:
		return usage("the servers of a cluster share a store: --store jetstream")
	}
	if host, _, err := net.SplitHostPort(c.Listen); err == nil && c.TLSCert == "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			a.notice("the routes between the servers are not encrypted: --cluster-tls-cert, --cluster-tls-key and --cluster-tls-ca change that")
		}
	}
	return nil
}

func (a *app) natsConfigCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "nats-config", Short: "Print the configuration that NATS servers need to ask unibus who may connect", Args: cobra.NoArgs,
		Long: "Print what to include in the configuration of each NATS server of a cluster, so that it asks the\nservice who may connect. It holds no secret: the keys it names are in the --keys file, which is made\nif it is not there, and which unibus serve --external needs.",
		Example: `  unibus nats-config --keys service.nk > unibus.conf      # in nats-server.conf: include unibus.conf
  unibus serve --external --server nats://10.0.0.1:4222 --keys service.nk --store jetstream`,
		RunE: func(*cobra.Command, []string) error {
			file := cmp.Or(a.set.keys, service.KeysFile(a.dataDir()))
			keys, made, err := bus.LoadOrMakeKeys(file)
			if err != nil {
				return err
			}
			if made {
				a.notice("made the service's keys: %s", file)
			}
			config, err := keys.Config()
			if err != nil {
				return err
			}
			return a.out.value(map[string]string{"config": config, "keys": file}, func() {
				fmt.Fprintf(a.out, "# For unibus: logins are answered by the service.\n%s# And, in the jetstream block, so that messages are synced before they are acknowledged, and since rooms reserve what\n# they may hold at most:\n#   sync_interval: always, max_file_store: 100000T\n", config)
			})
		},
	}
	a.dataFlag(c)
	return c
}

// dataFlag is for commands that look into the data folder of the service on this machine.
func (a *app) dataFlag(c *cobra.Command) {
	c.Flags().StringVar(&a.data, "data", "", "data `DIR` of the service (default $XDG_DATA_HOME/unibus)")
}

func (a *app) dataDir() string {
	if a.data != "" {
		return a.data
	}
	return filepath.Join(xdg.DataHome, "unibus")
}

// founder is the local identity, made if there is none.
func (a *app) founder() (*unibus.Identity, string, error) {
	file := a.identityFile()
	id, err := unibus.LoadIdentity(file)
	if errors.Is(err, unibus.ErrNotFound) {
		if id, err = unibus.NewIdentity(); err != nil {
			return nil, "", err
		}
		if err = unibus.SaveIdentity(file, id, unibus.DefaultName()); err == nil {
			a.notice("made an identity, in %s: %s", file, id.Key())
		}
	}
	name := unibus.IdentityName(file)
	if name == "" {
		name = unibus.DefaultName()
	}
	return id, name, err
}

// ready prints the one line that says so.
func (a *app) ready(n *service.Node) error {
	line := map[string]any{"ready": true, "server": n.URL(), "bus": n.Bus, "admin": n.Admin}
	if n.HTTP != "" {
		line["http"] = "http://" + n.HTTP
	}
	return a.out.value(line, func() {
		fmt.Fprintf(a.out, "ready: %s#%s\n", n.URL(), n.Bus)
	})
}
