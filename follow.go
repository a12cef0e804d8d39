package unibus

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/store"
)

// following keeps what a client has open up to date: by the service's notices, and after each reconnection. Whoever reads
// on in a log by himself waits for its bell.
type following struct {
	c *Client

	mu    sync.Mutex
	began bool
	bells map[ID]chan struct{} // each is closed when its log may have grown; made when somebody waits for it
}

// bell returns what is closed when a log may have grown from now on.
func (f *following) bell(log ID) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bells == nil {
		f.bells = map[ID]chan struct{}{}
	}
	if f.bells[log] == nil {
		f.bells[log] = make(chan struct{})
	}
	return f.bells[log]
}

// ring wakes those who wait for a log.
func (f *following) ring(log ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bell := f.bells[log]; bell != nil {
		close(bell)
		delete(f.bells, log)
	}
}

// ringAll wakes those who wait for any log.
func (f *following) ringAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, bell := range f.bells {
		close(bell)
	}
	clear(f.bells)
}

// begin begins to follow the service's notices, once.
func (f *following) begin(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began {
		return nil
	}
	notices, err := f.c.link.store.Watch(f.c.ctx)
	if err != nil {
		return err
	}
	f.began = true
	f.c.tasks.Go(func() {
		for n := range notices {
			f.noticed(n)
		}
	})
	return nil
}

// noticed looks at a log that has grown.
func (f *following) noticed(n store.Notice) {
	f.ring(n.Log)
	if f.c.reader == nil { // straight at a store without messages nothing else is open
		return
	}
	if n.Log == f.c.Bus() {
		f.refresh(f.c.self.Bus)
		return
	}
	r := f.c.rooms.known(n.Log)
	if r == nil {
		f.c.reader.LookForRooms()
		return
	}
	if r.r.State().Head.Seq < n.Seq {
		f.refresh(r.r.Log)
	}
	r.r.EndUnreadable()
	f.c.reader.ChangedRoom(n.Log)
}

// reconnected looks at every open log: notices may have been missed, and the connection may have
// been dropped because of one.
func (f *following) reconnected() {
	f.ringAll()
	f.c.tasks.Go(func() {
		f.refresh(f.c.self.Bus)
		for _, r := range f.c.rooms.all() {
			f.refresh(r.r.Log)
			r.r.EndUnreadable()
		}
		f.c.reader.LookForRooms()
	})
}

// Pauses between tries to bring a log up to date.
const (
	firstRefresh = 100 * time.Millisecond
	lastRefresh  = 2 * time.Second
)

// refresh syncs a log in the background, until the store answers. What is wrong with the log
// ends the room's subscriptions.
func (f *following) refresh(l *mirror.Log) {
	err := l.Sync(f.c.ctx)
	for wait := firstRefresh; errors.Is(err, ErrUnavailable); wait = min(2*wait, lastRefresh) {
		select {
		case <-f.c.ctx.Done():
			return
		case <-f.c.link.conn.Done():
			return
		case <-time.After(wait):
		}
		err = l.Sync(f.c.ctx)
	}
	if !errors.Is(err, ErrIntegrity) && !errors.Is(err, ErrInvalid) {
		return
	}
	for _, r := range f.c.rooms.all() {
		if r.r.Log == l || l == f.c.self.Bus {
			r.r.End(err)
		}
	}
}

// awaitEnd ends everything when the bus ends the connection for good.
func (f *following) awaitEnd() {
	select {
	case <-f.c.ctx.Done():
	case <-f.c.link.conn.Done():
		err := f.c.link.refused()
		if err == nil {
			return
		}
		for _, r := range f.c.rooms.all() {
			r.r.End(err)
		}
		f.c.reader.End(err)
	}
}
