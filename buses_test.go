package unibus_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
)

// twoBuses are two buses with carol on the allowlist of both, and her options, which name no server.
type twoBuses struct {
	*straight
	one, two *world
	o        unibus.Options
	told     *notices
}

func newTwoBuses(t *testing.T) *twoBuses {
	t.Helper()
	b := &twoBuses{straight: &straight{T: t, ctx: t.Context()}, one: newWorld(t), two: newWorld(t)}
	carol := b.one.identity()
	for _, w := range []*world{b.one, b.two} {
		w.must(w.alice.AddUsers(w.ctx, unibus.NewUser{Key: carol.Key(), Name: "carol"}))
	}
	b.o, b.told = b.one.options(carol, "carol")
	b.o.Server = ""
	return b
}

// join joins a bus under a name.
func (b *twoBuses) join(w *world, name string) {
	b.Helper()
	c, err := unibus.JoinAs(b.ctx, w.node.URL(), name, b.o)
	b.must(err)
	b.must(c.Close())
}

// goesTo fails the test unless Connect goes to a bus when it is given the id or name of one.
func (b *twoBuses) goesTo(w *world, named string) {
	b.Helper()
	o := b.o
	o.Bus = named
	c, err := unibus.Connect(b.ctx, o)
	b.must(err)
	defer c.Close()
	if c.Bus() != w.alice.Bus() {
		b.Errorf("%q leads to %s", named, c.Bus())
	}
	known, err := unibus.Recall(b.ctx, o)
	if err != nil || known.Server != w.node.URL() || known.Bus != w.alice.Bus() {
		b.Errorf("%q: %+v, %v", named, known, err)
	}
}

// names are the buses that are known, with a star at the one in use.
func (b *twoBuses) names() string {
	b.Helper()
	buses, err := unibus.Buses(b.ctx, b.o)
	b.must(err)
	var out []string
	for _, k := range buses {
		if k.InUse {
			k.Name += "*"
		}
		out = append(out, k.Name)
	}
	return strings.Join(out, " ")
}

// TestBuses: one is in use, and others are named for one connection.
func TestBuses(t *testing.T) {
	b := newTwoBuses(t)
	if names := b.names(); names != "" {
		t.Errorf("before one is joined, there is %s", names)
	}
	b.join(b.one, "work")
	b.join(b.two, "home")
	if !b.told.has("is known as home, and is the one in use") || b.names() != "home* work" {
		t.Errorf("%s, and told %q", b.names(), b.told.list)
	}
	b.goesTo(b.two, "")
	b.goesTo(b.one, "work")
	b.goesTo(b.one, strings.ToUpper(b.one.alice.Bus().String()))
	b.goesTo(b.two, "")
	k, err := unibus.UseBus(b.ctx, b.o, "work")
	if err != nil || !k.InUse || k.Name != "work" || k.Bus != b.one.alice.Bus() || k.Server != b.one.node.URL() || k.Founder != b.one.alice.Key() {
		t.Errorf("%+v, %v", k, err)
	}
	b.goesTo(b.one, "")
	if k, err = unibus.RenameBus(b.ctx, b.o, "work", "office"); err != nil || k.Name != "office" || b.names() != "home office*" {
		t.Errorf("%+v, %v, %s", k, err, b.names())
	}
	// Straight at a store, or at a server that is named, it is the bus that has to be there.
	o := b.o
	o.Server, o.Bus = b.one.node.URL(), "home"
	_, err = unibus.Connect(b.ctx, o)
	b.fails(err, unibus.ErrIntegrity, "it is the bus "+b.one.alice.Bus().String()+", not "+b.two.alice.Bus().String(), remedy.CompareBus)
	o.Bus = "office"
	c, err := unibus.Connect(b.ctx, o)
	b.must(err)
	b.must(c.Close())
}

