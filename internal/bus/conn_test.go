package bus

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// TestGrant: a connection that can name more rooms connects anew for them, and others are made; rooms that have one are
// left alone, and those that were released are gained again.
func TestGrant(t *testing.T) {
	p := newPeered(t, crypto.ID{9})
	for _, g := range []struct {
		what          string
		rooms         []crypto.ID
		links, logins int
	}{
		{"named at the first login", []crypto.ID{{9}}, 1, 1},
		{"a further one", numbered(1, 1), 1, 2},
		{"again", numbered(1, 1), 1, 2},
		{"more than fit a login", numbered(1, 150), 2, 4},
		{"all of them again", numbered(1, 150), 2, 4},
	} {
		if err := p.conn.Grant(t.Context(), g.rooms...); err != nil {
			t.Fatalf("%s: %v", g.what, err)
		}
		n, last := p.door.logins()
		if links := len(p.conn.links.all()); links != g.links || n != g.logins {
			t.Errorf("%s: %d connections, %d logins", g.what, links, n)
		}
		if len(last) > roomsPerLink {
			t.Errorf("%s: a login names %d rooms", g.what, len(last))
		}
		for _, room := range g.rooms {
			if !p.conn.of(room).current().names(room) {
				t.Errorf("%s: no login that stands names %v", g.what, room)
			}
		}
	}
	room := numbered(1, 1)[0]
	p.conn.Release(room)
	p.conn.Release(crypto.ID{42}) // which has none
	if l := p.conn.of(room); l != p.conn.first || l.current().names(room) {
		t.Error("a room that was released has its rights still")
	}
	if err := p.conn.Grant(t.Context(), room); err != nil || !p.conn.of(room).current().names(room) {
		t.Errorf("after a release: %v", err)
	}
	if n, last := p.door.logins(); n != 5 || !names(last, []crypto.ID{room}) {
		t.Errorf("after a release: %d logins, the last for %d rooms", n, len(last))
	}
}

// TestGrantWhileLoginIsUnderWay: a login that left before a room came to its connection gives no rights in it. Who waits
// for them goes on only when a later one stands.
func TestGrantWhileLoginIsUnderWay(t *testing.T) {
	p := newPeered(t)
	release := p.door.holdAnswers()
	defer release()
	early, late := crypto.ID{2}, crypto.ID{3}
	p.door.forget()
	granted := make(chan error, 2)
	grant := func(room crypto.ID) {
		err := p.conn.Grant(t.Context(), room)
		if err == nil && !p.conn.of(room).current().names(room) {
			err = errors.New("it goes on without the rights")
		}
		granted <- err
	}
	go grant(early)
	<-p.door.asked // the login that names the first alone
	go grant(late)
	eventually(t, "second room", func() bool { return p.conn.first.free() == roomsPerLink-2 })
	release()
	for range 2 {
		if err := <-granted; err != nil {
			t.Error(err)
		}
	}
	if n, last := p.door.logins(); n != 3 || !names(last, []crypto.ID{early, late}) {
		t.Errorf("%d logins, the last names %v", n, last)
	}
}

// TestGrantGivesUp: rights are waited for until a context ends, or the connection does.
func TestGrantGivesUp(t *testing.T) {
	p := newPeered(t)
	ended, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	p.conn.links.placing <- struct{}{} // another gains rooms
	if err := p.conn.Grant(ended, crypto.ID{2}); !errors.Is(err, store.ErrUnavailable) || !strings.HasPrefix(err.Error(), "connect for rooms: ") {
		t.Errorf("behind another: %v", err)
	}
	<-p.conn.links.placing
	release := p.door.holdAnswers()
	p.door.forget()
	ctx, cancel := context.WithCancel(t.Context())
	granted := make(chan error)
	go func() { granted <- p.conn.Grant(ctx, crypto.ID{3}) }()
	<-p.door.asked
	cancel()
	if err := <-granted; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	go func() { granted <- p.conn.Grant(t.Context(), crypto.ID{4}) }()
	eventually(t, "second room", func() bool { return p.conn.first.free() == roomsPerLink-2 })
	p.door.members.Store(false)
	p.door.strangers.Store(true)
	release()
	if err := <-granted; !errors.Is(err, store.ErrDenied) {
		t.Errorf("barred: %v", err)
	}
	<-p.conn.Done()
	if err := p.conn.Grant(t.Context(), crypto.ID{5}); !errors.Is(err, store.ErrDenied) { // why it ended says more than that it did
		t.Errorf("after its end: %v", err)
	}
	if err := p.conn.Grant(t.Context(), numbered(1, 100)...); !errors.Is(err, store.ErrDenied) {
		t.Errorf("another connection after its end: %v", err)
	}
}

