package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/jsm.go/natscontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// tokenLife is how long a connect token may be used.
const tokenLife = 5 * time.Minute

// DialOptions say where to connect, and as whom.
type DialOptions struct {
	Servers  string // one or more URLs, comma-separated
	Context  string // a NATS context; its settings come first
	Identity *crypto.Identity
	Bus      crypto.ID   // the bus to log in to
	Rooms    []crypto.ID // the rooms the connection is for
	Direct   bool        // log in as the NATS context or the URL says, or with Keys, not as the identity
	Keys     *Keys
	Timeout  time.Duration
	// Connected is called each time the connection is made anew, Lost when it breaks; err says why.
	Connected func()
	Lost      func(err error)
}

// Conn is a peer's connection. It reconnects by itself, with a fresh token for all its rooms, until
// it is closed or the bus refuses it.
type Conn struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	id      *crypto.Identity
	bus     crypto.ID
	direct  bool // whoever runs the servers let it in, for everything
	timeout time.Duration
	running tasks.Group // readers of stored rooms, and ask

	mu      sync.Mutex
	rooms   []crypto.ID
	granted chan struct{}   // closed when the connection under way to gain a room stands
	refused error           // of a publication, by the server
	barred  error           // why Conn closed itself: the bus lets this identity in no more
	asking  bool            // whether that is so
	session context.Context // ends when the connection breaks, and is another one when it stands again
	broke   context.CancelFunc
	back    chan struct{} // closed when it stands again

	life context.Context // ends with the connection
	end  context.CancelFunc
}

// LoginTimeout is how long servers wait for the answer to a login before they refuse it themselves, in
// the same words. They ask a client for signs of life soon after it, which the library does not expect
// before it is logged in: longer would not help.
const LoginTimeout = 2 * time.Second

// Dial connects and logs in. It fails with ErrDenied when the bus refuses the login, and with
// ErrUnavailable when nobody answers.
func Dial(o DialOptions) (*Conn, error) {
	c := &Conn{id: o.Identity, bus: o.Bus, direct: o.Direct, timeout: o.Timeout, rooms: slices.Clone(o.Rooms)}
	c.life, c.end = context.WithCancel(context.Background())
	c.begin()
	base, err := o.base()
	if err != nil {
		return nil, err
	}
	opts := append(slices.Clip(base),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a refusal may be the server's own; c.ask decides
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectHandler(func(*nats.Conn) {
			c.connected()
			if o.Connected != nil {
				o.Connected()
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			c.lost()
			if o.Lost != nil && err != nil {
				o.Lost(err)
			}
		}),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
			switch {
			case errors.Is(err, nats.ErrPermissionViolation):
				c.refuse(err)
			case errors.Is(err, nats.ErrAuthorization):
				c.running.Go(func() { c.ask(nc, o, base) })
			}
		}),
		nats.ClosedHandler(func(*nats.Conn) { c.lost(); c.end() }),
	)
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	if c.nc, err = o.login(ctx, c.token, opts...); err != nil {
		return nil, err
	}
	if c.js, err = jetstream.New(c.nc, jetstream.WithDefaultTimeout(o.Timeout), jetstream.WithPublishAsyncTimeout(ackWait)); err != nil {
		return nil, err
	}
	return c, nil
}

// reconnectDelay is soon at first, and never long.
func reconnectDelay(attempts int) time.Duration {
	return min(50*time.Millisecond<<min(attempts, 6), 2*time.Second)
}

// Contexts lists the NATS contexts known on this machine.
func Contexts() []string { return natscontext.KnownContexts() }

func (o DialOptions) where() string {
	if o.Context != "" {
		return "the NATS context " + o.Context
	}
	return redact.URL(o.Servers)
}

// base is what every connection of an identity has in common.
func (o *DialOptions) base() ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name("unibus"),
		nats.Timeout(o.Timeout),
		nats.ReconnectBufSize(-1), // what cannot be sent is an error, for whoever sends to retry
	}
	switch {
	case o.Keys != nil:
		user, err := as(o.Keys.Bus)
		theirs, err2 := o.transport()
		return append(append(opts, user), theirs...), errors.Join(err, err2)
	case !o.Direct:
		opts = append(opts,
			nats.CustomInboxPrefix(InboxPrefix(o.Identity.ConnectionKey())),
			nats.Nkey(o.Identity.ConnectionKey().String(), func(nonce []byte) ([]byte, error) { return o.Identity.SignNonce(nonce), nil }))
	}
	if o.Context == "" {
		return opts, nil
	}
	nctx, err := o.context()
	if err != nil {
		return nil, err
	}
	theirs, err := nctx.NATSOptions()
	if err != nil {
		return nil, fmt.Errorf("NATS context %s: %w: %v", o.Context, store.ErrInvalid, err)
	}
	return append(theirs, opts...), nil
}