// TestBusesRefused: what names no bus leads nowhere, and changes nothing.
func TestBusesRefused(t *testing.T) {
	b := newTwoBuses(t)
	_, err := unibus.UseBus(b.ctx, b.o, "work")
	b.fails(err, unibus.ErrNotFound, "bus work", remedy.ListBuses)
	b.join(b.one, "work")
	b.join(b.two, "home")
	for named, c := range map[string]struct {
		kind error
		help remedy.Kind
	}{
		"nosuch": {unibus.ErrNotFound, remedy.ListBuses}, other(b.one): {unibus.ErrNotFound, remedy.ListBuses}, "no name": {unibus.ErrInvalid, remedy.None},
	} {
		o := b.o
		o.Bus = named
		_, err := unibus.Connect(b.ctx, o)
		b.fails(err, c.kind, named, c.help)
		_, err = unibus.Recall(b.ctx, o)
		b.fails(err, c.kind, named, c.help)
	}
	_, err = unibus.BusNamed(b.ctx, b.o, "nosuch")
	b.fails(err, unibus.ErrNotFound, "nosuch", remedy.ListBuses)
	_, err = unibus.RenameBus(b.ctx, b.o, "work", "home")
	b.fails(err, unibus.ErrExists, "home", remedy.ListBuses)
	_, err = unibus.RenameBus(b.ctx, b.o, "work", "no name")
	b.fails(err, unibus.ErrInvalid, "no name", remedy.None)
	_, err = unibus.JoinAs(b.ctx, b.one.node.URL(), "no name", b.o)
	b.fails(err, unibus.ErrInvalid, "no name", remedy.None)
	// That a name is taken is known at once where the id says which bus is meant, and else when the bus has said it.
	_, err = unibus.JoinAs(b.ctx, "nats://127.0.0.1:1#"+b.one.alice.Bus().String(), "home", b.o)
	b.fails(err, unibus.ErrExists, "home", remedy.ListBuses)
	_, err = unibus.JoinAs(b.ctx, b.one.node.URL(), "home", b.o)
	b.fails(err, unibus.ErrExists, "home", remedy.ListBuses)
	if names := b.names(); names != "home* work" {
		t.Errorf("there is %s", names)
	}
}

// TestBusRemoved: a bus that is removed is met anew at its address, but what was verified of it is kept; and none takes its
// place.
func TestBusRemoved(t *testing.T) {
	b := newTwoBuses(t)
	b.join(b.one, "work")
	b.join(b.two, "home")
	no := errors.New("not sure")
	if _, err := unibus.RemoveBus(b.ctx, b.o, "home", func(unibus.KnownBus) error { return no }); !errors.Is(err, no) || b.names() != "home* work" {
		t.Errorf("%v, %s", err, b.names())
	}
	sure := func(k unibus.KnownBus) error {
		if k.Name != "home" || k.Server != b.two.node.URL() || k.Bus != b.two.alice.Bus() {
			t.Errorf("asked about %+v", k)
		}
		return nil
	}
	_, err := unibus.RemoveBus(b.ctx, b.o, "home", sure)
	b.must(err)
	_, err = unibus.RemoveBus(b.ctx, b.o, "home", sure)
	b.fails(err, unibus.ErrNotFound, "home", remedy.ListBuses)
	_, err = unibus.Connect(b.ctx, b.o)
	b.fails(err, unibus.ErrNotFound, "none is, of work", remedy.ChooseBus)
	_, err = unibus.Recall(b.ctx, b.o)
	b.fails(err, unibus.ErrNotFound, "none is, of work", remedy.ChooseBus)
	b.goesTo(b.one, "work")
	b.join(b.two, "")
	if !b.told.has("is an address of the bus "+b.two.alice.Bus().String()) || b.names() != "local* work" {
		t.Errorf("%s, and told %q", b.names(), b.told.list)
	}
	// A name whose address was forgotten leads to whichever bus is there, and says of none that it is meant.
	_, err = unibus.Forget(b.ctx, b.o, b.one.node.URL(), func(unibus.ID) error { return nil })
	b.must(err)
	o := b.o
	o.Server, o.Bus = b.one.node.URL(), "work"
	_, err = unibus.Connect(b.ctx, o)
	b.fails(err, unibus.ErrNotFound, "was forgotten with its address", remedy.None)
	o.Server = ""
	if known, err := unibus.Recall(b.ctx, o); err != nil || known.Server != b.one.node.URL() || !known.Bus.IsZero() {
		t.Errorf("%+v, %v", known, err)
	}
	b.goesTo(b.one, "work")
}

