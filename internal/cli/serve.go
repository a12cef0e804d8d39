package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/dev"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/host"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/service"
)

// serve: flags and settings become service.NodeOptions, checked before anything is made (serveflags.go); the node runs
// until the command is told to end.

// serveCommand is serve and its flags.
type serveCommand struct {
	a *app
	serveFlags
}

// newServe makes serve.
func newServe(a *app) *cobra.Command {
	s := &serveCommand{a: a}
	c := &cobra.Command{
		Use: "serve", Short: "Run a bus: embedded NATS server, store and service", Args: cobra.NoArgs,
		Long: "Run a bus: a NATS server with JetStream, a store, and the service that answers logins and the\nmembership API. The first start founds the bus, with the local identity as its first admin. One\nline on stdout says when it is ready.\n\nSeveral of them make one bus: give each --cluster-name, --cluster-listen, the --routes to the others,\nand the same --keys file. With --external the service runs beside NATS servers that are there already\n(see unibus nats-config). With --bus ID it founds none, and waits until that bus is restored or migrated\ninto its store.\n\nEach flag is a setting, too: UNIBUS_LISTEN in the environment, listen in config.yaml; see unibus(1).",
		Example: `  unibus serve
  unibus serve --store jetstream
  unibus serve --cluster-name prod \
    --listen 10.0.0.1:4222 --cluster-listen 10.0.0.1:6222 \
    --routes 10.0.0.2:6222,10.0.0.3:6222
  unibus serve --external --server nats://10.0.0.1:4222 \
    --keys service.nk --store jetstream`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.checkUseful(cmd.Flags()); err != nil {
				return err
			}
			return s.run(cmd.Context())
		},
	}
	a.set.defineData(c.Flags())
	s.define(c.Flags())
	return c
}

// run starts a node and waits until it is told to end. What could not work is refused before a folder, keys or an identity
// are made, so that a typing error leaves nothing behind.
func (s *serveCommand) run(ctx context.Context) error {
	a := s.a
	o, err := s.nodeOptions(ctx)
	if err != nil {
		return err
	}
	if err := s.checkStartable(a.set, o); err != nil {
		return err
	}
	// Whether there was an identity is looked at before one is made: one that was made now is nobody on an older bus.
	_, missing := os.Stat(a.set.identityFile())
	if o.Identity, o.Founder, err = s.founder(); err != nil {
		return err
	}
	limitMemory(serverMemory)
	node, err := service.StartNode(ctx, o)
	if err != nil {
		return s.notStarted(o, err)
	}
	defer node.Stop()
	// From here on logins are answered; what is told now is who may let others in.
	if node.Founded {
		a.notice("founded the bus %s; %s (%s) is its first admin", node.Bus, o.Founder, o.Identity.Key())
	} else if missing != nil {
		a.notice("the identity that was made is nobody on the bus %s: its admins have theirs elsewhere", node.Bus)
	}
	if err := s.remember(ctx, node, o.Identity); err != nil {
		a.notice("other commands do not go to this server by themselves: %v", err)
	}
	if err := s.printReady(node); err != nil {
		return err
	}
	if node.HTTP != "" {
		a.notice("%s shows how the bus is", pageURL(node.HTTP))
	}
	<-ctx.Done()
	return nil
}

// remember has the founder's other commands go to this server, wherever it listens.
func (s *serveCommand) remember(ctx context.Context, n *service.Node, id *unibus.Identity) error {
	if s.external || n.Admin != id.Key() {
		return nil
	}
	return unibus.Remember(ctx, unibus.Options{Identity: id, StateDir: s.a.set.stateDir()}, n.URL(), n.Bus)
}