// TestClosed: who closed a connection is told so, by no error of the connection itself.
func TestClosed(t *testing.T) {
	p := newPeered(t)
	feed, err := p.conn.Subscribe(t.Context(), crypto.ID{2}, Stored(false), "")
	if err != nil {
		t.Fatal(err)
	}
	if p.conn.Inbox().IsZero() || !p.conn.IsConnected() || p.conn.MaxPayload() != 1<<20 || p.conn.NATS() != p.conn.first.nc || p.conn.Err() != nil {
		t.Errorf("a connection that stands: %v, %d bytes, %v", p.conn.IsConnected(), p.conn.MaxPayload(), p.conn.Err())
	}
	p.conn.Close()
	p.conn.Close()
	if err := p.conn.Err(); err != nil || p.conn.IsConnected() {
		t.Errorf("closed as %v", err)
	}
	for what, err := range map[string]error{
		"publish":   p.conn.Publish(crypto.ID{2}, nil).err,
		"store":     p.conn.Store(crypto.ID{2}, "id", nil).err,
		"flush":     p.conn.Flush(t.Context(), crypto.ID{2}),
		"subscribe": second(p.conn.Subscribe(t.Context(), crypto.ID{2}, Stored(true), "")),
		"watch":     second(p.conn.Watch(t.Context())),
		"next":      second(feed.Next(t.Context())),
		"standing":  second(feed.Standing(t.Context())),
	} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	feed.Close()
}

// second is the error that comes with a value.
func second[T any](_ T, err error) error { return err }

