package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/adrg/xdg"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/service"
)

func (a *app) serveCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "serve", Short: "Run a bus: embedded NATS server, store and service", Args: cobra.NoArgs,
		Long: "Run a bus: a NATS server with JetStream, a store, and the service that answers logins and the\nmembership API. The first start founds the bus, with the local identity as its first admin. One\nline on stdout says when it is ready.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, name, err := a.founder()
			if err != nil {
				return err
			}
			v := a.config
			if (v.GetString("tls-cert") == "") != (v.GetString("tls-key") == "") {
				return usage("--tls-cert and --tls-key go together")
			}
			level := slog.LevelWarn
			if v.GetBool("verbose") {
				level = slog.LevelInfo
			}
			node, err := service.StartNode(cmd.Context(), service.NodeOptions{
				Listen: v.GetString("listen"), Dir: a.dataDir(), Store: v.GetString("store"), Sync: v.GetString("sync"), HTTP: v.GetString("http"),
				TLSCert: v.GetString("tls-cert"), TLSKey: v.GetString("tls-key"), Config: v.GetString("nats-config"),
				Identity: id, Name: name,
				Log: slog.New(slog.NewTextHandler(a.err.raw, &slog.HandlerOptions{Level: level})),
			})
			if err != nil {
				return err
			}
			defer node.Stop()
			if node.Founded {
				a.notice("founded the bus %s; %s (%s) is its first admin", node.Bus, name, id.Key())
			}
			if err := a.ready(node); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return nil
		},
	}
	f := c.Flags()
	f.String("listen", "127.0.0.1:4222", "`ADDRESS` for NATS clients; port 0 takes a free one")
	f.String("data", "", "data `DIR` (default $XDG_DATA_HOME/unibus)")
	f.String("sync", "always", "when messages are synced to disk: always, or an `INTERVAL` that a power failure may take")
	f.String("http", "", "serve the membership API, /metrics and /healthz on this TCP `ADDRESS` too")
	f.String("tls-cert", "", "TLS certificate `FILE` for NATS clients")
	f.String("tls-key", "", "TLS key `FILE`")
	f.String("nats-config", "", "`FILE` of further NATS server configuration")
	return c
}

func (a *app) dataDir() string {
	if d := a.config.GetString("data"); d != "" {
		return d
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
