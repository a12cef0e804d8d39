package attack

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/service"
)

// way is a store, in the attackers' hands, and how people take to it. Where they go to it straight there is no
// service at all, and at a file nothing that carries messages either.
type way struct {
	name     string
	straight bool // no service
	carries  bool // messages
}

// ways are all there are. The store behind the service is a file.
var ways = []way{{"sqlite", true, false}, {"jetstream", true, true}, {"remote", false, true}}

// carrying are those by which messages go.
var carrying = ways[1:]

// site is a bus in the attackers' hands: its store, and its servers where there are any.
type site struct {
	*world
	way
	dir    string // of the store and the servers
	listen string // where NATS clients connect
	url    string
	server *bus.Server // when there is no service
}

// scene is people at a site. alice founded it.
type scene struct {
	site
	home  string // of everyone's state directories
	alice *person
	bob   *person
}

// person is someone on the bus with a state directory of their own.
type person struct {
	*unibus.Client
	id    *unibus.Identity
	state string
}

// over runs a test in a scene with each of some stores, beside one another.
func over(t *testing.T, ways []way, f func(s *scene)) {
	t.Helper()
	t.Parallel()
	for _, by := range ways {
		t.Run(by.name, func(t *testing.T) { f(newScene(t, by)) })
	}
}

// served is a scene for what only the wire can do, or whoever stores messages.
func served(t *testing.T) *scene { t.Helper(); return newScene(t, ways[2]) }

func newScene(t *testing.T, by way) *scene {
	t.Helper()
	s := &scene{site: site{world: emptyWorld(t, by.name), way: by, dir: filepath.Join(t.TempDir(), "data"), listen: "127.0.0.1:0"}, home: t.TempDir()}
	s.start()
	t.Cleanup(func() { s.stop() })
	s.alice = s.open(&person{id: s.aliceID, state: "alice"})
	s.bob = s.join("bob")
	return s
}

// part runs a subtest in the same scene. Servers that it starts anew are those of the next, too.
func (s *scene) part(name string, f func(s *scene)) {
	whole := s.T
	defer func() { s.T = whole }()
	whole.Run(name, func(t *testing.T) {
		s.T = t
		f(s)
	})
}

func (s *site) file() string { return filepath.Join(s.dir, service.SQLiteFile) }
func (s *site) keys() string { return service.KeysFile(s.dir) }

// start starts what there is of servers, anew on what is stored.
func (s *site) start() {
	s.Helper()
	s.must(os.MkdirAll(s.dir, 0o700))
	s.must(s.launch(slog.DiscardHandler))
	if s.carries {
		var err error
		s.js, err = natsjs.New(s.store)
		s.must(err)
	}
}

// launch starts servers that tell what they have to say.
func (s *site) launch(tell slog.Handler) (err error) {
	switch {
	case s.straight && s.carries:
		keys, _, err := bus.LoadOrMakeKeys(s.keys())
		if err != nil {
			return err
		}
		s.server, err = bus.StartServer(s.ctx, bus.ServerOptions{
			Listen: s.listen, Dir: filepath.Join(s.dir, "jetstream"), Keys: keys, Log: slog.New(tell),
		})
		if err != nil {
			return err
		}
		s.url, s.store = s.server.URL(), s.server.Links.Store
	case !s.straight:
		s.node, err = service.StartNode(s.ctx, service.NodeOptions{
			Listen: s.listen, Dir: s.dir, Identity: s.aliceID, Founder: "alice", Log: slog.New(tell),
		})
		if err != nil {
			return err
		}
		s.url, s.store = s.node.URL(), s.node.Links().Store
	}
	return nil
}

func (s *site) stop() {
	switch {
	case s.node != nil:
		s.node.Stop()
	case s.server != nil:
		s.server.Stop()
	}
}

// connect tries to connect someone, who knows what is in their state directory.
func (s *scene) connect(p *person) (*person, error) {
	s.Helper()
	o := unibus.Options{Identity: p.id, StateDir: filepath.Join(s.home, p.state), Name: p.state, Timeout: 3 * soon}
	switch {
	case !s.straight:
		o.Server = s.url
	case s.carries:
		o.Store, o.Keys = s.url, s.keys()
	default:
		o.Store = "sqlite:" + s.file()
	}
	var err error
	if p.Client, err = unibus.Connect(s.ctx, o); errors.Is(err, unibus.ErrNoBus) && s.straight {
		if err = unibus.Found(s.ctx, o); err == nil {
			p.Client, err = unibus.Connect(s.ctx, o)
		}
	}
	if c := p.Client; err == nil {
		s.Cleanup(func() { c.Close() })
	}
	return p, err
}

// open connects someone.
func (s *scene) open(p *person) *person {
	s.Helper()
	_, err := s.connect(p)
	s.must(err)
	if p.id == s.aliceID {
		s.world.alice = p.Client
	}
	return p
}

// join adds someone new, who connects.
func (s *scene) join(name string) *person {
	s.Helper()
	return s.open(&person{id: s.add(name), state: name})
}

// enter opens a room as someone sees it.
func (s *scene) enter(p *person, subject string) *unibus.Room {
	s.Helper()
	r, err := p.Room(s.ctx, subject)
	s.must(err)
	return r
}

// again is a new process of someone: it knows what is in their state directory.
func (s *scene) again(p *person, subject string) *unibus.Room {
	s.Helper()
	s.must(p.Close())
	return s.enter(s.open(p), subject)
}

// fresh is a process of someone that knows nothing of before.
func (s *scene) fresh(id *unibus.Identity, subject string) (*person, *unibus.Room) {
	s.Helper()
	dir, err := os.MkdirTemp(s.home, "fresh")
	s.must(err)
	p := s.open(&person{id: id, state: filepath.Base(dir)})
	return p, s.enter(p, subject)
}

// share makes a room of alice's with bob in it, as both see it.
func (s *scene) share(subject string) (alices, bobs *unibus.Room) {
	s.Helper()
	alices = s.room(subject, unibus.DefaultPolicy())
	s.must(alices.Invite(s.ctx, unibus.RoleMember, s.bob.Key()))
	return alices, s.enter(s.bob, subject)
}

// send publishes each text in a frame of its own, all of one stream.
func (w *trial) send(r *unibus.Room, texts ...string) {
	w.Helper()
	w.must(Send(w.ctx, r, texts...))
}

// stored reads everything that is stored, with the notices, and how it ended.
func (w *trial) stored(r *unibus.Room, o unibus.SubscribeOptions) (texts []string, notices []unibus.Notice, err error) {
	w.Helper()
	return Stored(w.ctx, r, o)
}
