package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// roomsPerLink is how many rooms one connection is for. All of them are named in the token of a login,
// which travels in one line of at most 4,096 bytes unless a server is configured otherwise.
const roomsPerLink = 100

// link is one NATS connection of a Conn, with the rooms it is for. It reconnects by itself, with a fresh
// token: each login that stands is a session of its own.
type link struct {
	nc          *nats.Conn
	js          jetstream.JetStream
	inbox       crypto.Inbox // the same for all its sessions: what is asked in one may be answered in the next
	timeout     time.Duration
	onConnected func()          // called when another session stands; nil: nobody wants to know
	onLost      func(err error) // called when one broke

	mu      sync.Mutex
	rooms   []crypto.ID // that it is for
	named   []crypto.ID // those of them that the token of the latest login names
	session *session    // that stands, or the one that broke last
}

// session is what belongs to one login of a link, from when it stands until it breaks.
type session struct {
	ctx  context.Context // ends when it breaks
	end  context.CancelFunc
	next chan struct{} // closed when the next one stands

	mu      sync.Mutex
	rooms   []crypto.ID // that its token named: no other has it rights in
	refused error       // of a publication, by the server
}

func newSession(rooms []crypto.ID) *session {
	s := &session{next: make(chan struct{}), rooms: slices.Clone(rooms)}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

// names reports whether the session was for a room, in which rights have not ended since.
func (s *session) names(room crypto.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.rooms, room)
}

// release takes note that rights in a room have ended.
func (s *session) release(room crypto.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms = without(s.rooms, room)
}

// refuse takes note of what the server refused last.
func (s *session) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = err
}

// refusal returns the server's refusal of something that was published in the session, which NATS reports apart from
// the publication; nil for none.
func (s *session) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == nil {
		return nil
	}
	return fmt.Errorf("%w: %v", store.ErrDenied, s.refused)
}

// without is a list that lacks a room.
func without(rooms []crypto.ID, room crypto.ID) []crypto.ID {
	return slices.DeleteFunc(slices.Clone(rooms), func(r crypto.ID) bool { return r == room })
}

// newLink is a link for rooms that has not connected yet.
func newLink(timeout time.Duration, rooms []crypto.ID) *link {
	return &link{inbox: newInbox(), timeout: timeout, rooms: slices.Clone(rooms), session: newSession(rooms)}
}

// connect logs in with the token of the moment, without one if that is nil.
func (l *link) connect(ctx context.Context, o *DialOptions, base []nats.Option, token func() string, opts ...nats.Option) error {
	opts = append(append(slices.Clip(base), opts...),
		nats.MaxReconnects(-1),
		nats.SyncQueueLen(liveFrames),
		nats.IgnoreAuthErrorAbort(), // a refusal may be the server's own: barring finds out
		nats.CustomReconnectDelay(reconnectDelay),
		nats.ReconnectHandler(l.connected),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { l.lost(err) }),
	)
	if token != nil {
		opts = append(opts, nats.CustomInboxPrefix(InboxPrefix(l.inbox)))
	}
	var err error
	if l.nc, err = o.login(ctx, token, opts...); err != nil {
		return err
	}
	l.js, err = jetstream.New(l.nc, jetstream.WithDefaultTimeout(l.timeout), jetstream.WithPublishAsyncTimeout(ackWait))
	return err
}

// nameRooms are the rooms that a login names which begins now.
func (l *link) nameRooms() []crypto.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.named = slices.Clone(l.rooms)
	return l.named
}

// release takes a room from the link, and from what its sessions have rights in.
func (l *link) release(room crypto.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rooms, l.named = without(l.rooms, room), without(l.named, room)
	l.session.release(room)
}

// free is how many rooms more it can be for.
func (l *link) free() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return roomsPerLink - len(l.rooms)
}

// current is the session that stands, or the one that broke last.
func (l *link) current() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

// lost ends the session; err says why it broke, nil when it was ended on purpose.
func (l *link) lost(err error) {
	l.current().end()
	if l.onLost != nil && err != nil {
		l.onLost(err)
	}
}

// connected begins another session. The library tells of a login a moment later: if the connection is broken again by
// then, as when further rooms came to it meanwhile, the session is that of the next login.
func (l *link) connected(nc *nats.Conn) {
	if !nc.IsConnected() {
		return
	}
	l.mu.Lock()
	before := l.session
	l.session = newSession(l.named)
	l.mu.Unlock()
	before.end()
	close(before.next)
	if l.onConnected != nil {
		l.onConnected()
	}
}

// extend makes the link one for more rooms, by connecting anew: they have their rights in the session that names them.
// The library first lets a login end that is under way, whose token may have been made without them.
func (l *link) extend(rooms []crypto.ID) error {
	l.mu.Lock()
	l.rooms = append(slices.Clip(l.rooms), rooms...)
	l.mu.Unlock()
	return failure(l.nc.ForceReconnect())
}

// flush waits until the server has taken what was sent over the link, subscriptions above all.
func (l *link) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	for {
		err := l.nc.FlushWithContext(ctx)
		// A connection that breaks meanwhile, and comes back, ends it with the same error as one that is closed.
		if !errors.Is(err, nats.ErrConnectionClosed) || l.nc.IsClosed() || tasks.Pause(ctx, flushAgain) != nil {
			return failure(err)
		}
	}
}

// flushAgain is how soon what a break of the connection ended is tried again.
const flushAgain = 20 * time.Millisecond
