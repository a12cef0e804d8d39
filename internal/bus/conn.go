package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// Conn is a peer's way to a bus: a NATS connection, and further ones when it is for more rooms than one
// login can name. They reconnect by themselves until Conn is closed or the bus refuses it.
type Conn struct {
	o       DialOptions
	base    []nats.Option
	running tasks.Group // ask, and readers of notices
	first   *link       // also for the API and for notices

	granting chan struct{} // held by whoever gains rooms

	mu     sync.Mutex
	links  []*link // the first among them
	home   map[crypto.ID]*link
	barred error              // why Conn closed itself: the bus lets this identity in no more
	asking bool               // whether that is so
	denied map[crypto.ID]bool // rooms that a login gave no right to follow, and that another is to give; nil: no regainer runs

	life context.Context // ends with the connection
	end  context.CancelFunc
}

// Dial connects and logs in. It fails with ErrDenied when the bus refuses the login, and with
// ErrUnavailable when nobody answers.
func Dial(o DialOptions) (*Conn, error) {
	c := &Conn{o: o, home: map[crypto.ID]*link{}, granting: make(chan struct{}, 1)}
	c.life, c.end = context.WithCancel(context.Background())
	var err error
	if c.base, err = c.o.base(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	rooms := o.Rooms[:min(len(o.Rooms), roomsPerLink)] // further ones are granted when they are used
	first, err := c.dial(ctx, rooms)
	if err != nil {
		return nil, err
	}
	c.first = first
	c.adopt(first, rooms)
	return c, nil
}

// adopt makes a link the one of rooms.
func (c *Conn) adopt(l *link, rooms []crypto.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.links, l) {
		c.links = append(c.links, l)
	}
	for _, room := range rooms {
		c.home[room] = l
	}
}

// Release forgets that there is a connection that may use a room: rights in it have ended, and who is given them again
// gains them by another Grant.
func (c *Conn) Release(room crypto.ID) {
	c.mu.Lock()
	l := c.home[room]
	delete(c.home, room)
	c.mu.Unlock()
	if l != nil {
		l.leave(room)
	}
}

// regainEvery is how soon after a login that gave no rights in a room that is followed there is another: whoever was
// removed and invited again may have logged in between. Who is no member any more ceases to follow.
const regainEvery = 2 * time.Second

// deniedFeed is the room that a server's refusal of a subscription is about.
func deniedFeed(err error) (room crypto.ID, ok bool) {
	_, subject, _ := strings.Cut(err.Error(), `Subscription to "unibus.r.`)
	id, _, _ := strings.Cut(subject, ".")
	room, err = crypto.ParseID(id)
	return room, err == nil
}

// regain gains the rights in a room anew, after a while, together with others that lack them by then.
func (c *Conn) regain(room crypto.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.denied != nil {
		c.denied[room] = true
		return
	}
	started := c.running.Go(func() {
		_ = tasks.Pause(c.life, regainEvery) // it may be closed meanwhile, which Grant says
		c.mu.Lock()
		rooms := slices.Collect(maps.Keys(c.denied))
		c.denied = nil
		c.mu.Unlock()
		for _, room := range rooms {
			c.Release(room)
		}
		if c.life.Err() == nil {
			_ = c.Grant(c.life, rooms...) // what it is for fails, too
		}
	})
	if started {
		c.denied = map[crypto.ID]bool{room: true}
	}
}

// all are the links there are.
func (c *Conn) all() []*link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.links)
}

// of is the link of a room: the first one for a room that was not granted.
func (c *Conn) of(room crypto.ID) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(c.home[room], c.first)
}

// reconnected tells the owner that the connection stands again. That of a further link concerns its
// rooms' readers alone, who see it themselves.
func (c *Conn) reconnected(l *link) {
	if l == c.first && c.o.Connected != nil {
		c.o.Connected()
	}
}

func (c *Conn) lost(l *link, err error) {
	if l == c.first && c.o.Lost != nil && err != nil {
		c.o.Lost(err)
	}
}

// ask finds out what a refusal to log in again means, with logins apart: the servers also refuse one
// that nobody answered, and that passes. So does a clock that is off, of which the bus says the same to
// everyone: only who is let in to say hello and not to the bus itself is refused as who it is. It closes
// the connections when the bus has answered so.
func (c *Conn) ask(nc *nats.Conn) {
	c.mu.Lock()
	busy := c.asking
	c.asking = true
	c.mu.Unlock()
	if busy {
		return
	}
	o := c.o
	if !o.Direct {
		o.Servers = strings.Join(nc.Servers(), ",") // also those it has learned of
	}
	ctx, cancel := context.WithTimeout(c.life, o.Timeout)
	defer cancel()
	err := c.refusedAs(ctx, &o)
	c.mu.Lock()
	c.asking = false
	c.barred = cmp.Or(c.barred, err)
	c.mu.Unlock()
	if err != nil {
		c.shut()
	}
}

// refusedAs logs in apart, and returns the refusal of a bus that does not let this identity in.
func (c *Conn) refusedAs(ctx context.Context, o *DialOptions) error {
	opts := append(slices.Clip(c.base), nats.NoReconnect(), nats.SetCustomDialer(cutDialer{ctx}))
	token := func() string { return o.token(crypto.Token{Bus: &o.Bus, Inbox: newInbox()}) }
	apart, err := o.login(ctx, token, opts...)
	if err == nil {
		apart.Close()
	}
	if !errors.Is(err, store.ErrDenied) || o.Direct {
		return onlyDenied(err)
	}
	greeting, helloErr := o.greet(ctx, newInbox(), opts)
	if helloErr != nil {
		return nil // nobody is let in, or not now
	}
	greeting.Close()
	return err
}