// context reads the NATS context, which says where to connect.
func (o *DialOptions) context() (*natscontext.Context, error) {
	nctx, err := natscontext.New(o.Context, true)
	if err != nil {
		return nil, fmt.Errorf("NATS context %s: %w: %v", o.Context, store.ErrInvalid, err)
	}
	if o.Servers == "" || !o.Direct {
		o.Servers = nctx.ServerURL()
	}
	return nctx, nil
}

// transport is what a NATS context says about TLS, for who logs in with keys of its own.
func (o *DialOptions) transport() (opts []nats.Option, err error) {
	if o.Context == "" {
		return nil, nil
	}
	nctx, err := o.context()
	if err != nil {
		return nil, err
	}
	if nctx.CA() != "" {
		opts = append(opts, nats.RootCAs(nctx.CA()))
	}
	if nctx.Certificate() != "" {
		opts = append(opts, nats.ClientCert(nctx.Certificate(), nctx.Key()))
	}
	return opts, nil
}

func (c *Conn) token() string {
	c.mu.Lock()
	rooms := slices.Clone(c.rooms)
	c.mu.Unlock()
	now := time.Now()
	t, err := c.id.Token(crypto.Token{Use: crypto.UseConnect, Bus: &c.bus, From: now, Until: now.Add(tokenLife), Rooms: rooms})
	if err != nil {
		return "" // refused like any bad token
	}
	return t
}

// begin starts a session; c.mu is held, or c is not shared yet.
func (c *Conn) begin() {
	c.session, c.broke = context.WithCancel(context.Background())
	c.back = make(chan struct{})
}

func (c *Conn) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broke()
}

func (c *Conn) connected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broke()
	close(c.back)
	c.begin()
	c.refused = nil
	if c.granted != nil {
		close(c.granted)
		c.granted = nil
	}
}

func (c *Conn) refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = err
}

// login connects, again until ctx ends while the servers take a login up and do not finish it, as they
// do when they are busy, or when whoever answers them is.
func (o *DialOptions) login(ctx context.Context, token func() string, opts ...nats.Option) (*nats.Conn, error) {
	var sent time.Time // the last login
	if !o.Direct {
		opts = append(slices.Clip(opts), nats.TokenHandler(func() string {
			sent = time.Now()
			return token()
		}))
	}
	for {
		nc, err := nats.Connect(o.Servers, opts...)
		if err == nil {
			return nc, nil
		}
		switch {
		case errors.Is(err, nats.ErrAuthorization) && !o.Direct && time.Since(sent) >= LoginTimeout:
			err = fmt.Errorf("%w: the login was not answered in time", store.ErrUnavailable)
		case !unfinished(err):
			return nil, fmt.Errorf("connect to %s: %w", o.where(), redact.Error(failure(err)))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to %s: %w", o.where(), redact.Error(failure(err)))
		case <-time.After(reconnectDelay(0)):
		}
	}
}

// unfinished reports whether an error of the library means a login that a server did not finish.
func unfinished(err error) bool {
	text := err.Error() // some have no other name
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) ||
		strings.Contains(text, "expected 'PONG', got 'PING'") || strings.Contains(strings.ToLower(text), "authentication timeout")
}

// ask finds out what a refusal to log in again means, with a login apart: the servers also refuse one
// that nobody answered, and that passes. It closes the connection when the bus has answered no.
func (c *Conn) ask(nc *nats.Conn, o DialOptions, base []nats.Option) {
	c.mu.Lock()
	busy := c.asking
	c.asking = true
	c.mu.Unlock()
	if busy {
		return
	}
	if !o.Direct {
		o.Servers = strings.Join(nc.Servers(), ",") // also those it has learned of
	}
	ctx, cancel := context.WithTimeout(c.life, o.Timeout)
	defer cancel()
	apart, err := o.login(ctx, c.token, append(slices.Clip(base), nats.NoReconnect(), nats.SetCustomDialer(cutDialer{ctx}))...)
	if err == nil {
		apart.Close()
	}
	denied := errors.Is(err, store.ErrDenied)
	c.mu.Lock()
	c.asking = false
	if denied {
		c.barred = err
	}
	c.mu.Unlock()
	if denied {
		nc.Close()
	}
}

// cutDialer makes connections that do not outlive a context.
type cutDialer struct{ ctx context.Context }

