package unibus_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/service"
)

// followed is a log that is read in a goroutine.
type followed struct {
	*world
	entries chan unibus.LogEntry
	ended   chan error // nil: without an error
}

// follow reads a log until ctx ends, or something is wrong.
func (w *world) follow(ctx context.Context, c *unibus.Client, r *unibus.Room) *followed {
	f := &followed{w, make(chan unibus.LogEntry, 100), make(chan error, 1)}
	log := unibus.FollowBusLog(ctx, c)
	if r != nil {
		log = unibus.FollowLog(ctx, r)
	}
	go func() { // ends with the log, which the test ends
		for list, err := range log {
			if err != nil {
				f.ended <- err
				return
			}
			for _, e := range list {
				f.entries <- e
			}
		}
		f.ended <- nil
	}()
	return f
}

// sees waits for entries that do what they are said to do.
func (f *followed) sees(ops ...string) {
	f.Helper()
	for _, op := range ops {
		select {
		case e := <-f.entries:
			if e.Op != op {
				f.Fatalf("%+v, want %s", e, op)
			}
		case err := <-f.ended:
			f.Fatalf("it ended before %s: %v", op, err)
		case <-f.ctx.Done():
			f.Fatalf("there is no %s", op)
		}
	}
}

// ends waits for the end.
func (f *followed) ends(kind error) {
	f.Helper()
	select {
	case err := <-f.ended:
		if !errors.Is(err, kind) {
			f.Errorf("it ended with %v, want %v", err, kind)
		}
	case e := <-f.entries:
		f.Errorf("it goes on with %+v", e)
	case <-f.ctx.Done():
		f.Error("it does not end")
	}
}

// TestFollowLog: a log is given from its first entry on, and then what is added to it, by whoever, once each; it ends without
// an error when it is told to, and with why when the bus lets its reader in no more.
func TestFollowLog(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("ops", unibus.DefaultPolicy())
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	bus, room, hers := w.follow(ctx, w.bob, nil), w.follow(w.ctx, w.bob, bobs), w.follow(ctx, w.alice, alices)
	bus.sees("found", "add")
	room.sees("create", "invite")
	hers.sees("create", "invite")
	w.must(alices.Rekey(w.ctx))
	room.sees("rekey")
	hers.sees("rekey")
	w.add("carol")
	bus.sees("add")
	cancel()
	bus.ends(nil)
	hers.ends(nil)
	w.must(w.alice.RevokeUsers(w.ctx, "", w.bob.Key()))
	room.ends(unibus.ErrDenied)
}

// restart stops the server, and starts it where it was.
func (w *world) restart() {
	w.Helper()
	at := strings.TrimPrefix(w.node.URL(), "nats://")
	w.node.Stop()
	node, err := service.StartNode(w.ctx, service.NodeOptions{
		Listen: at, Dir: filepath.Join(w.dir, "data"), Identity: w.aliceID, Founder: "alice", Log: slog.New(slog.DiscardHandler),
	})
	w.must(err)
	w.node = node
}

// hasty is a client of alice's that waits for nobody, with her room.
func (w *world) hasty(subject string) (*unibus.Client, *unibus.Room) {
	w.Helper()
	c, err := unibus.Connect(w.ctx, unibus.Options{Identity: w.aliceID, StateDir: filepath.Join(w.dir, "hasty"), Server: w.node.URL(), Timeout: time.Second})
	w.must(err)
	w.Cleanup(func() { c.Close() })
	r, err := c.Room(w.ctx, subject)
	w.must(err)
	return c, r
}

// TestFollowLogAgain: what is added while the servers are away is given when they are back.
func TestFollowLogAgain(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("ops", unibus.DefaultPolicy())
	room, bus := w.follow(w.ctx, w.bob, bobs), w.follow(w.ctx, w.bob, nil)
	room.sees("create", "invite")
	bus.sees("found", "add")
	w.restart()
	w.must(alices.Rekey(w.ctx))
	room.sees("rekey")
	w.add("carol")
	bus.sees("add")
	w.must(w.bob.Close())
	room.ends(unibus.ErrClosed)
	bus.ends(unibus.ErrClosed)
}

// TestFollowLogOfNobody: a log that cannot be read to begin with is not waited for.
func TestFollowLogOfNobody(t *testing.T) {
	w := newWorld(t)
	w.room("ops", unibus.DefaultPolicy())
	c, r := w.hasty("ops")
	w.node.Stop()
	w.follow(w.ctx, c, r).ends(unibus.ErrUnavailable)
}