// TestRefusedBus: a bus that lets nobody in is remembered, and does not take the place of the one in use.
func TestRefusedBus(t *testing.T) {
	b := newTwoBuses(t)
	b.join(b.one, "work")
	b.must(b.two.alice.RevokeUsers(b.ctx, "", b.o.Identity.Key()))
	_, err := unibus.JoinAs(b.ctx, b.two.node.URL(), "home", b.o)
	if !errors.Is(err, unibus.ErrDenied) || !b.told.has("is known as home; it is not the one in use") || b.names() != "home work*" {
		t.Errorf("%v, %s, and told %q", err, b.names(), b.told.list)
	}
}

// TestRemember: whoever runs a bus knows it by name; the bus in use stays, and what was met at an address is not written over.
func TestRemember(t *testing.T) {
	b := newTwoBuses(t)
	b.must(unibus.Remember(b.ctx, b.o, "nats://10.0.0.1:4222", b.one.alice.Bus()))
	if names := b.names(); names != "local*" {
		t.Errorf("there is %s", names)
	}
	b.must(unibus.Remember(b.ctx, b.o, b.two.node.URL(), b.two.alice.Bus()))
	b.must(unibus.Remember(b.ctx, b.o, b.one.node.URL(), b.one.alice.Bus())) // which listens elsewhere now
	if names := b.names(); names != "local* local-2" {
		t.Errorf("there is %s", names)
	}
	b.goesTo(b.one, "")
	err := unibus.Remember(b.ctx, b.o, b.one.node.URL(), b.two.alice.Bus())
	b.fails(err, unibus.ErrOtherBus, b.one.node.URL(), remedy.ForgetBus)
	b.goesTo(b.one, "local")
}

// TestOtherSpellings: a server where a bus was met is that server however it is written, with TLS or without it, and in a list
// with others: another bus there is told of, and not met for the first time.
func TestOtherSpellings(t *testing.T) {
	b := newTwoBuses(t)
	host := strings.TrimPrefix(b.two.node.URL(), "nats://")
	b.must(unibus.Remember(b.ctx, b.o, b.two.node.URL(), b.one.alice.Bus())) // where another bus is now
	b.must(unibus.Remember(b.ctx, b.o, b.one.node.URL(), b.one.alice.Bus()))
	_, port, err := net.SplitHostPort(host)
	b.must(err)
	for _, server := range []string{
		"nats://" + host, "nats://" + host + "/", host, "nats://127.0.0.1:0" + port, "nats://[::ffff:127.0.0.1]:" + port,
		"nats://" + host + ",nats://127.0.0.1:1", "nats://127.0.0.1:1, nats://" + host,
	} {
		o := b.o
		o.Server = server
		c, err := unibus.Connect(b.ctx, o)
		b.fails(err, unibus.ErrOtherBus, "", remedy.ForgetBus)
		if c != nil {
			t.Errorf("%s: connected", server)
		}
	}
	// A NATS context that is used for the first time leads to the same server.
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	b.must(os.MkdirAll(filepath.Join(home, "nats", "context"), 0o700))
	b.must(os.WriteFile(filepath.Join(home, "nats", "context", "two.json"), []byte(`{"url":"`+b.two.node.URL()+`"}`), 0o600))
	o := b.o
	o.Context = "two"
	_, err = unibus.Connect(b.ctx, o)
	b.fails(err, unibus.ErrOtherBus, b.two.node.URL(), remedy.ForgetBus)
	o.Context = ""
	// Of a list the one that was spoken to is known from then on, and of the others nothing.
	o.Server = "nats://127.0.0.1:1," + b.one.node.URL()
	listed, err := unibus.Connect(b.ctx, o)
	b.must(err)
	b.must(listed.Close())
	o.Server = "nats://127.0.0.1:1"
	if known, err := unibus.Recall(b.ctx, o); err != nil || !known.Bus.IsZero() {
		t.Errorf("nobody was there, and known is %+v, %v", known, err)
	}
	o.Server = b.one.node.URL() + "," + b.two.node.URL()
	b.must(unibus.Remember(b.ctx, o, "nats://127.0.0.1:2", b.two.alice.Bus()))
	o.Server += ",nats://127.0.0.1:2"
	_, err = unibus.Connect(b.ctx, o)
	b.fails(err, unibus.ErrOtherBus, "these are not servers of one bus", remedy.ServersOfOne)
	_, err = unibus.Forget(b.ctx, b.o, b.two.node.URL()+"/", func(unibus.ID) error { return nil })
	b.must(err)
	o.Server = b.two.node.URL()
	c, err := unibus.Connect(b.ctx, o)
	b.must(err)
	b.must(c.Close())
}

