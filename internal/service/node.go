package service

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// NodeOptions of StartNode.
type NodeOptions struct {
	Listen   string // host:port for NATS clients; port 0 takes a free one
	Dir      string // data folder
	Store    string // sqlite:PATH; empty: unibus.db in Dir
	Sync     string // "always", or an interval such as 10s: how much a power failure may take
	HTTP     string
	TLSCert  string
	TLSKey   string
	Config   string // a file of further NATS server configuration
	Identity *crypto.Identity
	Name     string
	Log      *slog.Logger
}

// Node is an embedded NATS server with a store and the service beside it.
type Node struct {
	*Service
	server *bus.Server
	store  store.Store
}

// StartNode starts the server, opens the store and starts the service, in this order: nobody gets
// in before the authorizer can ask the store.
func StartNode(ctx context.Context, o NodeOptions) (*Node, error) {
	path := filepath.Join(o.Dir, "unibus.db")
	if o.Store != "" {
		var ok bool
		if path, ok = strings.CutPrefix(o.Store, "sqlite:"); !ok {
			return nil, fmt.Errorf("store %q: %w: sqlite:PATH is what this version knows", o.Store, store.ErrInvalid)
		}
	}
	server, err := bus.StartServer(ctx, bus.ServerOptions{
		Listen: o.Listen, Dir: filepath.Join(o.Dir, "jetstream"), Sync: o.Sync,
		TLSCert: o.TLSCert, TLSKey: o.TLSKey, Config: o.Config, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	n := &Node{server: server}
	db, err := sqlite.Open(ctx, path, sqlite.Options{Relaxed: o.Sync != "" && o.Sync != "always"})
	if err != nil {
		n.Stop()
		return nil, err
	}
	n.store = db
	n.Service, err = Start(ctx, Options{
		Store: n.store, Links: &server.Links, Identity: o.Identity, Name: o.Name,
		HTTP: o.HTTP, Log: o.Log,
	})
	if err != nil {
		n.Stop()
		return nil, err
	}
	return n, nil
}

// URL is where clients connect.
func (n *Node) URL() string { return n.server.URL() }

// Stop ends the service, the server and the store, in this order.
func (n *Node) Stop() {
	if n.Service != nil {
		n.Service.Stop()
	}
	n.server.Stop()
	if n.store != nil {
		_ = n.store.Close() // every write was answered with its own outcome
	}
}

// Links are the service's own connections to the server: its owner's view, which clients are built
// not to trust.
func (n *Node) Links() *bus.Links { return &n.server.Links }
