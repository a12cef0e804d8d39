package unibus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/open"
	"github.com/unibus/unibus/internal/store/remote"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/tasks"
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
	Name     string    // by which a bus founded by this client knows its founder

	Server  string // NATS URLs, comma-separated; empty: the one joined, or DefaultServer
	Context string // a NATS context instead
	Store   string // straight to a store: "sqlite:PATH", without server and messages, or "nats://HOST:PORT"
	Keys    string // file of the service's keys, to log in with at a nats:// store instead of Context or the URL
	Make    bool   // make the Store if it is not there; the first change then founds a bus. Else it has to be there
	Bus     string // the bus id to insist on; empty: the pinned one, or whichever answers first

	Timeout time.Duration // for each exchange with a server; 0: DefaultTimeout
	Rooms   []string      // subjects or ids that will be used, which saves reconnecting for them
	Confirm bool          // accept a name or subject that now means something else than before, and offer again an old entry of one's own
	Accept  string        // how the hash of a log's last entry begins, in hexadecimal: that log is taken for what it is, though it went back
	Notice  func(string)  // told what people should know; nil: nobody is
}

// Client is one identity on one bus.
type Client struct {
	o     Options
	id    *Identity
	pins  *pins.Pins
	store store.Store
	conn  *bus.Conn // nil straight at a SQLite store
	bus   *chain    // its id is zero until an empty store is founded

	streams *bus.Streams // of rooms, straight at a JetStream store
	past    pastStore    // nil straight at a SQLite store

	fetching chan struct{} // slots for requests for the past

	now    func() time.Time // by which a room's key grows old
	ctx    context.Context  // ends with Close
	cancel context.CancelFunc
	wait   tasks.Group

	mu       sync.Mutex
	rooms    map[crypto.ID]*Room
	subs     map[*Subscription]bool
	away     *time.Timer // runs while the connection is broken
	watching bool
}