func onlyDenied(err error) error {
	if errors.Is(err, store.ErrDenied) {
		return err
	}
	return nil
}

// Refused returns the server's refusal of something that was published in a room since its connection
// stands; nil for none.
func (c *Conn) Refused(room crypto.ID) error { return c.of(room).refusal() }

// Inbox names where the service answers this connection.
func (c *Conn) Inbox() crypto.Inbox { return c.first.inbox }

// Grant makes sure that there is a connection that may use each of the rooms: one that is there connects
// anew for them while it can name more, others are made.
func (c *Conn) Grant(ctx context.Context, rooms ...crypto.ID) error {
	if c.o.Direct {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	select {
	case c.granting <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("connect for rooms: %w", failure(ctx.Err()))
	}
	waits, err := c.gain(ctx, rooms)
	<-c.granting
	for _, wait := range waits {
		if err == nil {
			err = c.await(ctx, wait)
		}
	}
	return err
}

// gain finds or makes connections for rooms, and returns what to wait for.
func (c *Conn) gain(ctx context.Context, rooms []crypto.ID) (waits []<-chan struct{}, err error) {
	var missing []crypto.ID
	c.mu.Lock()
	for _, room := range rooms {
		if l := c.home[room]; l == nil {
			missing = append(missing, room)
		} else if wait := l.pending(); wait != nil {
			waits = append(waits, wait)
		}
	}
	c.mu.Unlock()
	for chunk := range slices.Chunk(missing, roomsPerLink) {
		links := c.all()
		if i := slices.IndexFunc(links, func(l *link) bool { return l.free() >= len(chunk) }); i >= 0 {
			wait, err := links[i].extend(chunk)
			if err != nil {
				return nil, err
			}
			c.adopt(links[i], chunk)
			waits = append(waits, wait)
			continue
		}
		l, err := c.dial(ctx, chunk)
		if err != nil {
			return nil, err
		}
		c.adopt(l, chunk)
	}
	return waits, nil
}

func (c *Conn) await(ctx context.Context, wait <-chan struct{}) error {
	select {
	case <-wait:
		return nil
	case <-c.life.Done():
		return c.Err()
	case <-ctx.Done():
		return fmt.Errorf("reconnect: %w", failure(ctx.Err()))
	}
}

// Done is closed when the connection has ended for good; Err then says why.
func (c *Conn) Done() <-chan struct{} { return c.life.Done() }

// Err says why the connection ended; nil while it has not or when Close ended it.
func (c *Conn) Err() error {
	if c.life.Err() == nil {
		return nil
	}
	c.mu.Lock()
	barred := c.barred
	c.mu.Unlock()
	if err := cmp.Or(barred, c.first.nc.LastError()); err != nil {
		return fmt.Errorf("connection to %s: %w", c.o.where(), redact.Error(failure(err)))
	}
	return nil
}

// ended is Err, given an error of the library: one that says the connection is closed comes a moment
// before the reason is known. The library's two halves have an error each for it.
func (c *Conn) ended(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, jetstream.ErrConnectionClosed) || errors.Is(err, nats.ErrBadSubscription) {
		select {
		case <-c.life.Done():
		default:
			if c.first.nc.IsClosed() {
				<-c.life.Done()
			}
		}
	}
	return c.Err()
}

// NATS is the connection itself, for a store on it.
func (c *Conn) NATS() *nats.Conn { return c.first.nc }

// IsConnected reports whether the connection stands at this moment.
func (c *Conn) IsConnected() bool { return c.first.nc.IsConnected() }

// MaxPayload is the most bytes of one message here, headers included.
func (c *Conn) MaxPayload() int { return int(c.first.nc.MaxPayload()) }

// Close sends what is buffered and ends the connection.
func (c *Conn) Close() {
	for _, l := range c.all() {
		if l.nc.IsConnected() {
			_ = l.nc.FlushTimeout(c.o.Timeout) // a failure here is one the acknowledgements already told
		}
	}
	c.running.Seal() // before the connection goes: the library must not meet a reader it did not know of
	c.shut()
	<-c.life.Done()
	c.running.Wait()
}

// shut closes all links.
func (c *Conn) shut() {
	for _, l := range c.all() {
		l.nc.Close()
	}
}

// Watch reports the logs that the service says have changed, until ctx ends.
func (c *Conn) Watch(ctx context.Context) (<-chan store.Notice, error) {
	in := make(chan *nats.Msg, 1024)
	sub, err := c.first.nc.ChanSubscribe(NoticeSubject(c.o.Identity.Key()), in)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", failure(err))
	}
	if err := c.flush(ctx, c.first); err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	out := make(chan store.Notice)
	started := c.running.Go(func() {
		defer close(out)
		defer sub.Unsubscribe()
		for {
			select {
			case <-ctx.Done():
				return
			case <-c.life.Done():
				return
			case m := <-in:
				var n store.Notice
				if json.Unmarshal(m.Data, &n) != nil {
					continue
				}
				select {
				case out <- n:
				case <-ctx.Done():
					return
				case <-c.life.Done():
					return
				}
			}
		}
	})
	if !started {
		return nil, fmt.Errorf("watch: %w", failure(nats.ErrConnectionClosed))
	}
	return out, nil
}

// flush waits until the server has taken what was sent over a link, subscriptions above all.
func (c *Conn) flush(ctx context.Context, l *link) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	for {
		err := l.nc.FlushWithContext(ctx)
		// A connection that breaks meanwhile, and comes back, ends it with the same error as one that is closed.
		if !errors.Is(err, nats.ErrConnectionClosed) || l.nc.IsClosed() || tasks.Pause(ctx, flushAgain) != nil {
			return failure(err)
		}
	}
}

const flushAgain = 20 * time.Millisecond
