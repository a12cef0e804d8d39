package unibus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/servers"
)

// hello asks the server which bus it is, and checks the answer.
func (l *link) hello(ctx context.Context) (ID, error) {
	statement, server, err := bus.Hello(ctx, l.dialOptions())
	if err != nil {
		return ID{}, l.o.explain(err)
	}
	address, err := l.o.address()
	if err != nil {
		return ID{}, err
	}
	return l.checkBus(ctx, address, server, statement)
}

// login connects, for the rooms that are known to be used.
func (l *link) login(ctx context.Context, id ID) error {
	l.bus = id
	o := l.dialOptions()
	o.Bus = id
	var err error
	if o.Rooms, err = l.knownRooms(ctx); err != nil {
		return err
	}
	if l.conn, err = bus.Dial(o); err == nil {
		return nil
	}
	if errors.Is(err, ErrDenied) { // by this bus, or by another that is there now
		if _, changed := l.hello(ctx); changed != nil {
			return changed
		}
	}
	return l.explain(ctx, err)
}

// knownRooms are those of the rooms to be used of which it is known which they are.
func (l *link) knownRooms(ctx context.Context) (rooms []ID, err error) {
	for _, name := range l.o.Rooms {
		room, err := crypto.ParseID(name)
		if err != nil {
			if room, err = l.pins.Subjects.Room(ctx, l.bus, name); err != nil {
				return nil, err
			}
		}
		if !room.IsZero() {
			rooms = append(rooms, room)
		}
	}
	return rooms, nil
}

// checkBus verifies a bus log's first statement, and that it is the bus this address, and this
// client, are known to belong to. The first contact pins it and says so; server is which of those that the address may list gave
// the statement.
func (l *link) checkBus(ctx context.Context, address, server string, statement []byte) (ID, error) {
	e, err := new(ledger.State).Check(statement)
	if err == nil && e.Op != "found" {
		err = fmt.Errorf("%s begins the log of a room", e.Op)
	}
	if err != nil {
		return ID{}, fmt.Errorf("%s: %w: it does not give a bus log's first entry (%v)", address, ErrIntegrity, err)
	}
	first := new(ledger.State).With(e)
	pinned, err := busAt(ctx, l.pins, address)
	switch {
	case err != nil:
		return ID{}, err
	case !pinned.IsZero() && pinned != first.ID:
		return ID{}, otherBus(address, pinned, first.ID)
	}
	if l.o.Bus != "" {
		want, err := crypto.ParseID(l.o.Bus)
		if err != nil {
			return ID{}, fmt.Errorf("bus %q: %w: %v", l.o.Bus, ErrInvalid, err)
		}
		if want != first.ID {
			err := fmt.Errorf("%s: %w: it is the bus %s, not %s", address, ErrIntegrity, first.ID, want)
			return ID{}, remedy.With(err, remedy.Remedy{Kind: remedy.CompareBus})
		}
	}
	if pinned.IsZero() {
		if err := checkContext(ctx, l, first.ID); err != nil {
			return ID{}, err
		}
		err = l.firstContact(ctx, oneOf(address, server), first, e.By)
	}
	return first.ID, err
}

// oneOf is the one of an address's servers that was spoken to: of the others nothing is known. The address itself where it lists
// none, or not that one.
func oneOf(address, server string) string {
	if keys := servers.Keys(server); strings.Contains(address, ",") && slices.Contains(servers.Keys(address), keys[0]) {
		return server
	}
	return address
}

// checkContext makes sure that a NATS context that is used for the first time does not lead to servers where another bus was met.
func checkContext(ctx context.Context, l *link, id ID) error {
	if l.o.Context == "" || l.o.Store != "" {
		return nil
	}
	list, err := bus.ContextServers(l.o.Context)
	if err != nil { // it could be used all the same
		return nil
	}
	was, err := busAt(ctx, l.pins, list)
	if err == nil && !was.IsZero() && was != id {
		err = otherBus(list, was, id)
	}
	return err
}

// otherBus is the error of an address where one bus was, and another is, or, with no id, none is to be founded.
func otherBus(address string, was, is ID) error {
	now := fmt.Sprintf("is now the bus %s: somebody may be in between, or it was made anew", is)
	if is.IsZero() {
		now = "there is none now: nothing is founded in its place"
	}
	err := fmt.Errorf("%s: %w: %w: it was the bus %s and %s", address, ErrIntegrity, ErrOtherBus, was, now)
	return remedy.With(err, remedy.Remedy{Kind: remedy.ForgetBus, Path: address})
}

