package unibus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// between is a store, with something of one's own between it and its client.
type between struct {
	store.Store
	cards   int // that were put
	members func(list []store.Member) []store.Member
}

func (s *between) PutCards(ctx context.Context, cards ...store.Card) error {
	s.cards += len(cards)
	return s.Store.PutCards(ctx, cards...)
}

func (s *between) Members(ctx context.Context, room ID) ([]store.Member, error) {
	list, err := s.Store.Members(ctx, room)
	return s.members(list), err
}

// TestAddress: a bus is pinned for the NATS context by which it is reached, or for the server without what nobody else may know.
func TestAddress(t *testing.T) {
	for want, o := range map[string]Options{
		"context:home": {Context: "home"}, "nats://host:1": {Server: "nats://alice:secret@host:1"},
	} {
		got, err := o.address()
		if err != nil || strings.Contains(got, "secret") || o.Context != "" && got != want || o.Context == "" && !strings.Contains(got, "host:1") {
			t.Errorf("%q, want %q, %v", got, want, err)
		}
	}
}

// TestLostOnce: a connection that breaks again before it stands is told of once.
func TestLostOnce(t *testing.T) {
	l := &link{o: new(Options), connected: func() {}}
	l.lost(nil)
	first := l.away
	l.lost(nil)
	if l.away != first {
		t.Error("the second break is told of, too")
	}
	l.back()
	if l.away != nil {
		t.Error("it stands, and is away")
	}
}

// TestReconnected: who waits for a log is woken when the connection stands again; while a client is being made nobody is.
func TestReconnected(t *testing.T) {
	reconnected(new(Client))
	w := found(t)
	bell := w.c.following.bell(w.c.Bus())
	w.c.link.connected()
	select {
	case <-bell:
	default:
		t.Error("nobody is woken")
	}
}

// TestKnownRooms: of the rooms that a client says it will use, those that it knows are asked for when it logs in.
func TestKnownRooms(t *testing.T) {
	w, must := found(t), orFatal(t)
	room, err := w.c.CreateRoom(w.ctx, "ops", DefaultPolicy())
	must(err)
	other := ID{1}
	w.c.link.o.Rooms = []string{"nothing", "ops", other.String()}
	if rooms, err := w.c.link.knownRooms(w.ctx); err != nil || !slices.Equal(rooms, []ID{room.ID(), other}) {
		t.Errorf("%v, %v", rooms, err)
	}
}

// TestWhyNotLetIn: who is not let in is told who it is on the bus, as far as it has verified that.
func TestWhyNotLetIn(t *testing.T) {
	w, must := found(t), orFatal(t)
	id, err := NewIdentity()
	must(err)
	refused := func(kind remedy.Kind, name string) {
		t.Helper()
		c, err := Connect(w.ctx, Options{Identity: id, StateDir: filepath.Join(w.dir, "bob"), Server: w.node.URL()})
		if err == nil {
			c.Close()
		}
		if help := remedy.Of(err); !errors.Is(err, ErrDenied) || help.Kind != kind || help.User != name {
			t.Errorf("%v, with %+v: want the name %q", err, help, name)
		}
	}
	refused(remedy.AllowSelf, "")
	must(w.c.AddUsers(w.ctx, NewUser{Key: id.Key(), Name: "bob"}))
	c, err := Connect(w.ctx, Options{Identity: id, StateDir: filepath.Join(w.dir, "bob"), Server: w.node.URL()})
	must(err)
	must(c.Close())
	must(w.c.RevokeUsers(w.ctx, "", id.Key()))
	refused(remedy.AskWhy, "bob")
	must(w.c.pins.Close()) // what was verified cannot be read
	if err := w.c.link.explain(w.ctx, ErrDenied); !errors.Is(err, ErrDenied) || remedy.Of(err).Kind != remedy.AllowSelf {
		t.Errorf("%v", err)
	}
}

// TestMeaning: subjects of rooms that an earlier build has pinned without them are found all the same: they are pinned once, all.
func TestMeaning(t *testing.T) {
	w, must := found(t), orFatal(t)
	r, err := w.c.CreateRoom(w.ctx, "room", DefaultPolicy())
	must(err)
	must(w.c.pins.Settings.Set(w.ctx, subjectsPinned+w.c.Bus().String(), ""))
	for _, want := range []ID{r.ID(), {}} {
		must(w.c.pins.Subjects.Replace(w.ctx, w.c.Bus(), "room", ID{})) // as if it never had been
		if id, err := meaning(w.ctx, w.c.rooms, "room"); err != nil || id != want {
			t.Errorf("it means %s, not %s (%v)", id, want, err)
		}
	}
	if id, err := meaning(w.ctx, w.c.rooms, "none"); err != nil || !id.IsZero() {
		t.Errorf("another means %s, %v", id, err)
	}
}