// TestRefused: what the server refuses, it tells apart from the publication, and until the next login.
func TestRefused(t *testing.T) {
	p := newPeered(t)
	room := crypto.ID{2}
	p.door.set(nil, func(_ crypto.Token, rights *jwt.Permissions) { rights.Pub.Deny.Add("unibus.r.>") })
	if err := p.conn.Grant(t.Context(), room); err != nil {
		t.Fatal(err)
	}
	if err := p.conn.Refused(room); err != nil {
		t.Errorf("before anything was published: %v", err)
	}
	if _, err := p.conn.Publish(room, []byte("frame")).Wait(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "refusal", func() bool { return p.conn.Refused(room) != nil })
	if err := p.conn.Refused(room); !errors.Is(err, store.ErrDenied) {
		t.Error(err)
	}
	other := dial(t, DialOptions{Servers: p.server.URL(), Identity: identity(t, 2), Rooms: []crypto.ID{room}})
	other.Publish(room, []byte("frame"))
	eventually(t, "refusal", func() bool { return other.Refused(room) != nil })
	if other.Close(); other.Err() != nil {
		t.Errorf("closed as %v, which was no reason", other.Err())
	}
	before := p.conn.first.current()
	p.breakOff()
	if err := p.conn.life.next(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	if err := p.conn.Refused(room); err != nil {
		t.Errorf("after another login: %v", err)
	}
}

// TestRegain: a room that is followed, and in which a login gave no rights, is asked for again by another; whoever follows
// it has what comes then.
func TestRegain(t *testing.T) {
	p := newPeered(t)
	room, other := crypto.ID{2}, crypto.ID{3}
	p.door.set(nil, func(_ crypto.Token, rights *jwt.Permissions) { rights.Sub.Deny.Add("unibus.r.>") })
	if err := p.conn.Grant(t.Context(), room, other); err != nil {
		t.Fatal(err)
	}
	var feeds []*Feed
	for _, r := range []crypto.ID{room, other} {
		feed, err := p.conn.Subscribe(t.Context(), r, Stored(false), "")
		if err != nil {
			t.Fatal(err)
		}
		feeds = append(feeds, feed)
	}
	p.door.set(nil, nil)
	before, _ := p.door.logins()
	eventually(t, "other login", func() bool { n, _ := p.door.logins(); return n > before })
	if err := p.conn.Grant(t.Context(), room, other); err != nil {
		t.Fatal(err)
	}
	if n, last := p.door.logins(); n != before+1 || !names(last, []crypto.ID{room, other}) {
		t.Errorf("%d logins instead of one, for %v", n-before, last)
	}
	for i, r := range []crypto.ID{room, other} {
		eventually(t, "frame", func() bool { // the subscription is made anew by the library, soon after the login
			p.conn.Publish(r, []byte("frame"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			f, err := feeds[i].Next(ctx)
			return err == nil && f.Sender == p.id.Key()
		})
	}
}

// TestRegainEnds: what would be regained is forgotten when the connection is closed.
func TestRegainEnds(t *testing.T) {
	p := newPeered(t)
	p.conn.regainer.add(crypto.ID{2})
	p.conn.regainer.add(crypto.ID{3})
	before, _ := p.door.logins()
	p.conn.Close()
	p.conn.regainer.add(crypto.ID{4})
	if n, _ := p.door.logins(); n != before || len(p.conn.regainer.take()) > 0 {
		t.Errorf("%d logins after the end", n-before)
	}
}

// TestWatch: notices are passed on, and nothing else; until who watches wants no more.
func TestWatch(t *testing.T) {
	p := newPeered(t)
	ctx, cancel := context.WithCancel(t.Context())
	notices, err := p.conn.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.conn.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"{", `{"log":"` + crypto.ID{7}.String() + `","seq":3}`, `{"seq":4}`} {
		if err := p.server.Links.Notify.Publish(NoticeSubject(p.id.Key()), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-notices; got != (store.Notice{Log: crypto.ID{7}, Seq: 3}) {
		t.Errorf("%+v", got)
	}
	cancel() // while one more waits
	for range notices {
	}
	if got := <-again; got.Seq != 3 {
		t.Errorf("%+v", got)
	}
	p.conn.Close()
	for range again {
	}
}

// TestDialFails: a login fails by its kind, and says where it went.
func TestDialFails(t *testing.T) {
	s, _ := startServer(t, serverOptions(t))
	o := DialOptions{Servers: s.URL(), Identity: identity(t, 1), Bus: crypto.ID{1}, Timeout: 5 * time.Second}
	if _, err := Dial(o); !errors.Is(err, ErrUnanswered) {
		t.Errorf("no service: %v", err)
	}
	d := openDoor(t, s.Links)
	d.members.Store(false)
	if _, err := Dial(o); !errors.Is(err, store.ErrDenied) || !strings.Contains(err.Error(), s.URL()) {
		t.Errorf("refused: %v", err)
	}
	s.Stop()
	o.Timeout = time.Second
	if _, err := Dial(o); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, ErrUnanswered) {
		t.Errorf("no server: %v", err)
	}
	o.Context = "none"
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	if _, err := Dial(o); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no context: %v", err)
	}
}

// TestFlushOverBreak: what a break of the connection ends is tried again, for as long as the context lasts.
func TestFlushOverBreak(t *testing.T) {
	p := newPeered(t)
	p.door.members.Store(false) // nor are strangers let in: it is tried again
	p.door.forget()
	p.breakOff()
	<-p.door.asked
	ended, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.conn.Flush(ended, crypto.ID{2}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("while it is broken: %v", err)
	}
	p.door.members.Store(true)
	if err := p.conn.Flush(t.Context(), crypto.ID{2}); err != nil {
		t.Error(err)
	}
	if p.conn.first.nc.Status() != nats.CONNECTED {
		t.Error("it flushed over nothing")
	}
}