// TestStored: how much a room has stored, and by whom, is told without reading it; of who was removed, too.
func TestStored(t *testing.T) {
	w := newWorld(t)
	began := time.Now().Add(-time.Minute)
	alices, bobs := w.room("ops", unibus.DefaultPolicy())
	empty, err := unibus.StoredIn(w.ctx, bobs)
	w.must(err)
	if empty == nil || empty.Frames != 0 || empty.First != nil || empty.Last != nil || empty.Writers == nil || len(empty.Writers) != 0 {
		t.Errorf("of nothing it is %+v", empty)
	}
	w.send(alices, "one", "two", "three") // and that there is no more, as all who write do
	w.send(bobs, "four")
	w.must(alices.Kick(w.ctx, w.bob.Key()))
	s, err := unibus.StoredIn(w.ctx, alices)
	w.must(err)
	if s.Frames != 6 || s.Bytes == 0 || s.First.Before(began) || s.Last.Before(*s.First) || len(s.Writers) != 2 {
		t.Fatalf("it is %+v", s)
	}
	for _, writer := range s.Writers {
		want := unibus.StoredWriter{Key: w.alice.Key(), Name: "alice", Role: unibus.RoleOwner, Frames: 4, Last: writer.Last}
		if writer.Key == w.bob.Key() {
			want = unibus.StoredWriter{Key: w.bob.Key(), Name: "bob", Frames: 2, Last: s.Last}
		}
		if writer.Last == nil || *writer.Last != *want.Last {
			t.Errorf("%s wrote last at %v, want %v", writer.Name, writer.Last, want.Last)
		}
		if want.Last = writer.Last; writer != want {
			t.Errorf("it is %+v, want %+v", writer, want)
		}
	}
	// Whoever is no member any more is told nothing of it.
	if s, err := unibus.StoredIn(w.ctx, bobs); s != nil || err != nil {
		t.Errorf("whoever was kicked is told %+v, %v", s, err)
	}
	live, err := w.alice.CreateRoom(w.ctx, "live", unibus.Policy{Encryption: "e2e", History: "joined"})
	w.must(err)
	if s, err := unibus.StoredIn(w.ctx, live); s != nil || err != nil {
		t.Errorf("of a room that stores nothing it is %+v, %v", s, err)
	}
	_, hasty := w.hasty("ops")
	w.node.Stop()
	if _, err := unibus.StoredIn(w.ctx, hasty); !errors.Is(err, unibus.ErrUnavailable) {
		t.Errorf("without a server: %v", err)
	}
}

// TestUserByPrefix: the beginning of a key names who has it, from eight characters on, unless another's begins so.
func TestUserByPrefix(t *testing.T) {
	w := newWorld(t)
	s := &straight{T: t}
	// Another key with the same first bytes; of all that these can be followed by half are keys.
	raw, twin := [32]byte(w.bob.Key()), unibus.PublicKey{}
	for last, err := byte(0), error(errors.ErrUnsupported); err != nil; last++ {
		if raw[31]++; unibus.PublicKey(raw) != w.bob.Key() {
			twin, err = crypto.NewPublicKey(raw[:])
		}
	}
	text := w.bob.Key().String()
	for _, name := range []string{text[:8], strings.ToLower(text[:8]), text[:50]} {
		u, err := w.alice.User(w.ctx, name)
		w.must(err)
		if u.Key != w.bob.Key() {
			t.Errorf("%s is %s", name, u.Name)
		}
	}
	for _, name := range []string{text[:7], text[1:12], "UAAAAAAAAAAAAA"} {
		_, err := w.alice.User(w.ctx, name)
		s.fails(err, unibus.ErrNotFound, name, remedy.ListUsers)
	}
	w.must(w.alice.AddUsers(w.ctx, unibus.NewUser{Key: twin, Name: "twin"}))
	_, err := w.alice.User(w.ctx, text[:8])
	s.fails(err, unibus.ErrInvalid, "the keys of 2 users begin so", remedy.None)
	// Nor does a name that looks like the beginning of somebody's key hide who has that.
	w.must(w.alice.AddUsers(w.ctx, unibus.NewUser{Key: w.identity().Key(), Name: w.alice.Key().String()[:10]}))
	_, err = w.alice.User(w.ctx, w.alice.Key().String()[:10])
	s.fails(err, unibus.ErrInvalid, "the name of one user", remedy.None)
}