// TestTwoBusesAtOnce: one identity with one state directory works on two buses at the same time, in rooms of the same
// subject, and neither learns of the other.
func TestTwoBusesAtOnce(t *testing.T) {
	b := newTwoBuses(t)
	b.join(b.one, "work")
	b.join(b.two, "home")
	rooms, subs := map[string]*unibus.Room{}, map[string]*unibus.Subscription{}
	for name, w := range map[string]*world{"work": b.one, "home": b.two} {
		made, err := w.alice.CreateRoom(b.ctx, "ops", unibus.DefaultPolicy())
		b.must(err)
		b.must(made.Invite(b.ctx, unibus.RoleMember, b.o.Identity.Key()))
		o := b.o
		o.Bus = name
		c, err := unibus.Connect(b.ctx, o)
		b.must(err)
		t.Cleanup(func() { c.Close() })
		rooms[name], err = c.Room(b.ctx, "ops")
		b.must(err)
		subs[name], err = rooms[name].Subscribe(b.ctx, unibus.SubscribeOptions{All: true})
		b.must(err)
		t.Cleanup(func() { subs[name].Close() })
	}
	sent := []string{"1", "2", "3", "4", "5"}
	failed := make(chan error, len(rooms))
	for name, r := range rooms {
		go func() {
			for _, text := range sent {
				if err := r.Publish(b.ctx, []byte(name+" "+text)); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range rooms {
		b.must(<-failed)
	}
	for name, sub := range subs {
		var got []string
		for m, err := range sub.Messages() {
			b.must(err)
			got = append(got, strings.TrimPrefix(string(m.Body), name+" "))
			if len(got) == len(sent) {
				break
			}
		}
		if !slices.Equal(got, sent) {
			t.Errorf("%s: %q", name, got)
		}
		found, err := rooms[name].Verify(b.ctx, func(n unibus.Notice) { t.Errorf("%s: %+v", name, n) })
		if err != nil || found.Findings != 0 {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
	}
	o := b.o
	o.Bus = "home"
	b.noneOf(o, rooms["work"].ID())
}

// TestTurnsOfBuses: whoever waits for one bus does not hold up those who go to another.
func TestTurnsOfBuses(t *testing.T) {
	b := newTwoBuses(t)
	b.join(b.one, "work")
	b.join(b.two, "home")
	p, err := pins.Open(b.ctx, b.o.StateFile())
	b.must(err)
	defer p.Close()
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	for { // as long as there is a turn on the way to work
		done, err := p.Turns.Of(b.one.alice.Bus()).Take(ctx, time.Hour, func() {})
		if errors.Is(err, context.Canceled) {
			break
		}
		b.must(err)
		defer done()
	}
	b.goesTo(b.two, "home")
	if b.told.has("waiting for a turn") {
		t.Errorf("told %q", b.told.list)
	}
}

// noneOf fails the test unless a room of the first bus is not found on another.
func (b *twoBuses) noneOf(o unibus.Options, room unibus.ID) {
	b.Helper()
	c, err := unibus.Connect(b.ctx, o)
	b.must(err)
	defer c.Close()
	_, err = c.Room(b.ctx, room.String())
	b.fails(err, unibus.ErrNotFound, "it is of the bus "+b.one.alice.Bus().String(), remedy.None)
	if errors.Is(err, unibus.ErrIntegrity) {
		b.Errorf("%v", err)
	}
}
