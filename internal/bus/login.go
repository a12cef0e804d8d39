package bus

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/jsm.go/natscontext"
	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/servers"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// This file logs in: DialOptions make the options of the library (base), and each login a token of its own (token), for a
// Conn, for a question apart (barring) or to say hello. Logins that servers do not finish are tried again (login).

// tokenLife is how long a connect token may be used.
const tokenLife = 5 * time.Minute

// LoginTimeout is how long servers wait for the answer to a login before they refuse it themselves, in
// the same words. They ask a client for signs of life soon after it, which the library does not expect
// before it is logged in: longer would not help.
const LoginTimeout = 2 * time.Second

// DialOptions say where to connect, and as whom.
type DialOptions struct {
	Servers  string // one or more URLs, comma-separated
	Context  string // a NATS context; its settings come first
	CA       string // file of the authorities that may vouch for the servers, in place of the system's; empty: the system's
	Identity *crypto.Identity
	Bus      crypto.ID   // the bus to log in to
	Rooms    []crypto.ID // the rooms the connection is for
	Direct   bool        // log in as the NATS context or the URL says, or with Keys, not as the identity
	Keys     *Keys
	Timeout  time.Duration
	// Connected is called each time the connection is made anew, Lost when it breaks; err says why.
	Connected func()
	Lost      func(err error)
	// Waiting is called once, when nobody has listened there for waitingNotice: a server may be starting. Nil: nobody is told.
	Waiting func()
	// Elsewhere is asked while nobody listens there whether servers have become known meanwhile that are to be gone to instead;
	// empty: none. Nil: nobody knows any.
	Elsewhere func() string
}

// waitingNotice is how long a server may be starting before people are told that it is waited for.
const waitingNotice = time.Second

// ErrUnanswered is a store.ErrUnavailable: a server is there, but the service that answers logins does not.
var ErrUnanswered = fmt.Errorf("%w", store.ErrUnavailable)

// reconnectDelay is soon at first, and never long.
func reconnectDelay(attempts int) time.Duration {
	return min(50*time.Millisecond<<min(attempts, 6), 2*time.Second)
}

// where is what the options lead to, as people may read it: no password is in it.
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
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // or the library prints what a server says, as it is
	}
	switch {
	case o.Keys != nil:
		user, err := o.Keys.as(DutyStore)
		theirs, err2 := o.transport()
		return append(append(opts, user), theirs...), errors.Join(err, err2)
	case !o.Direct:
		opts = append(opts,
			nats.Nkey(o.Identity.ConnectionKey().String(), func(nonce []byte) ([]byte, error) { return o.Identity.SignNonce(nonce), nil }))
	}
	if o.Context == "" {
		return append(opts, o.trusted()...), nil
	}
	nctx, err := o.context()
	if err != nil {
		return nil, err
	}
	theirs, err := nctx.NATSOptions()
	if err != nil {
		return nil, o.contextError(fmt.Errorf("%w: %v", store.ErrInvalid, err))
	}
	return append(append(theirs, opts...), o.trusted()...), nil
}

// trusted is the option for the authorities that are trusted; none for those of the system.
func (o *DialOptions) trusted() []nats.Option {
	if o.CA == "" {
		return nil
	}
	return []nats.Option{nats.RootCAs(o.CA)}
}

// Contexts are the names of the NATS contexts that there are.
func Contexts() []string { return natscontext.KnownContexts() }

// ContextServers are the servers that a NATS context leads to, as servers.Parse gives them. ErrNotFound for none of that name,
// ErrInvalid for one that cannot be read.
func ContextServers(name string) (string, error) {
	o := DialOptions{Context: name}
	if _, err := o.context(); err != nil {
		return "", err
	}
	list, err := servers.Parse(o.Servers)
	if err != nil {
		err = o.contextError(fmt.Errorf("%w: %w", store.ErrInvalid, err))
	}
	return list, err
}

// ContextError is what is wrong with a NATS context.
type ContextError struct {
	Name string
	Why  error
}

// Error names the context, and says what is wrong.
func (e *ContextError) Error() string { return fmt.Sprintf("NATS context %s: %v", e.Name, e.Why) }

// Unwrap returns what is wrong.
func (e *ContextError) Unwrap() error { return e.Why }

// contextError is what is wrong with the context of these options.
func (o *DialOptions) contextError(why error) error { return &ContextError{o.Context, why} }

// context reads the NATS context, which says where to connect.
func (o *DialOptions) context() (*natscontext.Context, error) {
	nctx, err := natscontext.New(o.Context, true)
	if err != nil && !natscontext.IsKnown(o.Context) {
		return nil, o.contextError(fmt.Errorf("%w: there is none of that name", store.ErrNotFound))
	}
	if err != nil {
		return nil, o.contextError(fmt.Errorf("%w: %v", store.ErrInvalid, err))
	}
	if o.Servers == "" || !o.Direct {
		o.Servers = nctx.ServerURL()
	}
	return nctx, nil
}

