package unibus_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// straight is a store with a bus in it, without servers and messages, that clients go straight at.
type straight struct {
	*testing.T
	ctx     context.Context
	dir     string
	alice   *unibus.Client // its founder
	aliceID *unibus.Identity
	told    []string // to whoever connects
}

func newStraight(t *testing.T) *straight {
	t.Helper()
	s := &straight{T: t, ctx: t.Context(), dir: t.TempDir()}
	var err error
	s.aliceID, err = unibus.NewIdentity()
	s.must(err)
	s.must(unibus.Found(s.ctx, s.options(s.aliceID, "alice")))
	s.alice = s.connect(s.aliceID, "alice")
	return s
}

func (s *straight) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// fails fails the test unless err is of a kind, says something and has a remedy.
func (s *straight) fails(err, kind error, says string, help remedy.Kind) {
	s.Helper()
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), says) || remedy.Of(err).Kind != help {
		s.Errorf("%v, with the remedy %d: want %v, which says %q, with %d", err, remedy.Of(err).Kind, kind, says, help)
	}
}

// options go straight at the store, with a state directory of its own for each name.
func (s *straight) options(id *unibus.Identity, state string) unibus.Options {
	return unibus.Options{
		Identity: id, StateDir: filepath.Join(s.dir, state), Name: "alice", Store: "sqlite:" + s.path(),
		Notice: func(text string) { s.told = append(s.told, text) },
	}
}

// path is the store's file.
func (s *straight) path() string { return filepath.Join(s.dir, "store", "unibus.db") }

func (s *straight) connect(id *unibus.Identity, state string) *unibus.Client {
	s.Helper()
	c, err := unibus.Connect(s.ctx, s.options(id, state))
	s.must(err)
	s.Cleanup(func() { c.Close() })
	return c
}

// user is someone new, with a card.
func (s *straight) user(name string) (*unibus.Identity, unibus.NewUser) {
	s.Helper()
	id, err := unibus.NewIdentity()
	s.must(err)
	card, err := id.Card()
	s.must(err)
	return id, unibus.NewUser{Key: id.Key(), Name: name, Card: card}
}

// add allows someone new.
func (s *straight) add(name string) *unibus.Identity {
	s.Helper()
	id, user := s.user(name)
	s.must(s.alice.AddUsers(s.ctx, user))
	return id
}

// room makes a room of alice's.
func (s *straight) room(subject string) *unibus.Room {
	s.Helper()
	r, err := s.alice.CreateRoom(s.ctx, subject, unibus.DefaultPolicy())
	s.must(err)
	return r
}

// exec changes what the store keeps for finding things, as somebody might who has its file.
func (s *straight) exec(query string, args ...any) {
	s.Helper()
	db, err := sql.Open("sqlite", "file:"+s.path()+"?_pragma=busy_timeout(5000)")
	s.must(err)
	defer db.Close()
	_, err = db.ExecContext(s.ctx, query, args...)
	s.must(err)
}

// TestFound: a bus is founded once, where a store is named, and the founder knows it again.
func TestFound(t *testing.T) {
	s := newStraight(t)
	if u, err := s.alice.User(s.ctx, "alice"); err != nil || u.Key != s.aliceID.Key() || u.Role != unibus.RoleAdmin {
		t.Errorf("its founder is %+v, %v", u, err)
	}
	if len(s.told) == 0 || !strings.Contains(s.told[0], "founded the bus "+s.alice.Bus().String()) {
		t.Errorf("told %q", s.told)
	}
	before := s.alice.Bus()
	s.must(unibus.Found(s.ctx, s.options(s.aliceID, "again"))) // it is there
	if again := s.connect(s.aliceID, "again").Bus(); again != before {
		t.Errorf("another bus: %s, not %s", again, before)
	}
	s.exec("DELETE FROM bus") // what is left of it is not to be built upon, by who knows it or not
	s.fails(unibus.Found(s.ctx, s.options(s.aliceID, "alice")), unibus.ErrOtherBus, "it was the bus "+before.String()+" and there is none now", remedy.ForgetBus)
	s.fails(unibus.Found(s.ctx, s.options(s.aliceID, "new")), unibus.ErrIntegrity, "there are users of an earlier bus (alice)", remedy.None)
	_, err := unibus.Connect(s.ctx, s.options(s.aliceID, "alice"))
	s.fails(err, unibus.ErrOtherBus, "it was the bus "+before.String()+" and there is none now", remedy.ForgetBus)
	_, err = unibus.Connect(s.ctx, s.options(s.aliceID, "new"))
	s.fails(err, unibus.ErrIntegrity, "there are users of an earlier bus (alice)", remedy.None)
	for _, file := range []string{s.path(), filepath.Join(filepath.Dir(s.path()), "heads."+filepath.Base(s.path()))} {
		s.must(os.Remove(file))
	}
	s.fails(unibus.Found(s.ctx, s.options(s.aliceID, "alice")), unibus.ErrOtherBus, "there is none now", remedy.ForgetBus)
	_, err = unibus.Connect(s.ctx, s.options(s.aliceID, "alice"))
	s.fails(err, unibus.ErrOtherBus, "there is none now", remedy.ForgetBus)
	_, err = unibus.Connect(s.ctx, s.options(s.aliceID, "new"))
	s.fails(err, unibus.ErrNoBus, "", remedy.None)
	if _, err := os.Stat(s.path()); err == nil {
		t.Error("a store was made")
	}
	o := s.options(s.aliceID, "nowhere")
	o.Store = ""
	s.fails(unibus.Found(s.ctx, o), unibus.ErrInvalid, "only straight at a store", remedy.None)
	if name := unibus.DefaultName(); name == "" || strings.Contains(name, " ") {
		t.Errorf("the default name is %q", name)
	}
}