// TestOnlyLost: what is joined with anything else than that rooms are lost is not that alone.
func TestOnlyLost(t *testing.T) {
	for err, want := range map[error]bool{
		nil: true, ErrIntegrity: true, ErrNotFound: false, ErrUnavailable: false, context.Canceled: false,
	} {
		if onlyLost(err) != want || err != nil && onlyLost(errors.Join(ErrIntegrity, err)) != (err == ErrIntegrity || err == ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
}

// TestNoBusThere: what is not the first entry of a bus log is refused as the answer to which bus is there.
func TestNoBusThere(t *testing.T) {
	w, must := found(t), orFatal(t)
	room, err := w.c.CreateRoom(w.ctx, "ops", DefaultPolicy())
	must(err)
	var statement []byte
	for raw, err := range w.c.link.store.Entries(w.ctx, room.ID(), 0) {
		must(err)
		statement = raw.Statement
	}
	for says, answer := range map[string][]byte{"create begins the log of a room": statement, "not give a bus log's first entry (": statement[1:]} {
		if _, err := w.c.link.checkBus(w.ctx, "nats://elsewhere:1", "nats://elsewhere:1", answer); !errors.Is(err, ErrIntegrity) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
}

// TestElsewhere: who waits where nobody said to go goes where another process of the identity has come to know a bus.
func TestElsewhere(t *testing.T) {
	w, must := found(t), orFatal(t)
	l := &link{o: &Options{Server: DefaultServer}, pins: w.c.pins}
	in, err := w.c.pins.Buses.InUse(w.ctx)
	must(err)
	if in == "" {
		in = w.node.URL()
		must(Remember(w.ctx, Options{Identity: w.id, StateDir: filepath.Join(w.dir, "state")}, in, w.c.Bus()))
	}
	if to := elsewhere(l); to != "" || l.o.Server != DefaultServer {
		t.Errorf("who said where to go is led to %s", to)
	}
	l.anywhere = true
	if to := elsewhere(l); to != in || l.o.Server != in {
		t.Errorf("it goes to %q, and is at %s, not %s", to, l.o.Server, in)
	}
	must(w.c.pins.Close())
	if to := elsewhere(l); to != "" {
		t.Errorf("it goes to %q, and nobody can say where", to)
	}
}

// TestCardOnce: a bus is given one's card once.
func TestCardOnce(t *testing.T) {
	w, must := found(t), orFatal(t)
	s := &between{Store: w.c.link.store}
	w.c.link.store = s
	must(w.c.link.firstCard(w.ctx, w.c.Bus()))
	if s.cards != 0 {
		t.Error("it is given again")
	}
	must(w.c.link.firstCard(w.ctx, ID{1}))
	must(w.c.link.firstCard(w.ctx, ID{1}))
	if s.cards != 1 {
		t.Errorf("another bus is given %d", s.cards)
	}
}

// TestViewsOfGrownLog: what the store lists is held against the log as it was then, or not at all: a room that grows
// meanwhile is no finding.
func TestViewsOfGrownLog(t *testing.T) {
	w, must := found(t), orFatal(t)
	room, err := w.c.CreateRoom(w.ctx, "ops", DefaultPolicy())
	must(err)
	bob, err := NewIdentity()
	must(err)
	card, err := bob.Card()
	must(err)
	must(w.c.AddUsers(w.ctx, NewUser{Key: bob.Key(), Name: "bob", Card: card}))
	c, err := Connect(w.ctx, Options{Identity: w.id, StateDir: filepath.Join(w.dir, "other"), Server: w.node.URL()})
	must(err)
	defer c.Close()
	same, err := c.Room(w.ctx, "ops")
	must(err)
	s := &between{Store: w.c.link.store, members: func(list []store.Member) []store.Member { return list }}
	w.c.link.store = s
	finds := func(what string, want int) {
		t.Helper()
		findings := 0
		if err := compareViews(w.ctx, room, room.r.State().Head, func(Notice) { findings++ }); err != nil || findings != want {
			t.Errorf("%s: %d findings, %v", what, findings, err)
		}
	}
	finds("as it is", 0)
	must(same.Invite(w.ctx, RoleMember, bob.Key()))
	finds("the store is ahead", 0)
	must(room.Refresh(w.ctx))
	s.members = func(list []store.Member) []store.Member {
		must(same.Kick(w.ctx, bob.Key()))
		must(room.Refresh(w.ctx))
		return list
	}
	finds("the log has gone on", 0)
	s.members = func([]store.Member) []store.Member { return nil }
	finds("one who is not listed", 1)
}

// TestExplain: what helps with a connection that failed depends on what is known of why.
func TestExplain(t *testing.T) {
	o := &Options{Server: "nats://foo:4222"}
	for _, c := range []struct {
		err  error
		help remedy.Kind
	}{
		{fmt.Errorf("connect: %w: %w", ErrUnavailable, &net.DNSError{Name: "foo", IsNotFound: true}), remedy.NameServer},
		{fmt.Errorf("connect: %w: nobody listens there", ErrUnavailable), remedy.StartServer},
		{bus.ErrUnanswered, remedy.LookAtService},
		{ErrIntegrity, remedy.None},
	} {
		if got := remedy.Of(o.explain(c.err)).Kind; got != c.help {
			t.Errorf("%v: got remedy %d, want %d", c.err, got, c.help)
		}
	}
}
