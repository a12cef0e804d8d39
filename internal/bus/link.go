package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// roomsPerLink is how many rooms one connection is for. All of them are named in the token of a login,
// which travels in one line of at most 4,096 bytes unless a server is configured otherwise.
const roomsPerLink = 100

// link is one NATS connection of a Conn, with the rooms it is for. It reconnects by itself, with a fresh
// token.
type link struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	inbox crypto.Inbox

	mu      sync.Mutex
	rooms   []crypto.ID
	granted chan struct{} // closed when the connection under way to gain a room stands
	refused error         // of a publication, by the server
	session session
}

// session is a connection from one break to the next.
type session struct {
	ctx  context.Context // ends when it breaks
	end  context.CancelFunc
	back chan struct{} // closed when the next one stands
}

func newSession() session {
	s := session{back: make(chan struct{})}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

// dial makes a link for rooms.
func (c *Conn) dial(ctx context.Context, rooms []crypto.ID) (*link, error) {
	l := &link{inbox: newInbox(), rooms: slices.Clone(rooms), session: newSession()}
	opts := append(slices.Clip(c.base),
		nats.MaxReconnects(-1),
		nats.SyncQueueLen(liveFrames),
		nats.IgnoreAuthErrorAbort(), // a refusal may be the server's own; c.ask decides
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectHandler(func(*nats.Conn) { l.connected(); c.reconnected(l) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { l.lost(); c.lost(l, err) }),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
			switch {
			case errors.Is(err, nats.ErrPermissionViolation):
				l.refuse(err)
				if room, ok := deniedFeed(err); ok {
					c.regain(room)
				}
			case errors.Is(err, nats.ErrAuthorization):
				c.running.Go(func() { c.ask(nc) })
			}
		}),
		nats.ClosedHandler(func(*nats.Conn) { l.lost(); c.end() }),
	)
	if !c.o.Direct {
		opts = append(opts, nats.CustomInboxPrefix(InboxPrefix(l.inbox)))
	}
	var err error
	if l.nc, err = c.o.login(ctx, func() string { return c.token(l) }, opts...); err != nil {
		return nil, err
	}
	l.js, err = jetstream.New(l.nc, jetstream.WithDefaultTimeout(c.o.Timeout), jetstream.WithPublishAsyncTimeout(ackWait))
	return l, err
}

func (c *Conn) token(l *link) string {
	return c.o.token(crypto.Token{Bus: &c.o.Bus, Inbox: l.inbox, Rooms: l.named()})
}

// named are the rooms the link is for.
func (l *link) named() []crypto.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.rooms)
}

func (l *link) leave(room crypto.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rooms = slices.DeleteFunc(l.rooms, func(r crypto.ID) bool { return r == room })
}

func (l *link) free() int { return roomsPerLink - len(l.named()) }

// current is the session under way, or the one that broke last.
func (l *link) current() session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

func (l *link) lost() { l.current().end() }

func (l *link) connected() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session.end()
	close(l.session.back)
	l.session = newSession()
	l.refused = nil
	if l.granted != nil {
		close(l.granted)
		l.granted = nil
	}
}

func (l *link) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = err
}

// refusal returns the server's refusal of something this link published, which NATS reports apart from
// the publication; nil for none since it connected.
func (l *link) refusal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused == nil {
		return nil
	}
	return fmt.Errorf("%w: %v", store.ErrDenied, l.refused)
}

// extend makes the link one for more rooms, by connecting anew. The channel is closed when it stands.
func (l *link) extend(rooms []crypto.ID) (<-chan struct{}, error) {
	l.mu.Lock()
	l.rooms = append(l.rooms, rooms...)
	wait := make(chan struct{})
	if old := l.granted; old != nil { // one under way may have left without these
		go func() { <-wait; close(old) }()
	}
	l.granted = wait
	l.mu.Unlock()
	return wait, failure(l.nc.ForceReconnect())
}

// pending is closed when a connection under way to gain a room stands; nil when none is.
func (l *link) pending() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.granted
}