// Dial connects, for as long as the context goes on.
func (d cutDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(d.ctx, network, address)
	if err == nil {
		context.AfterFunc(d.ctx, func() { conn.Close() })
	}
	return conn, err
}

// Refused returns the server's refusal of something this connection published, which NATS reports
// apart from the publication; nil for none.
func (c *Conn) Refused() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		return nil
	}
	return fmt.Errorf("%w: %v", store.ErrDenied, c.refused)
}

// Grant makes sure that the connection may use rooms, reconnecting once if it was made for others.
func (c *Conn) Grant(ctx context.Context, rooms ...crypto.ID) error {
	if c.direct {
		return nil
	}
	c.mu.Lock()
	missing := slices.DeleteFunc(slices.Clone(rooms), func(r crypto.ID) bool { return slices.Contains(c.rooms, r) })
	if len(missing) == 0 {
		wait := c.granted
		c.mu.Unlock()
		return c.await(ctx, wait)
	}
	if len(c.rooms)+len(missing) > crypto.MaxTokenRooms {
		c.mu.Unlock()
		return fmt.Errorf("%w: one connection is for at most %d rooms", store.ErrInvalid, crypto.MaxTokenRooms)
	}
	c.rooms = append(c.rooms, missing...)
	wait := make(chan struct{})
	if c.granted != nil { // one under way may have left without these
		old := c.granted
		go func() { <-wait; close(old) }()
	}
	c.granted = wait
	c.mu.Unlock()
	if err := c.nc.ForceReconnect(); err != nil {
		return failure(err)
	}
	return c.await(ctx, wait)
}

func (c *Conn) await(ctx context.Context, wait <-chan struct{}) error {
	if wait == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
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
	if err := cmp.Or(barred, c.nc.LastError()); err != nil {
		return fmt.Errorf("connection to %s: %w", redact.URL(c.nc.Opts.Url), failure(err))
	}
	return nil
}

// ended is Err, given an error of the library: one that says the connection is closed comes a moment
// before the reason is known. The library's two halves have an error each for it.
func (c *Conn) ended(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, jetstream.ErrConnectionClosed) {
		<-c.life.Done()
	}
	return c.Err()
}

// NATS is the connection itself, for a store on it.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// IsConnected reports whether the connection stands at this moment.
func (c *Conn) IsConnected() bool { return c.nc.IsConnected() }

// MaxPayload is the most bytes of one message here, headers included.
func (c *Conn) MaxPayload() int { return int(c.nc.MaxPayload()) }

// Close sends what is buffered and ends the connection.
func (c *Conn) Close() {
	if c.nc.IsConnected() {
		_ = c.nc.FlushTimeout(c.timeout) // a failure here is one the acknowledgements already told
	}
	c.running.Seal() // before the connection goes: the library must not meet a reader it did not know of
	c.nc.Close()
	<-c.life.Done()
	c.running.Wait()
}

// Watch reports the logs that the service says have changed, until ctx ends.
func (c *Conn) Watch(ctx context.Context) (<-chan store.Notice, error) {
	in := make(chan *nats.Msg, 1024)
	sub, err := c.nc.ChanSubscribe(NoticeSubject(c.id.Key()), in)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", failure(err))
	}
	if err := c.flush(ctx); err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	out := make(chan store.Notice)
	go func() {
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
				}
			}
		}
	}()
	return out, nil
}

// flush waits until the server has taken what was sent, subscriptions above all.
func (c *Conn) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return failure(c.nc.FlushWithContext(ctx))
}

// Hello asks the service at o for the first statement of its bus log, over a connection that can
// do nothing else, and leaves the identity's card there for when it is allowlisted. What comes
// back is not verified.
func Hello(ctx context.Context, o DialOptions) ([]byte, error) {
	opts, err := o.base()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	token, err := o.Identity.Token(crypto.Token{Use: crypto.UseConnect, From: now, Until: now.Add(tokenLife)})
	if err != nil {
		return nil, err
	}
	card, err := o.Identity.Card()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	nc, err := o.login(ctx, func() string { return token }, append(opts, nats.NoReconnect())...)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	m, err := nc.RequestWithContext(ctx, HelloSubject, card)
	if err != nil {
		return nil, fmt.Errorf("ask the bus who it is: %w", failure(err))
	}
	var answer struct{ Founded []byte }
	if err := json.Unmarshal(m.Data, &answer); err != nil || len(answer.Founded) == 0 {
		return nil, fmt.Errorf("ask the bus who it is: %w: it gave no answer of use", store.ErrUnavailable)
	}
	return answer.Founded, nil
}