// TestNoStore: reading makes no store, what is no store is refused, and an identity without a place to keep what it
// verified gets nowhere.
func TestNoStore(t *testing.T) {
	s := newStraight(t)
	o := s.options(s.aliceID, "none")
	o.Store = "sqlite:" + filepath.Join(s.dir, "none", "unibus.db")
	_, err := unibus.Connect(s.ctx, o)
	s.fails(err, unibus.ErrNotFound, "", remedy.None)
	if !errors.Is(err, unibus.ErrNoBus) {
		t.Errorf("%v is not of a store without a bus", err)
	}
	if found, _ := filepath.Glob(filepath.Join(s.dir, "none", "unibus*")); found != nil { // the pattern is well formed
		t.Errorf("reading made %q", found)
	}
	o.Store = "mysql:there"
	_, err = unibus.Connect(s.ctx, o)
	s.fails(err, unibus.ErrInvalid, "neither sqlite:PATH nor", remedy.NameStore)
	_, err = unibus.Connect(s.ctx, unibus.Options{Identity: s.aliceID})
	s.fails(err, unibus.ErrInvalid, "a state directory", remedy.None)
	_, err = unibus.Connect(s.ctx, unibus.Options{StateDir: s.dir})
	s.fails(err, unibus.ErrInvalid, "an identity", remedy.None)
	o = s.options(s.aliceID, "none")
	o.Store, o.Server = "", "not a url://"
	_, err = unibus.Connect(s.ctx, o)
	s.fails(err, unibus.ErrInvalid, "", remedy.None)
}

// TestStateOfAnother: what another identity has verified is refused, whoever put it in the place of one's own.
func TestStateOfAnother(t *testing.T) {
	s := newStraight(t)
	bobID := s.add("bob")
	s.must(s.alice.Close())
	alices, bobs := s.options(s.aliceID, "alice"), s.options(bobID, "bob")
	pinned, err := os.ReadFile(alices.StateFile())
	s.must(err)
	s.must(os.MkdirAll(bobs.StateDir, 0o700))
	s.must(os.WriteFile(bobs.StateFile(), pinned, 0o600))
	_, err = unibus.Connect(s.ctx, bobs)
	s.fails(err, unibus.ErrStateDamaged, "that of another identity", remedy.None)
}

// TestWithoutServer: straight at a store that is a file there are no messages.
func TestWithoutServer(t *testing.T) {
	s := newStraight(t)
	r := s.room("room")
	_, err := r.Publisher(s.ctx)
	s.fails(err, unibus.ErrInvalid, "messages need a server", remedy.UseServer)
	s.fails(r.Publish(s.ctx, []byte("x")), unibus.ErrInvalid, "", remedy.UseServer)
	s.fails(r.PublishOnce(s.ctx, []byte("x")), unibus.ErrInvalid, "", remedy.UseServer)
	_, err = r.Subscribe(s.ctx, unibus.SubscribeOptions{})
	s.fails(err, unibus.ErrInvalid, "messages need a server", remedy.UseServer)
	s.fails(r.Accept(s.ctx, unibus.AcceptPlace(1)), unibus.ErrInvalid, "messages need a server", remedy.UseServer)
	if v, err := r.Verify(s.ctx, nil); err != nil || !v.LogOnly || v.Entries != 1 {
		t.Errorf("verified are %+v, %v", v, err)
	}
	if skew := s.alice.ClockSkew(); skew != 0 {
		t.Errorf("nobody else's clock is %v ahead", skew)
	}
}

// TestAnotherBus: where one bus was met, another is refused, and so is one that is not the one insisted on.
func TestAnotherBus(t *testing.T) {
	s, other := newStraight(t), newStraight(t)
	o := s.options(s.aliceID, "alice")
	o.Bus = other.alice.Bus().String()
	_, err := unibus.Connect(s.ctx, o)
	s.fails(err, unibus.ErrIntegrity, "it is the bus "+s.alice.Bus().String(), remedy.CompareBus)
	o.Bus = "rubbish"
	_, err = unibus.Connect(s.ctx, o)
	s.fails(err, unibus.ErrNotFound, "rubbish", remedy.ListBuses)
	o.Bus = "no name"
	_, err = unibus.Connect(s.ctx, o)
	s.fails(err, unibus.ErrInvalid, "no name", remedy.None)

	s.must(s.alice.Close())
	s.must(other.alice.Close())
	s.must(swap(filepath.Dir(s.path()), filepath.Dir(other.path())))
	_, err = unibus.Connect(s.ctx, s.options(s.aliceID, "alice"))
	s.fails(err, unibus.ErrOtherBus, "it was the bus", remedy.ForgetBus)
	if !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("%v is no finding", err)
	}
}