// busAt returns the bus that was met at an address; zero for none. ErrOtherBus where it lists servers of several.
func busAt(ctx context.Context, p *pins.Pins, address string) (ID, error) {
	id, err := p.Servers.Bus(ctx, address)
	if several := new(pins.SeveralBuses); errors.As(err, &several) {
		err = remedy.With(fmt.Errorf("%s: %w: %w: %w", address, ErrIntegrity, ErrOtherBus, err), remedy.Remedy{Kind: remedy.ServersOfOne, Path: several.At2})
	}
	return id, err
}

// firstContact pins the bus at an address, and tells of it.
func (l *link) firstContact(ctx context.Context, address string, first *ledger.State, founder PublicKey) error {
	if err := l.pins.Servers.Pin(ctx, address, first.ID); err != nil {
		return err
	}
	known, err := l.pins.Logs.State(ctx, first.ID)
	if err != nil {
		return err
	}
	if known.Head.Seq > 0 {
		l.o.tell("%s is an address of the bus %s, which is known already; pinned", address, first.ID)
	} else {
		l.o.tell("first contact with %s: the bus %s, founded by %s (%s); pinned", address, first.ID, first.Bus.Name, founder)
	}
	return nil
}

// refused says why the bus ended the connection for good, and what to do about it; nil while it has not.
// Whatever fails meanwhile may only say that the connection is gone.
func (l *link) refused() error { return l.explain(context.Background(), l.conn.Err()) }

// explain says what to do about a refused or failed connection, and why it was refused, if what was verified of the bus says
// that: servers tell nobody.
func (l *link) explain(ctx context.Context, err error) error {
	if !errors.Is(err, ErrDenied) || l.bus.IsZero() {
		return l.o.explain(err)
	}
	s, perr := l.pins.Logs.State(ctx, l.bus)
	if perr != nil || s.Bus == nil {
		return l.o.explain(err)
	}
	return l.o.outside(s.Bus.User(l.o.Identity.Key()))
}

// outside is the ErrDenied of whoever is not let in; u is what the bus log says of it, as last verified, nil for nothing.
func (o *Options) outside(u *User) error {
	key := o.Identity.Key()
	switch {
	case u == nil:
		err := fmt.Errorf("%w: %s is not on this bus's allowlist, or this machine's clock is off", ErrDenied, key)
		return remedy.With(err, remedy.Remedy{Kind: remedy.AllowSelf, Key: key, User: o.Name})
	case u.ActiveAt(time.Now()): // as far as was seen
		err := fmt.Errorf("%w: %s (%s) is on this bus's allowlist no more, revoked or expired, or this machine's clock is off", ErrDenied, u.Name, key)
		return remedy.With(err, remedy.Remedy{Kind: remedy.AskWhy, User: u.Name})
	case !u.Active:
		err := fmt.Errorf("%w: %s (%s) was revoked, at %s", ErrDenied, u.Name, key, u.Revoked.UTC().Format(time.RFC3339))
		return remedy.With(err, remedy.Remedy{Kind: remedy.AllowAgain, Key: key, User: u.Name})
	}
	err := fmt.Errorf("%w: the access of %s (%s) expired at %s", ErrDenied, u.Name, key, u.Expires.UTC().Format(time.RFC3339))
	return remedy.With(err, remedy.Remedy{Kind: remedy.ExtendSelf, User: u.Name})
}

// explain says what to do about a refused or failed connection.
func (o *Options) explain(err error) error {
	var lookup *net.DNSError
	switch {
	case o.Store != "":
	case errors.As(err, &lookup):
		return remedy.With(err, remedy.Remedy{Kind: remedy.NameServer})
	case errors.Is(err, ErrDenied) && strings.Contains(o.Server, "@"):
		err := fmt.Errorf("%s: %w: the user in the address was refused, who logs in there in the place of this identity", redact.URL(o.Server), ErrDenied)
		return remedy.With(err, remedy.Remedy{Kind: remedy.LeaveOutUser})
	case errors.Is(err, ErrDenied):
		return o.outside(nil)
	case errors.Is(err, bus.ErrUnanswered):
		return remedy.With(err, remedy.Remedy{Kind: remedy.LookAtService})
	case errors.Is(err, ErrUnavailable):
		return remedy.With(err, remedy.Remedy{Kind: remedy.StartServer})
	}
	return err
}