// transport is what is said about TLS, in a NATS context or beside one, for who logs in with keys of its own.
func (o *DialOptions) transport() (opts []nats.Option, err error) {
	if o.Context == "" {
		return o.trusted(), nil
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
	return append(opts, o.trusted()...), nil
}

// login connects, again until ctx ends while nobody listens there, as before a server has started, or the servers take a
// login up and do not finish it, as they do when they are busy, or when whoever answers them is.
func (o *DialOptions) login(ctx context.Context, token func() string, opts ...nats.Option) (*nats.Conn, error) {
	var sent time.Time // the last login
	if !o.Direct {
		opts = append(slices.Clip(opts), nats.TokenHandler(func() string {
			sent = time.Now()
			return token()
		}))
	}
	told := o.Waiting == nil
	for began := time.Now(); ; {
		nc, err := nats.Connect(o.Servers, opts...)
		if err == nil {
			return nc, nil
		}
		switch {
		case errors.Is(err, nats.ErrNoServers) && sent.IsZero():
			if !told && time.Since(began) > waitingNotice {
				told = true
				o.Waiting()
			}
			if o.Elsewhere != nil {
				o.Servers = cmp.Or(o.Elsewhere(), o.Servers)
			}
		case errors.Is(err, nats.ErrAuthorization) && !o.Direct && time.Since(sent) >= LoginTimeout,
			errors.Is(err, nats.ErrNoServers) && !sent.IsZero(): // of several, of which one at least is there
			err = unanswered()
		case !sent.IsZero() && (errors.Is(err, nats.ErrTimeout) || errors.Is(err, os.ErrDeadlineExceeded)):
			return nil, fmt.Errorf("connect to %s: %w", o.where(), unanswered())
		case !unfinished(err):
			return nil, fmt.Errorf("connect to %s: %w", o.where(), redact.Error(failure(err)))
		case !sent.IsZero(): // whatever it is called: a server is there, and it took the login up
			err = unanswered()
		}
		if tasks.Pause(ctx, reconnectDelay(0)) != nil {
			return nil, fmt.Errorf("connect to %s: %w", o.where(), redact.Error(failure(err)))
		}
	}
}

// unanswered is the error of a login that a server took up, and that no service answered.
func unanswered() error {
	return fmt.Errorf("%w: the login was not answered in time, as when the service is not there or has no quorum", ErrUnanswered)
}

// unfinished reports whether an error of the library means a login that a server did not finish.
func unfinished(err error) bool {
	text := err.Error() // some have no other name
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		strings.Contains(text, "expected 'PONG', got 'PING'") || strings.Contains(strings.ToLower(text), "authentication timeout")
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

// Hello asks the service at o for the first statement of its bus log, over a connection that can
// do nothing else, and leaves the identity's card there for when it is allowlisted. What comes
// back is not verified; server is the URL of the one that it came from.
func Hello(ctx context.Context, o DialOptions) (founded []byte, server string, err error) {
	opts, err := o.base()
	if err != nil {
		return nil, "", err
	}
	inbox := newInbox()
	card, err := o.Identity.Card()
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	nc, err := o.greet(ctx, inbox, opts)
	if err != nil {
		return nil, "", err
	}
	defer nc.Close()
	m, err := nc.RequestWithContext(ctx, HelloSubject(inbox), card)
	if err != nil {
		return nil, "", fmt.Errorf("ask the bus who it is: %w", failure(err))
	}
	var answer struct{ Founded []byte }
	if err := json.Unmarshal(m.Data, &answer); err != nil || len(answer.Founded) == 0 {
		return nil, "", fmt.Errorf("ask the bus who it is: %w: it gave no answer of use", store.ErrUnavailable)
	}
	return answer.Founded, nc.ConnectedUrl(), nil
}

// greet makes a connection that can do nothing but say hello.
func (o *DialOptions) greet(ctx context.Context, inbox crypto.Inbox, opts []nats.Option) (*nats.Conn, error) {
	token := func() string { return o.token(crypto.Token{Inbox: inbox}) }
	return o.login(ctx, token, append(slices.Clip(opts), nats.NoReconnect(), nats.CustomInboxPrefix(InboxPrefix(inbox)))...)
}

// token signs a connect token, with what t says of bus, rooms and inbox.
func (o *DialOptions) token(t crypto.Token) string {
	now := time.Now()
	t.Use, t.From, t.Until = crypto.UseConnect, now, now.Add(tokenLife)
	text, err := o.Identity.Token(t)
	if err != nil {
		return "" // refused like any bad token
	}
	return text
}

// newInbox makes a name for an inbox that nobody can guess.
func newInbox() (inbox crypto.Inbox) {
	_, _ = rand.Read(inbox[:]) // it never fails: it ends the process instead
	return inbox
}
