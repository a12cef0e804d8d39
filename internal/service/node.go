package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/open"
)

// A node is all of serve: the server, the store and the service, begun in this order and ended in the opposite one
// (stop.go). What a data folder says of its bus is looked at before anything is opened (kept.go, held.go).

// JetStream is the Store of NodeOptions that keeps everything in the NATS servers themselves.
const JetStream = "jetstream"

// NodeOptions of StartNode.
type NodeOptions struct {
	Listen   string // host:port for NATS clients; port 0 takes a free one
	Dir      string // data folder
	Store    string // sqlite:PATH, or JetStream; empty: unibus.db in Dir
	Replicas int    // of a JetStream store that is made now; 0: 3 in a cluster, else 1
	Keys     string // file of the service's keys; empty: service.nk in Dir, made if it is not there
	Sync     string // "always", or an interval such as 10s: how much a power failure may take
	HTTP     string
	Version  string // of the program, shown with the bus
	MaxRooms int    // that a user may create; 0: DefaultMaxRooms
	TLSCert  string
	TLSKey   string
	Name     string // of the server in its cluster
	Cluster  bus.Cluster
	Config   string           // a file of further NATS server configuration
	External *bus.DialOptions // servers that are there already, instead of an embedded one
	Identity *crypto.Identity // founds the bus if there is none
	Founder  string           // its name
	Bus      crypto.ID        // found none, and wait until the store holds this one; zero: found one if there is none
	Log      *slog.Logger
}

// serverDir is where the embedded server keeps its files.
func (o *NodeOptions) serverDir() string { return filepath.Join(o.Dir, "jetstream") }

// alone reports whether the embedded server is the only one: there is nobody to wait for, and nobody has a copy.
func (o *NodeOptions) alone() bool { return o.External == nil && o.Cluster.Name == "" }

// lost is the kind of error of a server that has lost some of its files: ErrOwnCopies where others have copies, else
// store.ErrDamaged.
func (o *NodeOptions) lost() error {
	if o.alone() {
		return store.ErrDamaged
	}
	return ErrOwnCopies
}

// KeysFile is where a node with the data folder dir keeps the service's keys.
func KeysFile(dir string) string { return filepath.Join(dir, "service.nk") }

// Node is a store and the service beside it, and an embedded NATS server if it is not for others.
type Node struct {
	*Service
	server *bus.Server // nil beside external servers
	links  *bus.Links
	url    string
	store  store.Backend
	held   *heldKeeper // nil unless the server keeps the store
	log    *slog.Logger
}

// start takes the steps of StartNode, in the order in which they are there.
func (n *Node) start(ctx context.Context, o NodeOptions) error {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("the data folder: %w", err)
	}
	if o.External == nil {
		if err := o.checkKept(); err != nil {
			return err
		}
		if err := o.checkHeld(ctx); err != nil {
			return err
		}
	}
	hanging, hung := context.WithCancelCause(ctx)
	defer hung(nil)
	stop := startHangs.watch(ctx, &o, hung)
	err := n.connect(hanging, o)
	stop()
	if err == nil {
		err = n.run(hanging, o, hung)
	}
	why := context.Cause(hanging)
	if why == nil || ctx.Err() != nil {
		return err
	}
	if !errors.Is(why, bus.ErrHangs) {
		return why
	}
	if stream, err := bus.LookForHang(ctx, o.serverDir()); err == nil && stream != "" {
		return o.hangsOver(stream)
	}
	return fmt.Errorf("%w: %w: %v; its files show nothing that it would hang over", errSilent, store.ErrUnavailable, why)
}

// run takes the steps that need servers; hung is called when the embedded one does not answer.
func (n *Node) run(ctx context.Context, o NodeOptions, hung func(error)) error {
	if most := n.links.Sys.MaxPayload(); most < minPayload {
		return fmt.Errorf("%w: the NATS server takes messages of at most %d bytes: logins and answers of the API need a max_payload of %d or more", store.ErrInvalid, most, minPayload)
	}
	n.exposed(o)
	if n.server != nil {
		defer newScrub(o.Log, n.server).meanwhile(ctx, hung)()
	}
	return n.serve(ctx, o)
}

