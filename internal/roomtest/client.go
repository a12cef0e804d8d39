package roomtest

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/remote"
)

// ErrExcluded is what a room says to a client whose user is not on the allowlist.
var ErrExcluded = errors.New("not on the allowlist")

// Client is one user's connection, what it has verified, and its rooms.
type Client struct {
	ID    *crypto.Identity
	Conn  *bus.Conn
	Store *remote.Store
	Self  *room.Self
	Peer  *mirror.Peer

	world *World
}

// Login logs a user in, with a state directory of its own.
func (w *World) Login(id *crypto.Identity) *Client {
	w.Helper()
	c := &Client{ID: id, world: w}
	p, err := pins.Open(w.Ctx, filepath.Join(w.TempDir(), "pins.db"))
	w.Must(err)
	w.Cleanup(func() { p.Close() })
	c.Conn, err = bus.Dial(bus.DialOptions{Servers: w.Node.URL(), Identity: id, Bus: w.Node.Bus, Timeout: Timeout, Connected: func() {}, Lost: func(error) {}})
	w.Must(err)
	w.Cleanup(func() {
		c.Conn.Close()
		w.Tasks.Wait()
	})
	c.Store = remote.New(remote.Options{Transport: c.Conn, Identity: id, Bus: w.Node.Bus, Inbox: c.Conn.Inbox(), Watcher: c.Conn, OpTimeout: Timeout})
	w.Cleanup(func() { c.Store.Close() })
	c.Self = &room.Self{
		Identity: id, Keyring: c.Store, Pins: p, Now: time.Now, Tell: w.Logf, Release: c.Conn.Release,
		Excluded: func() error { return ErrExcluded },
	}
	c.Peer = &mirror.Peer{Identity: id, Store: c.Store, Pins: p, Timeout: Timeout, Stage: c.Self.Stage}
	c.Peer.OfferedAgain = func(*ledger.Entry, time.Duration) {}
	c.Peer.LostPlace = c.Peer.OfferedAgain
	c.Self.Bus, err = c.Peer.Open(w.Ctx, w.Node.Bus, crypto.ID{})
	w.Must(err)
	w.Must(c.Self.Bus.Sync(w.Ctx))
	return c
}

// Stranger is an identity that is not on the allowlist. Each seed has one of its own.
func (w *World) Stranger(seed byte) *crypto.Identity {
	w.Helper()
	id, err := crypto.NewIdentity([32]byte{'s', seed})
	w.Must(err)
	return id
}

// Allow puts a key on the allowlist under a name.
func (w *World) Allow(key crypto.PublicKey, name string) {
	w.Helper()
	w.Must(w.Append(w.Self.Bus, &ledger.Add{Users: []ledger.NewUser{{Key: key, Name: name, Role: ledger.RoleUser}}}))
}

// Revoke ends a user's access to the bus.
func (w *World) Revoke(key crypto.PublicKey) {
	w.Helper()
	w.Must(w.Append(w.Self.Bus, &ledger.Revoke{Keys: []crypto.PublicKey{key}}))
}

// User adds somebody to the allowlist, and logs in as that user, whose card is published. Names differ in their first
// letter.
func (w *World) User(name string) *Client {
	w.Helper()
	id := w.Stranger(name[0])
	w.Allow(id.Key(), name)
	c := w.Login(id)
	card, err := id.Card()
	w.Must(err)
	w.Must(c.Store.PutCards(w.Ctx, store.Card{Endpoint: id.Key(), Statement: card}))
	return c
}

// Key is the user's.
func (c *Client) Key() crypto.PublicKey { return c.ID.Key() }

// Append appends an entry that needs no key to a log of the client's.
func (w *World) Append(log *mirror.Log, body ledger.Body) error {
	return log.Append(w.Ctx, func(context.Context, *ledger.State) (*mirror.Proposal, error) {
		return &mirror.Proposal{Body: body}, nil
	})
}

// Room makes a room.
func (c *Client) Room(subject string, p ledger.Policy) *room.Room {
	w := c.world
	w.Helper()
	next := mirror.Proposal{Body: &ledger.Create{Bus: w.Node.Bus, Subject: subject, Policy: p, Nonce: make([]byte, 16)}}
	if p.Encrypted() {
		next.Key = &mirror.Key{Epoch: 1, Key: room.NewKey()}
		commit := next.Key.Key.Commit(1)
		next.Body.(*ledger.Create).Commit = &commit
	}
	log, err := c.Peer.Create(w.Ctx, next, w.Node.Bus)
	w.Must(err)
	r, err := c.Self.Open(w.Ctx, log)
	w.Must(err)
	return r
}

// Open opens a room that somebody else has made, with its log and the bus's as they are now.
func (c *Client) Open(id crypto.ID) *room.Room {
	w := c.world
	w.Helper()
	w.Must(c.Self.Bus.Sync(w.Ctx))
	log, err := c.Peer.Open(w.Ctx, id, w.Node.Bus)
	w.Must(err)
	w.Must(log.Sync(w.Ctx))
	r, err := c.Self.Open(w.Ctx, log)
	w.Must(err)
	return r
}
