package pins

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/servers"
	"github.com/unibus/unibus/internal/store"
)

// TestBusNames: what can be the name of a bus, and what is refused.
func TestBusNames(t *testing.T) {
	for _, name := range []string{"a", "work", "Work_2.home-x", "127.0.0.1", "_", ".", "7", strings.Repeat("x", 64), strings.Repeat("a", 31)} {
		if err := CheckBusName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", "-", "-x", "a b", "a/b", "a\nb", "a\n", "\x00", "*", "a*", "wоrk" /* with a Cyrillic o */, "ｗork", "é", "a\u200b", "a:1", "a@b", "w'; DROP TABLE settings; --", `w"`, strings.Repeat("x", 65),
		strings.Repeat("a", 32), strings.Repeat("B", 32), "abcdefghijklmnopqrstuvwxyz234567", " abcdefghijklmnopqrstuvwxyz234567",
	} {
		if err := CheckBusName(name); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestNameOf: what a bus is called that nobody gave a name. Whatever its address is, that can be a name.
func TestNameOf(t *testing.T) {
	for servers, want := range map[string]string{
		"nats://bus.example.org:4222": "bus.example.org", "tls://n1:4222,tls://n2:4222": "n1", "n1:4222": "n1", "n1": "n1",
		"nats://127.0.0.1:4222": Local, "nats://127.1.2.3:1": Local, "nats://[::1]:4222": Local, "nats://LocalHost:1": Local, "10.0.0.1:4222": "10.0.0.1",
		"nats://[2001:db8::1]:4222": "2001-db8--1", "nats://[fe80::1%25eth0]:4222": "fe80--1-eth0", "nats://bücher.example:1": "b-cher.example",
		"nats://--:1": "bus", "nats://…": "bus", "": "bus", "nats://:4222": "bus", "nats://%zz:1": "bus",
		"nats://" + strings.Repeat("a", 32) + ":1": "bus", "nats://" + strings.Repeat("x", 80) + ":1": strings.Repeat("x", 59),
	} {
		if got := nameOf(servers); got != want || CheckBusName(got) != nil {
			t.Errorf("%s: %s, not %s", servers, got, want)
		}
	}
}

// playBuses does to a list what steps say, and returns what becomes of it: "work=S1:1* home=S2:2", by name, with the server,
// the bus there and a star at the one in use. Servers are S and a number. Steps are
//
//	met S1 1       the bus 1 is met at a server (0: it is forgotten)
//	join S1 [as]   it is joined
//	known S1       it is known to who runs it, or refuses to let in
//	old S1         an earlier build has joined it
//	use, rm NAME; mv NAME NEW
func playBuses(t *testing.T, steps string) string {
	t.Helper()
	l := &busList{servers: map[string]string{}, ids: map[string]crypto.ID{}}
	var failed []string
	for step := range strings.SplitSeq(steps, "; ") {
		f := append(strings.Fields(step), "")
		var err error
		switch f[0] {
		case "met":
			l.ids[servers.Keys(f[1])[0]] = crypto.ID{f[2][0] - '0'}
		case "join":
			_, err = l.join(f[1], f[2], "host", UseIt)
		case "known":
			_, err = l.join(f[1], f[2], "local", UseIfAlone)
		case "old":
			l.inUse = f[1]
		case "use":
			l.inUse = l.servers[f[1]]
		case "rm":
			l.remove(f[1])
		case "mv":
			err = l.rename(f[1], f[2])
		default:
			t.Fatalf("no such step: %s", step)
		}
		l.adopt()
		if errors.Is(err, store.ErrExists) {
			failed = append(failed, "! taken")
		}
	}
	out := []string{}
	for _, b := range l.all() {
		star := ""
		if b.InUse {
			star = "*"
		}
		out = append(out, fmt.Sprintf("%s=%s:%d%s", b.Name, b.Server, b.ID[0], star))
	}
	return strings.Join(append(out, failed...), " ")
}

// TestBusList: what names lead to, and which bus is in use.
func TestBusList(t *testing.T) {
	const two = "met S1 1; met S2 2; join S1 work; join S2 home"
	for _, c := range []struct{ steps, want string }{
		// The one joined last is in use.
		{"met S1 1; join S1", "host=S1:1*"},
		// Of a list it is the one that was met at any of its servers.
		{"met S1 1; join S1,S9", "host=S1,S9:1*"},
		{"met S9 1; join S1,S9", "host=S1,S9:1*"},
		{two, "home=S2:2* work=S1:1"},
		{two + "; join S1", "home=S2:2 work=S1:1*"},
		{"met S1 1; met S2 2; met S3 3; join S1; join S2; join S3", "host=S1:1 host-2=S2:2 host-3=S3:3*"},
		{two + "; use work", "home=S2:2 work=S1:1*"},
		// A bus that is met elsewhere is at the new address, and keeps its name unless another is asked for.
		{two + "; met S3 1; join S3", "home=S2:2 work=S3:1*"},
		{two + "; met S3 1; join S3 office", "home=S2:2 office=S3:1*"},
		{two + "; join S1 office", "home=S2:2 office=S1:1*"},
		{two + "; met S3 1; known S3", "home=S2:2* work=S3:1"},
		{two + "; use work; met S3 1; known S3", "home=S2:2 work=S3:1*"},
		// A name is of one bus.
		{two + "; join S1 home", "home=S2:2* work=S1:1 ! taken"},
		{two + "; met S3 3; join S3 home", "home=S2:2* work=S1:1 ! taken"},
		{two + "; mv work home", "home=S2:2* work=S1:1 ! taken"},
		{two + "; mv home den", "den=S2:2* work=S1:1"},
		{two + "; mv home home", "home=S2:2* work=S1:1"},
		{two + "; mv home den; join S1 home", "den=S2:2 home=S1:1*"},
		// Which one is in use is not guessed.
		{two + "; rm home", "work=S1:1"},
		{two + "; rm work", "home=S2:2*"},
		{two + "; rm home; met S1 1; known S1", "work=S1:1"},
		{two + "; rm home; met S3 3; known S3", "local=S3:3 work=S1:1"},
		{"met S1 1; join S1; rm host", ""},
		{"met S1 1; join S1; rm host; met S2 2; known S2", "local=S2:2*"},
		// Who refuses, or is run here, does not take the place of the one in use.
		{"met S1 1; known S1", "local=S1:1*"},
		{"met S1 1; join S1; met S2 2; known S2", "host=S1:1* local=S2:2"},
		// What was forgotten is met again at the same address, or known by a new name at another.
		{two + "; met S1 0", "home=S2:2* work=S1:0"},
		{two + "; met S1 0; met S1 3; join S1", "home=S2:2 work=S1:3*"},
		{two + "; met S1 0; met S3 3; join S3", "home=S2:2 host=S3:3* work=S1:0"},
		{two + "; met S1 0; join S1 home", "home=S2:2* work=S1:0 ! taken"},
		// Builds that know one bus alone: theirs is in use, under the name of its host.
		{"met S1 1; old S1", "S1=S1:1*"},
		{"met S1 1; old S1; met S2 2; join S2", "S1=S1:1 host=S2:2*"},
		{two + "; old S1", "home=S2:2 work=S1:1*"},
		{two + "; met S3 3; old S3", "S3=S3:3* home=S2:2 work=S1:1"},
		{"met S1 1; old S1; mv S1 work", "work=S1:1*"},
		{"met S1 1; old S1; rm S1", ""},
	} {
		if got := playBuses(t, c.steps); got != c.want {
			t.Errorf("%s\n\t> %s\n\tinstead of %s", c.steps, got, c.want)
		}
	}
}

// TestFindBus: a bus is found by its name and by its id, at the address that is in use.
func TestFindBus(t *testing.T) {
	one, two := crypto.ID{1}, crypto.ID{2}
	buses := []Bus{{Name: "a", Server: "S1", ID: one}, {Name: "b", Server: "S2", ID: two}, {Name: "c", Server: "S3", ID: two, InUse: true}, {Name: "d", Server: "S4"}}
	for which, want := range map[string]string{
		"a": "a", "d": "d", one.String(): "a", strings.ToUpper(two.String()): "c", "A": "", "": "", "e": "", crypto.ID{}.String(): "", crypto.ID{3}.String(): "",
	} {
		if b, ok := FindBus(buses, which); b.Name != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", which, b.Name, ok)
		}
	}
}

// TestBusesKept: names are there for whoever opens the file next, and for builds that know one bus alone.
func TestBusesKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	must := func(b Bus, err error) Bus {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ids := map[string]crypto.ID{"nats://a:1": {1}, "nats://b:1": {2}}
	for server, id := range ids {
		if err := p.Servers.Pin(t.Context(), server, id); err != nil {
			t.Fatal(err)
		}
	}
	// What an earlier build has left.
	if err := p.Settings.Set(t.Context(), serverInUse, "nats://a:1"); err != nil {
		t.Fatal(err)
	}
	must(p.Buses.Join(t.Context(), "nats://b:1", "home", "", UseIt))
	must(p.Buses.Rename(t.Context(), "a", "work"))
	if b := must(p.Buses.Use(t.Context(), ids["nats://a:1"].String())); b.Name != "work" || !b.InUse {
		t.Errorf("%+v", b)
	}
	again := open(t, path)
	got, err := again.Buses.All(t.Context())
	want := []Bus{{"home", "nats://b:1", crypto.ID{2}, false}, {"work", "nats://a:1", crypto.ID{1}, true}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if server, err := again.Settings.Get(t.Context(), serverInUse); err != nil || server != "nats://a:1" {
		t.Errorf("an earlier build goes to %q, %v", server, err)
	}
	work := want[1]
	if err := again.Buses.Remove(t.Context(), Bus{Name: "work", Server: "nats://c:1"}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("another than was meant is removed: %v", err)
	}
	if err := again.Buses.Remove(t.Context(), work); err != nil {
		t.Fatal(err)
	}
	if err := p.Buses.Remove(t.Context(), work); !errors.Is(err, store.ErrConflict) {
		t.Errorf("it is removed twice: %v", err)
	}
	if got, err := p.Buses.All(t.Context()); err != nil || len(got) != 1 || got[0].InUse {
		t.Errorf("%+v, %v", got, err)
	}
	if at, err := p.Servers.Bus(t.Context(), "nats://a:1"); err != nil || at != ids["nats://a:1"] {
		t.Errorf("a name that goes takes %s with it, %v", at, err)
	}
}

// TestBusesRefused: a rule that is broken changes nothing.
func TestBusesRefused(t *testing.T) {
	p := newPins(t)
	for i, name := range []string{"a", "b"} {
		if err := p.Servers.Pin(t.Context(), "nats://"+name+":1", crypto.ID{byte(i + 1)}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Buses.Join(t.Context(), "nats://"+name+":1", "", "", UseIt); err != nil {
			t.Fatal(err)
		}
	}
	before, err := p.Buses.All(t.Context())
	if err != nil || len(before) != 2 {
		t.Fatalf("%+v, %v", before, err)
	}
	refused := func(what string, kind, err error) {
		t.Helper()
		if !errors.Is(err, kind) {
			t.Errorf("%s: %v, not %v", what, err, kind)
		}
		if after, err := p.Buses.All(t.Context()); err != nil || !slices.Equal(after, before) {
			t.Errorf("%s: %+v, %v", what, after, err)
		}
	}
	_, err = p.Buses.Join(t.Context(), "nats://a:1", "b", "", UseIt)
	refused("join under a name that is taken", store.ErrExists, err)
	_, err = p.Buses.Join(t.Context(), "nats://a:1", "no name", "", UseIt)
	refused("join under none", store.ErrInvalid, err)
	_, err = p.Buses.Rename(t.Context(), "a", "b")
	refused("rename to a name that is taken", store.ErrExists, err)
	_, err = p.Buses.Rename(t.Context(), "a", "-")
	refused("rename to none", store.ErrInvalid, err)
	_, err = p.Buses.Rename(t.Context(), "c", "d")
	refused("rename what is not known", store.ErrNotFound, err)
	_, err = p.Buses.Use(t.Context(), "c")
	refused("use what is not known", store.ErrNotFound, err)
	refused("a name that is taken", store.ErrExists, p.Buses.Free(t.Context(), "b", "nats://a:1", crypto.ID{1}))
	refused("a name of one's own", nil, p.Buses.Free(t.Context(), "b", "nats://c:1", crypto.ID{2}))
}

// TestBusesAtOnce: of processes that give names at the same time, one has a name, and none loses what another did.
func TestBusesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	open(t, path)
	const processes = 6
	errs := make([]error, processes)
	var all sync.WaitGroup
	for i := range processes {
		p := open(t, path)
		all.Go(func() {
			server := fmt.Sprintf("nats://10.0.0.%d:1", i)
			if err := p.Servers.Pin(t.Context(), server, crypto.ID{byte(i + 1)}); err != nil {
				t.Error(err)
			}
			if _, err := p.Buses.Join(t.Context(), server, fmt.Sprintf("own%d", i), "", UseIt); err != nil {
				t.Error(err)
			}
			_, errs[i] = p.Buses.Rename(t.Context(), fmt.Sprintf("own%d", i), "wanted")
		})
	}
	all.Wait()
	taken := 0
	for _, err := range errs {
		if errors.Is(err, store.ErrExists) {
			taken++
		} else if err != nil {
			t.Error(err)
		}
	}
	buses, err := open(t, path).Buses.All(t.Context())
	inUse := 0
	for _, b := range buses {
		if b.InUse {
			inUse++
		}
	}
	if err != nil || taken != processes-1 || len(buses) != processes || inUse != 1 {
		t.Errorf("%d refused, %+v, %v", taken, buses, err)
	}
	if _, ok := FindBus(buses, "wanted"); !ok {
		t.Error("nobody has the name")
	}
}

// TestBusesDamaged: a name that a disk has changed is found out.
func TestBusesDamaged(t *testing.T) {
	p := newPins(t)
	if _, err := p.Buses.Join(t.Context(), "nats://a:1", "work", "", UseIt); err != nil {
		t.Fatal(err)
	}
	if _, err := p.db.file.Exec(`DROP TRIGGER settings_updating; DROP TRIGGER settings_updated; UPDATE settings SET value = 'nats://evil:1' WHERE value = 'nats://a:1'`); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Buses.All(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("all: %v", err)
	}
	if _, err := p.Buses.Use(t.Context(), "work"); !errors.Is(err, ErrDamaged) {
		t.Errorf("use: %v", err)
	}
}
