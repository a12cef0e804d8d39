package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// Conn is a peer's way to a bus: a NATS connection, and further ones when it is for more rooms than one
// login can name. They reconnect by themselves until Conn is closed or the bus refuses it.
//
// What it is made of owns its own state: links which connection is whose, each link its logins (a session
// each), barring what refused logins mean, regainer the rooms whose rights are gained anew, life when and why
// all of it ends.
type Conn struct {
	*life     // Done and Err
	transport // RoundTrip

	o        DialOptions
	base     []nats.Option
	running  tasks.Group // questions of barring, and readers of notices
	first    *link       // also for the API and for notices
	links    *links
	barring  *barring
	regainer *regainer
}

// Dial connects and logs in. It fails with ErrDenied when the bus refuses the login, and with
// ErrUnavailable when nobody answers.
func Dial(o DialOptions) (*Conn, error) {
	base, err := o.base()
	if err != nil {
		return nil, err
	}
	c := &Conn{life: newLife(o.where()), o: o, base: base, barring: &barring{o: o, base: base}}
	c.links = newLinks(func(ctx context.Context, rooms []crypto.ID) (*link, error) {
		l := newLink(c.o.Timeout, rooms)
		return l, c.connect(ctx, l)
	})
	c.regainer = &regainer{running: &c.running, life: c.life.ctx, release: c.Release, gain: c.Grant}
	ctx, cancel := context.WithTimeout(context.Background(), o.Timeout)
	defer cancel()
	rooms := o.Rooms[:min(len(o.Rooms), roomsPerLink)] // further ones are granted when they are used
	if o.Direct {
		rooms = nil // no token names any
	}
	c.first = newLink(o.Timeout, rooms)
	c.first.onConnected, c.first.onLost = o.Connected, o.Lost // a further one concerns its rooms' readers alone, who see it themselves
	if err := c.connect(ctx, c.first); err != nil {
		return nil, err
	}
	c.transport = transport{c.first, c.life}
	c.links.assign(c.first, rooms)
	return c, nil
}

// connect logs a link in, which reconnects by itself from then on.
func (c *Conn) connect(ctx context.Context, l *link) error {
	var token func() string
	if !c.o.Direct {
		token = func() string {
			return c.o.token(crypto.Token{Bus: &c.o.Bus, Inbox: l.inbox, Rooms: l.nameRooms()})
		}
	}
	return l.connect(ctx, &c.o, c.base, token,
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { c.refused(l, nc, err) }),
		nats.ClosedHandler(func(nc *nats.Conn) { l.lost(nil); c.life.finish(nc.LastError()) }))
}

// refused deals with an error that a server tells a connection of apart from any call.
func (c *Conn) refused(l *link, nc *nats.Conn, err error) {
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		l.current().refuse(err)
		if room, ok := deniedFeed(err); ok {
			c.regainer.add(room)
		}
	case errors.Is(err, nats.ErrAuthorization):
		c.running.Go(func() {
			if err := c.barring.ask(c.life.ctx, nc.Servers()); err != nil {
				c.life.because(err)
				c.links.close()
			}
		})
	}
}

// Refused returns the server's refusal of something that was published in a room since its connection
// stands; nil for none.
func (c *Conn) Refused(room crypto.ID) error { return c.of(room).current().refusal() }

// Server is the URL of the server that the connection is to just now, or was last.
func (c *Conn) Server() string { return c.first.nc.ConnectedUrl() }

// Inbox names where the service answers this connection.
func (c *Conn) Inbox() crypto.Inbox { return c.first.inbox }

// of is the connection of a room: the first one for a room that was not granted.
func (c *Conn) of(room crypto.ID) *link {
	if l := c.links.of(room); l != nil {
		return l
	}
	return c.first
}

// Grant makes sure that there is a connection that may use each of the rooms: one that is there connects
// anew for them while it can name more, others are made. It fails with ErrDenied once the bus has refused this
// identity, and with ErrUnavailable when that takes longer than the timeout.
func (c *Conn) Grant(ctx context.Context, rooms ...crypto.ID) error {
	if c.o.Direct {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	if err := c.links.place(ctx, rooms); err != nil {
		return cmp.Or(c.life.Err(), err) // what has ended says more than that it is closed
	}
	for _, room := range rooms {
		if err := c.awaitRights(ctx, room); err != nil {
			return err
		}
	}
	return nil
}

// awaitRights waits until a login stands that names a room, or the room is released: then its rights have ended.
func (c *Conn) awaitRights(ctx context.Context, room crypto.ID) error {
	for {
		l := c.links.of(room)
		if l == nil {
			return nil
		}
		s := l.current()
		if s.names(room) {
			return nil
		}
		err := c.life.next(ctx, s)
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("reconnect: %w", failure(ctx.Err()))
		}
		if err != nil {
			return err
		}
	}
}