// nodeOptions are what the flags and the settings say, as far as it makes sense.
func (s *serveCommand) nodeOptions(ctx context.Context) (service.NodeOptions, error) {
	set := s.a.set
	dir, err := filepath.Abs(set.dataDir()) // which doctor is told, wherever it is run
	if err != nil {
		return service.NodeOptions{}, err
	}
	id, err := s.a.busID(ctx)
	if err != nil {
		return service.NodeOptions{}, err
	}
	o := service.NodeOptions{
		Listen: s.listen, Dir: dir, Store: set.store, Replicas: s.replicas, Keys: set.keys,
		Sync: s.sync, HTTP: s.http, Version: Version, MaxRooms: s.maxRooms, TLSCert: s.tlsCert, TLSKey: s.tlsKey,
		Name: s.serverName, Config: s.natsConfig, Cluster: s.cluster, Bus: id, Log: s.log(),
	}
	if err := s.checkFiles(set); err != nil {
		return o, err
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return o, usage("%s and %s go together", set.called("tls-cert"), set.called("tls-key"))
	}
	on, err := features()
	if err != nil {
		return o, err
	}
	if o.Store == "" && (on[dev.Decentralized] || o.Cluster.Name != "") {
		o.Store = service.JetStream
	}
	if err := checkStore(set, o); err != nil {
		return o, err
	}
	if s.external {
		servers, err := s.a.servers(ctx)
		if err != nil {
			return o, err
		}
		o.External = &bus.DialOptions{Servers: servers, Context: set.context, CA: set.tlsCA, Timeout: set.timeout}
		if o.Cluster.Name != "" {
			return o, usage("%s has no embedded server: %s is none of its flags", set.called("external"), set.called("cluster-name"))
		}
	}
	if err := checkCluster(set, o); err != nil {
		return o, err
	}
	if unsafeRoutes(o.Cluster) {
		s.a.notice("the routes between the servers are not encrypted: --cluster-tls-cert, --cluster-tls-key and --cluster-tls-ca change that")
	}
	return o, nil
}

// log is where the node tells what it does: warnings, and with --verbose more.
func (s *serveCommand) log() *slog.Logger {
	level := slog.LevelWarn
	if s.a.set.verbose {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(s.a.err.raw, &slog.HandlerOptions{Level: level, ReplaceAttr: redacted}))
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

// notStarted says what helps when a node does not start.
func (s *serveCommand) notStarted(o service.NodeOptions, err error) error {
	// The port may have been taken since it was tried, or not have been tried for a folder that was there.
	if errors.Is(err, unibus.ErrUnavailable) && !s.external {
		if taken := s.checkFree(s.a.set); taken != nil {
			return taken
		}
	}
	kept, kerr := service.KeptIn(o.Dir)
	if hint := hintNotStarted(o, kerr == nil && kept == service.JetStream, err); hint != "" {
		return hinted(err, hint)
	}
	switch {
	case errors.Is(err, bus.ErrInUse):
		return hinted(err, hintSecondServe(o.Dir))
	case errors.Is(err, bus.ErrStoodAlone):
		return hinted(err, hintNewFolder)
	}
	return err
}

// founder is the local identity, made if there is none.
func (s *serveCommand) founder() (*unibus.Identity, string, error) {
	file := s.a.set.identityFile()
	id, err := s.a.set.loadIdentity()
	if errors.Is(err, unibus.ErrNotFound) {
		if id, err = unibus.NewIdentity(); err != nil {
			return nil, "", err
		}
		if err = unibus.SaveIdentity(file, id, unibus.DefaultName()); err == nil {
			s.a.notice("made an identity, in %s: %s", file, id.Key())
		}
	}
	name := unibus.IdentityName(file)
	if name == "" {
		name = unibus.DefaultName()
	}
	return id, name, err
}

// readyJSON is a node that is ready, as scripts see it.
type readyJSON struct {
	Admin  unibus.PublicKey `json:"admin"`
	Bus    unibus.ID        `json:"bus"`
	HTTP   string           `json:"http,omitempty"`
	Ready  bool             `json:"ready"`
	Server string           `json:"server"`
}

// pageURL is where a browser finds the page of what is served on an address over HTTP, which is without TLS: that is for a
// proxy. Of all addresses it is one by which other machines may reach it, as that of the ready line.
func pageURL(address string) string {
	name, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(name); err == nil && ip != nil && ip.IsUnspecified() {
		address = net.JoinHostPort(host.Address(), port)
	}
	return "http://" + address + "/"
}

// printReady prints the one line that says so.
func (s *serveCommand) printReady(n *service.Node) error {
	line := readyJSON{Admin: n.Admin, Bus: n.Bus, Ready: true, Server: n.URL()}
	if n.HTTP != "" {
		line.HTTP = "http://" + n.HTTP
	}
	return s.a.out.value(line, func() {
		fmt.Fprintf(s.a.out, "ready: %s#%s\n", line.Server, line.Bus)
	})
}