// Connect opens the state directory, connects, verifies the bus log and publishes the identity's
// card if this bus has not had it. It fails with ErrDenied when the identity is not on the
// allowlist, ErrUnavailable when nobody answers, ErrIntegrity when the bus is not the one it was.
func Connect(ctx context.Context, o Options) (*Client, error) {
	if o.Identity == nil || o.StateDir == "" {
		return nil, fmt.Errorf("connect: %w: an identity and a state directory are needed", ErrInvalid)
	}
	if o.Server != "" {
		if err := bus.CheckServers(o.Server); err != nil {
			return nil, fmt.Errorf("connect to %s: %w", redact.URL(o.Server), err)
		}
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	p, err := pins.Open(ctx, o.StateFile())
	if err != nil {
		return nil, err
	}
	if err := p.Of(ctx, o.Identity.Key()); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	c := &Client{o: o, id: o.Identity, pins: p, now: time.Now, rooms: map[crypto.ID]*Room{}, subs: map[*Subscription]bool{}, fetching: make(chan struct{}, fetchAtOnce)}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	err = c.inTurn(ctx, func() error {
		if o.Store != "" {
			return c.openStore(ctx)
		}
		return c.connect(ctx)
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// inTurn does what is costly, when not too many other processes of the identity are at it.
func (c *Client) inTurn(ctx context.Context, do func() error) error {
	atMost := patience.Turns * c.o.Timeout
	done, err := c.pins.Turn(ctx, atMost, func() {
		c.say("other processes of this identity are at work: waiting for a turn, at most %v", atMost)
	})
	if err != nil {
		return err
	}
	defer done()
	return do()
}

// Close ends subscriptions and the connection. Publishers that are still open are cut off.
func (c *Client) Close() error {
	ctx, cancel := context.WithTimeout(c.ctx, c.o.Timeout)
	for _, r := range c.openRooms() {
		r.smu.Lock()
		p := r.pub
		r.smu.Unlock()
		if p != nil {
			_ = p.Close(ctx) // what it sent was acknowledged to whoever sent it
		}
	}
	cancel()
	c.wait.Seal()
	c.cancel()
	c.mu.Lock()
	if c.away != nil {
		c.away.Stop()
	}
	c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
	}
	c.wait.Wait()
	var err error
	if c.store != nil {
		err = c.store.Close()
	}
	return errors.Join(err, c.pins.Close())
}

// say tells people something.
func (c *Client) say(format string, args ...any) {
	if c.o.Notice != nil {
		c.o.Notice(fmt.Sprintf(format, args...))
	}
}

// Key is the client's own key.
func (c *Client) Key() PublicKey { return c.id.Key() }

// Bus is the bus id; zero at a store where no bus is founded yet.
func (c *Client) Bus() ID { return c.bus.id }

// openStore goes straight to a store.
func (c *Client) openStore(ctx context.Context) error {
	address, err := "", error(nil)
	switch scheme, _, _ := strings.Cut(c.o.Store, ":"); scheme {
	case "sqlite":
		address, err = c.openFile(ctx)
	case "nats", "tls":
		address, err = c.openJetStream(ctx)
	default:
		err = withHint(fmt.Errorf("store %q: %w: not a kind of store known here", redact.URL(c.o.Store), ErrInvalid), "--store sqlite:PATH, or --store nats://HOST:PORT")
	}
	if errors.Is(err, ErrNotFound) && c.store == nil {
		return &kinded{err, ErrNoBus}
	}
	if err != nil {
		return err
	}
	if v, ok := c.store.(store.Backend); ok {
		if err := store.Whole(ctx, v); err != nil {
			return fmt.Errorf("store %s: %w", address, err)
		}
	}
	statement, err := c.store.Bus(ctx)
	switch {
	case errors.Is(err, ErrNotFound) && c.o.Make:
		c.bus, err = c.openChain(ctx, ID{})
		return err
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("store %s: %w: %w", address, ErrNotFound, ErrNoBus)
	case err != nil:
		return err
	}
	id, err := c.checkBus(ctx, address, statement)
	if err == nil {
		err = c.enter(ctx, id)
	}
	if err != nil || c.conn == nil {
		return err
	}
	c.wait.Go(c.mourn)
	return c.firstCard(ctx)
}

// openFile opens a SQLite store, and returns the address to pin its bus under.
func (c *Client) openFile(ctx context.Context) (string, error) {
	path := strings.TrimPrefix(c.o.Store, "sqlite:")
	s, err := sqlite.Open(ctx, path, sqlite.Options{OpTimeout: max(c.o.Timeout, 30*time.Second), Existing: !c.o.Make})
	if err != nil {
		return "", err
	}
	c.store = s
	return c.o.address()
}

// openJetStream connects with the operator's own credentials and opens the store there. Without a
// service, rooms' streams are this client's to make.
func (c *Client) openJetStream(ctx context.Context) (address string, err error) {
	o := c.dialOptions()
	o.Direct = true
	replicas := 0
	u, err := open.Parse(c.o.Store)
	if err != nil {
		return "", err
	}
	o.Servers, replicas = u.Servers, u.Replicas
	if c.o.Keys != "" {
		if o.Keys, err = bus.LoadKeys(c.o.Keys); err != nil {
			return "", err
		}
	}
	if c.conn, err = bus.Dial(o); err != nil {
		if errors.Is(err, ErrDenied) {
			err = withHint(err, "a store is for who runs the servers: --context NAME, or --keys FILE for those of a service")
		}
		return "", err
	}
	open, cancel := context.WithTimeout(ctx, max(c.o.Timeout, 30*time.Second))
	defer cancel()
	s, err := jetstream.Open(open, c.conn.NATS(), jetstream.Options{OpTimeout: c.o.Timeout, Replicas: replicas, Existing: !c.o.Make})
	if err != nil {
		return "", err
	}
	c.store = s
	past, err := bus.NewPast(c.conn.NATS())
	if err != nil {
		return "", err
	}
	c.past = directPast{past}
	if c.streams, err = bus.NewStreams(c.conn.NATS(), s.Replicas); err != nil {
		return "", err
	}
	return c.o.address()
}

// founded makes sure that there is a bus, founding it in an empty store.
func (c *Client) founded(ctx context.Context) error {
	if !c.bus.id.IsZero() {
		return nil
	}
	name := c.o.Name
	if name == "" {
		name = DefaultName()
	}
	s, err := store.Found(ctx, c.store, c.id, name, time.Now())
	if err != nil {
		return fmt.Errorf("found the bus: %w", err)
	}
	c.say("founded the bus %s; %s (%s) is its first admin", s.ID, name, c.id.Key())
	address, err := c.o.address()
	if err == nil {
		err = c.pins.PinServer(ctx, address, s.ID) // what it meets there later has to be this bus
	}
	if err != nil {
		return err
	}
	return c.enter(ctx, s.ID)
}

// DefaultName is the name of the person at this machine, as far as it can be one on a bus.
func DefaultName() string {
	if u, err := user.Current(); err == nil && ledger.ValidName(u.Username) == nil {
		return u.Username
	}
	return "admin"
}

// checkBus verifies a bus log's first statement, and that it is the bus this address, and this
// client, are known to belong to. The first contact pins it and says so.
func (c *Client) checkBus(ctx context.Context, address string, statement []byte) (ID, error) {
	e, err := new(ledger.State).Check(statement)
	if err != nil || e.Op != "found" {
		return ID{}, fmt.Errorf("%s: %w: it does not give a bus log's first entry (%v)", address, ErrIntegrity, err)
	}
	first := new(ledger.State).With(e)
	if c.o.Bus != "" {
		want, err := crypto.ParseID(c.o.Bus)
		if err != nil {
			return ID{}, fmt.Errorf("bus %q: %w: %v", c.o.Bus, ErrInvalid, err)
		}
		if want != first.ID {
			return ID{}, fmt.Errorf("%s: %w: it is the bus %s, not %s", address, ErrIntegrity, first.ID, want)
		}
	}
	pinned, err := c.pins.Server(ctx, address)
	if err != nil {
		return ID{}, err
	}
	if pinned.IsZero() {
		if err := c.pins.PinServer(ctx, address, first.ID); err != nil {
			return ID{}, err
		}
		known, err := c.pins.State(ctx, first.ID)
		if err != nil {
			return ID{}, err
		}
		if known.Head.Seq > 0 {
			c.say("%s is another address of the bus %s, which is known already; pinned", address, first.ID)
		} else {
			c.say("first contact with %s: the bus %s, founded by %s (%s); pinned", address, first.ID, first.Bus.Name, e.By)
		}
	} else if pinned != first.ID {
		return ID{}, fmt.Errorf("%s: %w: %w: it was the bus %s and is now the bus %s", address, ErrIntegrity, ErrOtherBus, pinned, first.ID)
	}
	return first.ID, nil
}

// enter verifies the bus log.
func (c *Client) enter(ctx context.Context, id ID) error {
	l, err := c.openChain(ctx, id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.bus = l
	c.mu.Unlock()
	return l.sync(ctx)
}

// address is where the options lead, as it is pinned: without what only the servers may know.
func (o *Options) address() (string, error) {
	if path, ok := strings.CutPrefix(o.Store, "sqlite:"); ok {
		absolute, err := filepath.Abs(path)
		return "sqlite:" + absolute, err
	}
	if o.Store != "" {
		u, err := open.Parse(o.Store)
		if err != nil {
			return "", err
		}
		return u.Address(o.Context)
	}
	if o.Context != "" {
		return "context:" + o.Context, nil
	}
	return redact.URL(o.Server), nil
}

// StateFile is where what the identity has verified is kept.
func (o *Options) StateFile() string {
	return filepath.Join(o.StateDir, o.Identity.Key().String()+".db")
}

// Known is what the state directory says, without anyone being asked.
type Known struct {
	Server string // where Connect goes when the options name no server: the one joined, or DefaultServer
	Bus    ID     // the bus that was met where the options lead; zero: none yet
	Only   ID     // the only bus that was met anywhere; zero: none, or several
}

// Recall returns what is known of where the options lead.
func Recall(ctx context.Context, o Options) (Known, error) {
	known := Known{Server: DefaultServer}
	if _, err := os.Stat(o.StateFile()); errors.Is(err, os.ErrNotExist) {
		return known, nil
	}
	p, err := pins.Open(ctx, o.StateFile())
	if err != nil {
		return known, err
	}
	defer p.Close()
	if known.Server, err = joined(ctx, p); err != nil {
		return known, err
	}
	if o.Server == "" {
		o.Server = known.Server
	}
	address, err := o.address()
	if err == nil {
		known.Bus, err = p.Server(ctx, address)
	}
	if err != nil {
		return known, err
	}
	met, err := p.Buses(ctx)
	if err == nil && len(met) == 1 {
		known.Only = met[0]
	}
	return known, err
}

// RecallLog returns the hashes of a log's entries, as far as the identity has verified it, without anyone being asked.
func RecallLog(ctx context.Context, o Options, log ID) (hash func(seq uint64) (h [32]byte, ok bool), err error) {
	nothing := func(uint64) (h [32]byte, ok bool) { return h, false }
	if _, err := os.Stat(o.StateFile()); errors.Is(err, os.ErrNotExist) {
		return nothing, nil
	}
	p, err := pins.Open(ctx, o.StateFile())
	if err != nil {
		return nothing, err
	}
	defer p.Close()
	s, err := p.State(ctx, log)
	if err != nil {
		return nothing, err
	}
	return func(seq uint64) ([32]byte, bool) {
		h, ok := s.HashAt(seq)
		return h, ok
	}, nil
}

const joinedServer = "joined server"

// joined is the server to go to when none is named.
func joined(ctx context.Context, p *pins.Pins) (string, error) {
	server, err := p.Setting(ctx, joinedServer)
	return cmp.Or(server, DefaultServer), err
}

// connect logs in to the bus at a server.
func (c *Client) connect(ctx context.Context) error {
	var err error
	if c.o.Server == "" && c.o.Context == "" {
		if c.o.Server, err = joined(ctx, c.pins); err != nil {
			return err
		}
	}
	address, err := c.o.address()
	if err != nil {
		return err
	}
	id, err := c.pins.Server(ctx, address)
	if err != nil {
		return err
	}
	if id.IsZero() || c.o.Bus != "" && !strings.EqualFold(c.o.Bus, id.String()) {
		if id, err = c.hello(ctx); err != nil {
			return err
		}
	}
	if err := c.login(ctx, id); err != nil {
		return err
	}
	service := remote.New(remote.Options{
		Transport: c.conn, Identity: c.id, Bus: id, Inbox: c.conn.Inbox(), Watcher: c.conn, OpTimeout: c.o.Timeout,
	})
	c.store, c.past = service, service
	if err := c.enter(ctx, id); err != nil {
		return err
	}
	c.wait.Go(c.mourn)
	return c.firstCard(ctx)
}

func (c *Client) dialOptions() bus.DialOptions {
	return bus.DialOptions{
		Servers: c.o.Server, Context: c.o.Context, Identity: c.id, Timeout: c.o.Timeout,
		Connected: c.reconnected, Lost: c.lost,
	}
}

// lostNotice is how long a connection may be away before people are told: it also breaks for a moment when
// the rooms that it is for change.
const lostNotice = 2 * time.Second

// lost tells that the connection broke, unless it stands again soon.
func (c *Client) lost(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away == nil {
		c.away = time.AfterFunc(lostNotice, func() { c.say("connection lost (%v); reconnecting", redact.Error(err)) })
	}
}

// hello asks the server which bus it is, and checks the answer.
func (c *Client) hello(ctx context.Context) (ID, error) {
	statement, err := bus.Hello(ctx, c.dialOptions())
	if err != nil {
		return ID{}, c.explain(err)
	}
	address, err := c.o.address()
	if err != nil {
		return ID{}, err
	}
	return c.checkBus(ctx, address, statement)
}

// login connects, for the rooms that are known to be used.
func (c *Client) login(ctx context.Context, id ID) error {
	o := c.dialOptions()
	o.Bus = id
	for _, name := range c.o.Rooms {
		room, err := crypto.ParseID(name)
		if err != nil {
			if room, err = c.pins.Subject(ctx, id, name); err != nil {
				return err
			}
		}
		if !room.IsZero() {
			o.Rooms = append(o.Rooms, room)
		}
	}
	var err error
	if c.conn, err = bus.Dial(o); err == nil {
		return nil
	}
	if errors.Is(err, ErrDenied) { // by this bus, or by another that is there now
		if _, changed := c.hello(ctx); changed != nil {
			return changed
		}
	}
	return c.explain(err)
}

// explain says what to do about a refused or failed connection.
func (c *Client) explain(err error) error {
	switch {
	case c.o.Store != "":
	case errors.Is(err, ErrDenied):
		name := c.o.Name
		if name == "" {
			name = "NAME"
		}
		err = fmt.Errorf("%w: %s is not on this bus's allowlist, or this machine's clock is off", ErrDenied, c.id.Key())
		return withHint(err, "if the clock of this machine is right (date -u), ask an admin to run: unibus user add %s --name %s", c.id.Key(), name)
	case errors.Is(err, bus.ErrUnanswered):
		return withHint(err, "the server answers, but its service does not: it has no quorum, or is not running; whoever runs it looks with unibus doctor --keys FILE")
	case errors.Is(err, ErrUnavailable):
		return withHint(err, "is it running? unibus serve; one elsewhere: unibus join URL, or --server URL")
	}
	return err
}

// firstCard publishes the card once per bus: it never changes.
func (c *Client) firstCard(ctx context.Context) error {
	done, err := c.pins.Setting(ctx, c.cardSetting())
	if err != nil || done != "" {
		return err
	}
	return c.publishCard(ctx)
}

// cardSetting is what remembers that the bus has the card.
func (c *Client) cardSetting() string { return "card published to " + c.bus.id.String() }

func (c *Client) publishCard(ctx context.Context) error {
	card, err := c.id.Card()
	if err != nil {
		return err
	}
	if err := c.store.PutCards(ctx, store.Card{Endpoint: c.id.Key(), Statement: card}); err != nil {
		return fmt.Errorf("publish the card: %w", err)
	}
	return c.pins.Set(ctx, c.cardSetting(), "yes")
}

// Join remembers a server, given as nats://host:4222#BUSID or without the id, for this identity's
// later connections, after checking which bus it is; then it connects, as Connect does, and publishes the card, also
// where that was done before: a bus that lost it gets it back so.
func Join(ctx context.Context, url string, o Options) (*Client, error) {
	server, id, _ := strings.Cut(url, "#")
	if err := bus.CheckServers(server); err != nil {
		return nil, fmt.Errorf("join %s: %w", redact.URL(url), err)
	}
	if id != "" {
		if _, err := crypto.ParseID(id); err != nil {
			return nil, fmt.Errorf("join %s: %w: what follows # is not the id of a bus: %w", redact.URL(url), ErrInvalid, err)
		}
	}
	o.Server, o.Context, o.Store = server, "", ""
	if id != "" {
		o.Bus = id
	}
	c, err := Connect(ctx, o)
	if err == nil {
		if err = c.publishCard(ctx); err != nil {
			_ = c.Close() // the card is what failed
			return nil, err
		}
	}
	if err != nil && !errors.Is(err, ErrDenied) {
		return nil, err
	}
	// Refused or not, this is the bus to come back to; only one that let the identity in is not given up for one
	// that refuses it.
	p, perr := pins.Open(ctx, o.StateFile())
	if perr != nil {
		return c, errors.Join(err, perr)
	}
	if err != nil {
		known, serr := p.Setting(ctx, joinedServer)
		if serr != nil || known != "" {
			return c, errors.Join(err, serr, p.Close())
		}
	}
	return c, errors.Join(err, p.Set(ctx, joinedServer, redact.URL(server)), p.Close())
}

// ClockSkew is how far the service's clock is ahead of this machine's, give or take a second and what its
// last answer took; 0 when there is no service in between. Logins fail when it is minutes.
func (c *Client) ClockSkew() time.Duration {
	if s, ok := c.store.(*remote.Store); ok {
		return s.Skew()
	}
	return 0
}

// refused says why the bus ended the connection for good, and what to do about it; nil while it has not.
// Whatever fails meanwhile may only say that the connection is gone.
func (c *Client) refused() error { return c.explain(c.conn.Err()) }

// mourn ends everything when the bus ends the connection for good.
func (c *Client) mourn() {
	select {
	case <-c.ctx.Done():
	case <-c.conn.Done():
		err := c.refused()
		if err == nil {
			return
		}
		for _, r := range c.openRooms() {
			r.end(err)
		}
		c.mu.Lock()
		subs := slices.Collect(maps.Keys(c.subs))
		c.mu.Unlock()
		for _, s := range subs {
			s.stop(err)
		}
	}
}

func (c *Client) openRooms() []*Room {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*Room, 0, len(c.rooms))
	for _, r := range c.rooms {
		out = append(out, r)
	}
	return out
}

// reconnected looks at every open log: notices may have been missed, and the connection may have
// been dropped because of one.
func (c *Client) reconnected() {
	c.mu.Lock()
	entered, away := c.bus != nil, c.away
	c.away = nil
	c.mu.Unlock()
	if away != nil && !away.Stop() {
		c.say("connected again")
	}
	if !entered {
		return
	}
	c.wait.Go(func() {
		c.refresh(c.bus)
		for _, r := range c.openRooms() {
			c.refresh(r.chain)
			r.judgeSelf()
		}
		c.arrived()
	})
}

// refresh syncs a chain in the background, until the store answers. What is wrong with the chain
// ends the room's subscriptions.
func (c *Client) refresh(l *chain) {
	err := l.sync(c.ctx)
	for wait := 100 * time.Millisecond; errors.Is(err, ErrUnavailable); wait = min(2*wait, 2*time.Second) {
		select {
		case <-c.ctx.Done():
			return
		case <-c.conn.Done():
			return
		case <-time.After(wait):
		}
		err = l.sync(c.ctx)
	}
	if !errors.Is(err, ErrIntegrity) && !errors.Is(err, ErrInvalid) {
		return
	}
	for _, r := range c.openRooms() {
		if r.chain == l || l == c.bus {
			r.end(err)
		}
	}
}

// watch begins to follow the service's notices, once.
func (c *Client) watch(ctx context.Context) error {
	c.mu.Lock()
	began := c.watching
	c.watching = true
	c.mu.Unlock()
	if began || c.conn == nil {
		return nil
	}
	notices, err := c.store.Watch(c.ctx)
	if err != nil {
		c.mu.Lock()
		c.watching = false
		c.mu.Unlock()
		return err
	}
	c.wait.Go(func() {
		for n := range notices {
			c.noticed(n)
		}
	})
	return nil
}

func (c *Client) noticed(n store.Notice) {
	if n.Log == c.bus.id {
		c.refresh(c.bus)
		return
	}
	c.mu.Lock()
	r := c.rooms[n.Log]
	c.mu.Unlock()
	if r == nil {
		c.arrived()
		return
	}
	if r.head().Seq < n.Seq {
		c.refresh(r.chain)
	}
	r.judgeSelf()
	c.arrivedFor(func(s *Subscription) bool { return s.hasLeft(r.id) })
}

// arrived tells subscriptions that there may be another room for their patterns.
func (c *Client) arrived() { c.arrivedFor(func(*Subscription) bool { return true }) }

// arrivedFor is arrived for some of them.
func (c *Client) arrivedFor(concerned func(*Subscription) bool) {
	c.mu.Lock()
	subs := slices.Collect(maps.Keys(c.subs))
	c.mu.Unlock()
	for _, s := range subs {
		if concerned(s) {
			s.arrived()
		}
	}
}