// Release forgets that there is a connection that may use a room: rights in it have ended, and who is given them again
// gains them by another Grant.
func (c *Conn) Release(room crypto.ID) { c.links.release(room) }

// NATS is the connection itself, for a store on it.
func (c *Conn) NATS() *nats.Conn { return c.first.nc }

// IsConnected reports whether the connection stands at this moment.
func (c *Conn) IsConnected() bool { return c.first.nc.IsConnected() }

// MaxPayload is the most bytes of one message here, headers included.
func (c *Conn) MaxPayload() int { return int(c.first.nc.MaxPayload()) }

// Close sends what is buffered and ends the connection.
func (c *Conn) Close() {
	for _, l := range c.links.all() {
		if l.nc.IsConnected() {
			_ = l.nc.FlushTimeout(c.o.Timeout) // a failure here is one the acknowledgements already told
		}
	}
	c.life.close()
	c.running.Seal() // before the connection goes: the library must not meet a reader it did not know of
	c.links.close()
	<-c.Done()
	c.running.Wait()
}

// Publish sends a frame to a room that stores nothing.
func (c *Conn) Publish(room crypto.ID, frame []byte) Ack {
	return Ack{err: failure(c.of(room).nc.Publish(LiveSubject(room, c.o.Identity.Key()), frame))}
}

// Store sends a frame to a stored room. The id makes a repetition harmless.
func (c *Conn) Store(room crypto.ID, id string, frame []byte) Ack {
	m := nats.NewMsg(StoredSubject(room, c.o.Identity.Key()))
	m.Header.Set(nats.MsgIdHdr, id)
	m.Data = frame
	future, err := c.of(room).js.PublishMsgAsync(m)
	return Ack{future, StreamName(room), failure(err)}
}

// Flush waits until the server has taken everything published in a room.
func (c *Conn) Flush(ctx context.Context, room crypto.ID) error { return c.of(room).flush(ctx) }

// Subscribe subscribes to a room, or shares what comes with others who name the same queue. It stands
// when Subscribe returns.
func (c *Conn) Subscribe(ctx context.Context, room crypto.ID, stored Stored, queue string) (*Feed, error) {
	l := c.of(room)
	sub, err := l.nc.QueueSubscribeSync(LiveFilter(room), queue)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", failure(err))
	}
	buffer := liveBuffer
	if stored {
		buffer = storedBuffer
	}
	if err := sub.SetPendingLimits(-1, buffer); err != nil {
		return nil, err
	}
	if err := l.flush(ctx); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return &Feed{c.life, l, sub, room}, nil
}

// Watch reports the logs that the service says have changed, until ctx ends.
func (c *Conn) Watch(ctx context.Context) (<-chan store.Notice, error) {
	in := make(chan *nats.Msg, 1024)
	sub, err := c.first.nc.ChanSubscribe(NoticeSubject(c.o.Identity.Key()), in)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", failure(err))
	}
	if err := c.first.flush(ctx); err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	out := make(chan store.Notice)
	started := c.running.Go(func() {
		defer close(out)
		defer func() { _ = sub.Unsubscribe() }() // the connection may be gone, which serves as well
		c.passNotices(ctx, in, out)
	})
	if !started {
		return nil, fmt.Errorf("watch: %w", failure(nats.ErrConnectionClosed))
	}
	return out, nil
}

// passNotices passes on what is understood of what comes, until ctx or the connection ends.
func (c *Conn) passNotices(ctx context.Context, in <-chan *nats.Msg, out chan<- store.Notice) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.Done():
			return
		case m := <-in:
			var n store.Notice
			if json.Unmarshal(m.Data, &n) != nil {
				continue // no notice: the service sends nothing else there
			}
			select {
			case out <- n:
			case <-ctx.Done():
				return
			case <-c.Done():
				return
			}
		}
	}
}
