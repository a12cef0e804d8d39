package pins

import (
	"errors"
	"slices"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// TestMeanings: what a server, a name or a subject means is remembered, and does not become another thing unless that is
// meant.
func TestMeanings(t *testing.T) {
	bus, one, other := crypto.ID{1}, crypto.ID{2}, crypto.ID{3}
	keyOf := func(id crypto.ID) (key crypto.PublicKey) { copy(key[:], id[:]); return key }
	for _, v := range []struct {
		name    string
		pin     func(p *Pins, meaning crypto.ID) error
		replace func(p *Pins, meaning crypto.ID) error // nil: never
	}{
		{"server", func(p *Pins, id crypto.ID) error { return p.Servers.Pin(t.Context(), "nats://a", id) }, nil},
		{
			"name", func(p *Pins, id crypto.ID) error { return p.Names.Pin(t.Context(), bus, "bob", keyOf(id)) },
			func(p *Pins, id crypto.ID) error { return p.Names.Replace(t.Context(), bus, "bob", keyOf(id)) },
		},
		{
			"names at once", func(p *Pins, id crypto.ID) error { return p.Names.Pin(t.Context(), bus, "carol", keyOf(id)) },
			func(p *Pins, id crypto.ID) error {
				return p.Names.ReplaceAll(t.Context(), bus, map[string]crypto.PublicKey{"bob": keyOf(bus), "carol": keyOf(id)})
			},
		},
		{
			"subject", func(p *Pins, id crypto.ID) error { return p.Subjects.Pin(t.Context(), bus, "ops", id) },
			func(p *Pins, id crypto.ID) error { return p.Subjects.Replace(t.Context(), bus, "ops", id) },
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			p := newPins(t)
			want := func(err, want error, why string) {
				t.Helper()
				if !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", why, err, want)
				}
			}
			want(v.pin(p, one), nil, "first")
			want(v.pin(p, one), nil, "again")
			want(v.pin(p, other), ErrContradiction, "another")
			want(v.pin(p, one), nil, "as it was")
			if v.replace == nil {
				return
			}
			want(v.replace(p, one), nil, "replaced by the same")
			want(v.replace(p, other), nil, "replaced")
			want(v.pin(p, one), ErrContradiction, "what it meant before")
			want(v.pin(p, other), nil, "what it means now")
		})
	}
}

// TestMeant: what is remembered is found under its key, and under no other.
func TestMeant(t *testing.T) {
	p := newPins(t)
	ctx, bus, room := t.Context(), crypto.ID{1}, crypto.ID{2}
	if met, err := p.Servers.Buses(ctx); err != nil || len(met) != 0 {
		t.Errorf("buses that were met: %v, %v", met, err)
	}
	if err := errors.Join(p.Servers.Pin(ctx, "nats://a", bus), p.Servers.Pin(ctx, "nats://b", bus), p.Subjects.Pin(ctx, bus, "ops", room)); err != nil {
		t.Fatal(err)
	}
	if met, err := p.Servers.Buses(ctx); err != nil || !slices.Equal(met, []crypto.ID{bus}) {
		t.Errorf("buses that were met: %v, %v", met, err)
	}
	for address, want := range map[string]crypto.ID{"nats://a": bus, "nats://b": bus, "nats://c": {}} {
		if got, err := p.Servers.Bus(ctx, address); err != nil || got != want {
			t.Errorf("at %s is %v, %v", address, got, err)
		}
	}
	if got, err := p.Subjects.Room(ctx, bus, "ops"); err != nil || got != room {
		t.Errorf("ops means %v, %v", got, err)
	}
	if got, err := p.Subjects.Room(ctx, crypto.ID{8}, "ops"); err != nil || !got.IsZero() {
		t.Errorf("on another bus it means %v, %v", got, err)
	}
}

// TestSeveralServers: a list of servers is of the bus that was met at one of them, and of none when several were met there;
// what is pinned or forgotten of a list is so of each.
func TestSeveralServers(t *testing.T) {
	p := newPins(t)
	ctx, one, other := t.Context(), crypto.ID{1}, crypto.ID{2}
	at := func(address string, want crypto.ID) {
		t.Helper()
		if got, err := p.Servers.Bus(ctx, address); err != nil || got != want {
			t.Errorf("at %s is %v, %v, want %v", address, got, err, want)
		}
	}
	if err := errors.Join(p.Servers.Pin(ctx, "nats://a:1", one), p.Servers.Pin(ctx, "nats://c:3", other)); err != nil {
		t.Fatal(err)
	}
	at("tls://b:2, A:01", one)
	at("nats://b:2", crypto.ID{})
	if err := p.Servers.Pin(ctx, "nats://b:2,nats://a:1", other); !errors.Is(err, ErrContradiction) {
		t.Errorf("a list with a server of another bus: %v", err)
	}
	if err := p.Servers.Pin(ctx, "nats://b:2,nats://a:1", one); err != nil {
		t.Error(err)
	}
	at("nats://b:2", one)
	for _, err := range []error{func() error { _, err := p.Servers.Bus(ctx, "a:1,b:2,c:3"); return err }(), p.Servers.Pin(ctx, "a:1,b:2,c:3", one)} {
		if several := new(SeveralBuses); !errors.As(err, &several) || !errors.Is(err, ErrContradiction) || several.At2 != "nats://c:3" || several.Bus2 != other {
			t.Errorf("servers of two buses: %v", err)
		}
	}
	at("nats://c:3", other)
	if err := p.Servers.Forget(ctx, "nats://b:2,nats://a:1"); err != nil {
		t.Error(err)
	}
	at("nats://a:1", crypto.ID{})
	at("nats://b:2", crypto.ID{})
	at("a:1,b:2,c:3", other)
}

// TestOldSpelling: what was pinned for a server in another spelling than it is looked up by now is found by that, and forgotten.
func TestOldSpelling(t *testing.T) {
	p := newPins(t)
	ctx, bus := t.Context(), crypto.ID{1}
	const old = "tls://h:4222/"
	if err := p.Servers.meanings.replace(ctx, bus[:], old); err != nil {
		t.Fatal(err)
	}
	at := func(address string, want crypto.ID) {
		t.Helper()
		if got, err := p.Servers.Bus(ctx, address); err != nil || got != want {
			t.Errorf("at %s is %v, %v, want %v", address, got, err, want)
		}
	}
	at(old, bus)
	if err := p.Servers.Pin(ctx, old, crypto.ID{2}); !errors.Is(err, ErrContradiction) {
		t.Errorf("another bus is pinned there: %v", err)
	}
	if err := p.Servers.Pin(ctx, old, bus); err != nil {
		t.Error(err)
	}
	at("nats://h:4222", bus)
	if err := p.Servers.Forget(ctx, old); err != nil {
		t.Error(err)
	}
	at(old, crypto.ID{})
	at("nats://h:4222", crypto.ID{})
}

// TestSettings: a setting is what it was set to last.
func TestSettings(t *testing.T) {
	p := newPins(t)
	for _, want := range []string{"", "1", "2"} {
		if want != "" {
			if err := p.Settings.Set(t.Context(), "s", want); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := p.Settings.Get(t.Context(), "s"); got != want || err != nil {
			t.Errorf("it is %q, %v, want %q", got, err, want)
		}
	}
}
