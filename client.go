package unibus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/reader"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/servers"
	"github.com/unibus/unibus/internal/store/remote"
	"github.com/unibus/unibus/internal/tasks"
	"github.com/unibus/unibus/internal/writer"
)

// Defaults of Options.
const (
	DefaultServer  = "nats://127.0.0.1:4222"
	DefaultTimeout = 5 * time.Second
)

// Options of Connect.
type Options struct {
	Identity *Identity // required
	StateDir string    // required: what was verified is kept there, apart for each identity
	Name     string    // by which a bus that this identity founds knows its founder

	Server  string // NATS URLs, comma-separated; empty: those of Bus, or of the bus in use, or DefaultServer
	Context string // a NATS context instead
	TLSCA   string // file of the authorities that may vouch for the servers; empty: those that the system trusts
	Store   string // straight to a store: "sqlite:PATH", without server and messages, or "nats://HOST:PORT"
	Keys    string // file of the service's keys, to log in with at a nats:// store instead of Context or the URL
	Bus     string // the bus to go to, or to insist on, by its id or the name that it was joined by; empty: the pinned one, or whichever answers first

	Timeout time.Duration // for each exchange with a server; 0: DefaultTimeout
	Rooms   []string      // subjects or ids that will be used, which saves reconnecting for them
	Confirm bool          // accept a name or subject that now means something else than before, and offer again an old entry of one's own
	Accept  string        // how the hash of a log's last entry begins, in hexadecimal: that log is taken for what it is, though it went back
	Notice  func(string)  // told what people should know; nil: nobody is
}

// tell tells people something.
func (o *Options) tell(format string, args ...any) {
	if o.Notice != nil {
		o.Notice(fmt.Sprintf(format, args...))
	}
}

// Client is one identity on one bus. It is safe for concurrent use.
//
// It has a connection, or a store that it is straight at; what is verified of the bus and kept in the state directory;
// and the rooms that were opened, which are followed while anything is read or written.
type Client struct {
	o    Options
	pins *pins.Pins
	link *link      // to the servers, or to a store
	self *room.Self // who works in rooms
	peer *mirror.Peer

	rooms     *rooms
	following *following
	reader    *reader.Reader // nil straight at a SQLite store, as is writer
	writer    *writer.Writer

	entered atomic.Bool     // everything above is there
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	tasks   tasks.Group
}

// Connect opens the state directory, connects, verifies the bus log and publishes the identity's
// card if this bus has not had it. It fails with ErrDenied when the identity is not on the
// allowlist, ErrUnavailable when nobody answers, ErrIntegrity when the bus is not the one it was, and ErrNoBus when a
// store has none.
func Connect(ctx context.Context, o Options) (*Client, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	p, err := o.openPins(ctx)
	if err != nil {
		return nil, err
	}
	c := &Client{o: o, pins: p}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.link = &link{o: &c.o, pins: p, connected: func() { reconnected(c) }}
	if err = c.link.choose(ctx); err == nil {
		err = c.link.inTurn(ctx, func() error { return enter(ctx, c) })
	}
	if err != nil {
		_ = c.Close() // why it failed is said
		return nil, err
	}
	return c, nil
}

// reconnected has everything that is followed looked at again. While the client is being made, nothing is yet.
func reconnected(c *Client) {
	if c.entered.Load() {
		c.following.reconnected()
	}
}

// complete checks the options, and fills in defaults.
func (o *Options) complete() error {
	if o.Identity == nil || o.StateDir == "" {
		return fmt.Errorf("connect: %w: an identity and a state directory are needed", ErrInvalid)
	}
	if o.Server != "" {
		server, err := servers.Parse(o.Server)
		if err != nil {
			return fmt.Errorf("connect to %s: %w: %w", redact.URL(o.Server), ErrInvalid, err)
		}
		o.Server = server
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	return nil
}

// openPins opens what the identity has verified.
func (o *Options) openPins(ctx context.Context) (*pins.Pins, error) {
	p, err := pins.Open(ctx, o.StateFile())
	if err != nil {
		return nil, err
	}
	if err := p.CheckOwner(ctx, o.Identity.Key()); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// enter goes to the servers or the store, learns which bus is there, and makes what works on it.
func enter(ctx context.Context, c *Client) error {
	id, err := c.link.open(ctx)
	if err != nil {
		return err
	}
	c.self = &room.Self{
		Identity: c.o.Identity, Keyring: c.link.store, Pins: c.pins, Now: time.Now, Tell: c.o.tell,
		Excluded: func() error { return c.o.outside(c.self.Allowlist().User(c.Key())) },
	}
	c.peer = c.link.peer(c.self)
	if c.self.Bus, err = c.peer.Open(ctx, id, ID{}); err == nil {
		err = c.self.Bus.Sync(ctx)
	}
	if err != nil {
		return err
	}
	c.rooms = newRooms(c)
	c.following = &following{c: c}
	defer c.entered.Store(true)
	if c.link.conn == nil {
		return nil
	}
	c.self.Release = c.link.conn.Release
	c.reader = &reader.Reader{
		Conn: c.link.conn, Past: c.link.past, Timeout: c.o.Timeout, Context: c.ctx, Tasks: &c.tasks, Tell: c.o.tell,
		Refused: c.link.refused, Follow: c.following.begin, Rooms: c.rooms.count, Mine: c.rooms.mine,
	}
	c.writer = &writer.Writer{
		Conn: c.link.conn, Timeout: c.o.Timeout, Context: c.ctx, Tasks: &c.tasks, Refused: c.link.refused, Follow: c.following.begin,
	}
	c.tasks.Go(c.following.awaitEnd)
	return c.link.firstCard(ctx, id)
}

// Close ends subscriptions and the connection. Publishers that are still open are cut off.
func (c *Client) Close() error {
	if c.rooms != nil {
		ctx, cancel := context.WithTimeout(c.ctx, c.o.Timeout)
		for _, r := range c.rooms.all() {
			r.lasting.close(ctx)
		}
		cancel()
	}
	c.tasks.Seal()
	c.cancel()
	c.link.disconnect()
	c.tasks.Wait()
	var err error
	if c.link.store != nil {
		err = c.link.store.Close()
	}
	return errors.Join(err, c.pins.Close())
}

// Key is the client's own key.
func (c *Client) Key() PublicKey { return c.o.Identity.Key() }

// Bus is the bus id.
func (c *Client) Bus() ID { return c.self.Bus.ID() }

// ClockSkew is how far the service's clock is ahead of this machine's, give or take a second and what its
// last answer took; 0 when there is no service in between. Logins fail when it is minutes.
func (c *Client) ClockSkew() time.Duration {
	if s, ok := c.link.store.(*remote.Store); ok {
		return s.Skew()
	}
	return 0
}

// Token signs a bearer token for the membership API.
func (c *Client) Token(ttl time.Duration) (string, error) {
	now := time.Now()
	bus := c.Bus()
	return c.o.Identity.Token(crypto.Token{Use: crypto.UseAPI, Bus: &bus, From: now, Until: now.Add(ttl)})
}