// serve opens the store and starts the service beside it.
func (n *Node) serve(ctx context.Context, o NodeOptions) error {
	replicas := func(context.Context) (int, error) { return 1, nil }
	if o.Store == JetStream {
		s, err := openJetStream(ctx, n.links, o)
		if err != nil {
			return err
		}
		n.store, replicas = s, s.Replicas
		if n.server != nil && !o.alone() { // or nobody else has a copy
			if err := ownCopies(ctx, n.links.Sys, o.Log); err != nil {
				return err
			}
		}
	} else {
		path, err := o.path()
		if err != nil {
			return err
		}
		db, err := o.openSQLite(ctx, path, n.links)
		if err != nil {
			return err
		}
		n.store = db
	}
	alone := time.Duration(0)
	if o.Store == JetStream && o.alone() && o.Bus.IsZero() {
		alone = aloneWait
	}
	noted, err := n.noteHeld(ctx, o)
	if err != nil {
		return err
	}
	n.Service, err = Start(ctx, Options{
		Store: n.store, Replicas: replicas, Links: n.links, Identity: o.Identity, Name: o.Founder, HTTP: o.HTTP, MaxRooms: o.MaxRooms, Log: o.Log,
		Bus: o.Bus, Patient: o.Store == JetStream || !o.Bus.IsZero(), Dir: o.Dir, Server: n.embedded(), Noted: noted, Alone: alone,
		Address: n.url, Version: o.Version, KeptHere: o.Store != JetStream || o.alone(),
	})
	if err == nil && o.External == nil {
		err = o.remember()
	}
	return err
}

// noteHeld begins to remember what the server holds of the store, if that is on the disk when it is acknowledged, and
// returns what has an entry remembered before that is; nil where others have copies, too.
func (n *Node) noteHeld(ctx context.Context, o NodeOptions) (noted func(context.Context) error, err error) {
	if n.server == nil || o.Store != JetStream || o.Sync != "" && o.Sync != "always" {
		return nil, nil
	}
	if n.held, err = startHeldKeeper(ctx, o.Dir, n.server, o.Log); err != nil || !o.alone() {
		return nil, err
	}
	return n.held.logged, nil
}

// aloneWait is how long a server that is alone may take to answer for what it keeps: there is nobody to wait for.
var aloneWait = 20 * time.Second

// connect starts the embedded server, or goes to those that are there.
func (n *Node) connect(ctx context.Context, o NodeOptions) error {
	file := cmp.Or(o.Keys, KeysFile(o.Dir))
	if o.External != nil {
		keys, err := bus.LoadKeys(file)
		if err != nil {
			return err
		}
		n.links, err = bus.External(*o.External, keys)
		if err == nil {
			n.url = redact.URL(n.links.Store.ConnectedUrl())
		}
		return err
	}
	keys, _, err := bus.LoadOrMakeKeys(file)
	if err != nil {
		return err
	}
	n.server, err = bus.StartServer(ctx, bus.ServerOptions{
		Listen: o.Listen, Dir: o.serverDir(), Name: o.Name, Keys: keys, Sync: o.Sync,
		TLSCert: o.TLSCert, TLSKey: o.TLSKey, Cluster: o.Cluster, Config: o.Config, Log: o.Log,
	})
	if err == nil {
		n.links, n.url = &n.server.Links, n.server.URL()
	}
	return err
}

// minPayload is the least max_payload of servers that a service answers logins through: the answer to a
// login names the subjects of all its rooms, and is encoded twice.
const minPayload = 128 << 10

// exposed tells of what other machines reach without TLS.
func (n *Node) exposed(o NodeOptions) {
	if n.server != nil && n.server.Exposed() != "" {
		o.Log.Warn("clients on other machines connect without TLS: "+flagsForTLS, "listen", n.server.Exposed())
	}
	if host, _, err := net.SplitHostPort(o.HTTP); o.HTTP != "" && err == nil && !bus.Loopback(host) {
		o.Log.Warn("the API, with tokens in it, is served to other machines without TLS: put a proxy with TLS before it", "http", o.HTTP)
	}
}

// embedded is the server that the service's watch looks after; nil beside external servers.
func (n *Node) embedded() embedded {
	if n.server == nil {
		return nil
	}
	return n.server
}

// waitNotice is how long a node waits for the others of its cluster before it says so.
const waitNotice = 10 * time.Second

// openJetStream opens the store that the servers keep, and says when that takes its time.
func openJetStream(ctx context.Context, links *bus.Links, o NodeOptions) (*jetstream.Store, error) {
	replicas := o.Replicas
	if replicas == 0 && (o.Cluster.Name != "" || o.External != nil && links.Store.ConnectedClusterName() != "") {
		replicas = 3
	}
	late := time.AfterFunc(waitNotice, func() {
		o.Log.Warn("waiting for the other servers of the cluster", "cluster", o.Cluster.Name, "routes", redact.URL(strings.Join(o.Cluster.Routes, ",")))
	})
	defer late.Stop()
	return open.InServers(ctx, open.URL{Replicas: replicas}, links.Store, open.Options{For: open.Service, Missing: open.Make})
}

// URL is where clients connect.
func (n *Node) URL() string { return n.url }

// Links are the service's own connections to the server: its owner's view, which clients are built
// not to trust.
func (n *Node) Links() *bus.Links { return n.links }
