package bus

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// This file is what a Conn does about refusals: of its logins (barring), and of rooms that it follows (regainer).

// barring finds out whether the bus lets an identity in no more, with logins apart: the servers also refuse one that
// nobody answered, and that passes. So does a clock that is off, of which the bus says the same to everyone: only who is
// let in to say hello and not to the bus itself is refused as who it is.
type barring struct {
	o    DialOptions
	base []nats.Option

	mu     sync.Mutex
	asking bool // one question at a time
}

// ask returns the refusal of a bus that does not let the identity in, ErrDenied; nil when it does, when it answers
// nobody just now, or while another asks. The servers are those that the connection knows.
func (b *barring) ask(ctx context.Context, servers []string) error {
	if !b.begin() {
		return nil
	}
	defer b.finish()
	o := b.o
	if !o.Direct {
		o.Servers = strings.Join(servers, ",") // also those it has learned of
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	opts := append(slices.Clip(b.base), nats.NoReconnect(), nats.SetCustomDialer(cutDialer{ctx}))
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

// begin returns false while somebody asks already.
func (b *barring) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	busy := b.asking
	b.asking = true
	return !busy
}

// finish lets others ask.
func (b *barring) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asking = false
}

// onlyDenied leaves of errors a refusal: all others pass.
func onlyDenied(err error) error {
	if errors.Is(err, store.ErrDenied) {
		return err
	}
	return nil
}

// regainEvery is how soon after a login that gave no rights in a room that is followed there is another: whoever was
// removed and invited again may have logged in between. Who is no member any more ceases to follow.
const regainEvery = 2 * time.Second

// regainer gains rights anew in rooms that are followed, and in which a login gave none.
type regainer struct {
	running *tasks.Group
	life    context.Context // of the Conn
	release func(room crypto.ID)
	gain    func(ctx context.Context, rooms ...crypto.ID) error

	mu    sync.Mutex
	rooms map[crypto.ID]bool // that lack them; nil: nothing is under way
}

// add has the rights in a room gained anew after a while, together with those in others that lack them by then.
func (r *regainer) add(room crypto.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rooms != nil {
		r.rooms[room] = true
		return
	}
	if r.running.Go(r.run) {
		r.rooms = map[crypto.ID]bool{room: true}
	}
}

// run waits for a while, so that one login is for all rooms that lack rights by then, and has them gained.
func (r *regainer) run() {
	closed := tasks.Pause(r.life, regainEvery) != nil
	rooms := r.take()
	for _, room := range rooms {
		r.release(room)
	}
	if !closed {
		_ = r.gain(r.life, rooms...) // what it is for fails, too
	}
}

// take returns the rooms there are, and leaves none.
func (r *regainer) take() []crypto.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	rooms := slices.Collect(maps.Keys(r.rooms))
	r.rooms = nil
	return rooms
}

// deniedFeed is the room that a server's refusal of a subscription is about.
func deniedFeed(err error) (room crypto.ID, ok bool) {
	_, subject, _ := strings.Cut(err.Error(), `Subscription to "unibus.r.`)
	id, _, _ := strings.Cut(subject, ".")
	room, err = crypto.ParseID(id)
	return room, err == nil
}
