package attack

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/direct"
	"github.com/unibus/unibus/internal/roomtest"
	"github.com/unibus/unibus/internal/service"
)

func TestMain(m *testing.M) { roomtest.Main(m) }

const (
	soon   = 10 * time.Second // for anything that has to come
	budget = 2 * time.Minute  // of one test
)

// stores are the kinds of store that a bus can have.
var stores = []string{"sqlite", service.JetStream}

// world is a real bus with people on it, and what the victims among them see.
//
// alice founded it and uses a proper client; bob is a bare peer that takes in everything it is sent. They
// share two rooms that nobody else is in ("closed", one stored and one live), and two with the attackers
// ("shared"). The attackers have two to themselves ("den").
//
// It is made of what a test has (trial), of what runs (servers), and of alice's own part (founding), each with what can
// be done by its own hands alone.
type world struct {
	founding
	founder   *Peer // alice's, for asking about everything
	bobID     *unibus.Identity
	bob       *Peer
	bobs      chan *nats.Msg // all that bob is sent
	closed    pair
	shared    pair
	den       pair
	attackers map[string]*unibus.Identity
	old       map[string]*Login // signed before their access ended
	reader    *reader           // alice's, of the victims' rooms
}

// trial is the test under way, and the time it has.
type trial struct {
	*testing.T
	ctx context.Context
}

// servers are those of the bus, and the hands that they work with themselves.
type servers struct {
	trial
	node   *service.Node
	store  *nats.Conn // the server's own connection
	js     jetstream.JetStream
	direct *direct.Client
	kind   string // of store
}

// founding is the founder of a bus, who makes its users and its rooms.
type founding struct {
	servers
	alice   *unibus.Client
	aliceID *unibus.Identity
}

// pair is two rooms with the same members.
type pair struct{ stored, live *unibus.Room }

func (p pair) ids() []crypto.ID { return []crypto.ID{p.stored.ID(), p.live.ID()} }

// startWorld starts a bus with a kind of store, with alice alone on it.
func startWorld(t *testing.T, kind string) *world {
	t.Helper()
	w := emptyWorld(t, kind)
	if kind == "sqlite" {
		kind = "" // in the node's folder
	}
	node, err := service.StartNode(w.ctx, service.NodeOptions{
		Store: kind, Listen: "127.0.0.1:0", Dir: t.TempDir(), Identity: w.aliceID, Founder: "alice", Log: slog.New(slog.DiscardHandler),
	})
	w.must(err)
	t.Cleanup(node.Stop)
	w.begin(node)
	return w
}

// emptyWorld is one without a bus yet. Each world has its own, so that its test runs beside others.
func emptyWorld(t *testing.T, kind string) *world {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), budget)
	t.Cleanup(cancel)
	w := &world{attackers: map[string]*unibus.Identity{}, old: map[string]*Login{}}
	w.T, w.ctx, w.kind = t, ctx, kind
	w.aliceID = w.identity()
	return w
}

// begin connects alice to a node, and takes the server's own hands there.
func (w *founding) begin(node *service.Node) {
	w.Helper()
	w.node, w.store = node, node.Links().Store
	var err error
	w.js, err = jetstream.New(w.store)
	w.must(err)
	w.direct, err = direct.New(w.store)
	w.must(err)
	w.alice = w.client(w.aliceID)
}

// newWorld starts a bus with everyone on it.
func newWorld(t *testing.T, kind string) *world {
	t.Helper()
	w := startWorld(t, kind)
	w.bobID = w.add("bob")
	for _, name := range []string{"roomless", "reader", "member", "admin", "kicked", "revoked"} {
		w.attackers[name] = w.add(name)
	}
	w.attackers["stranger"] = w.identity()
	w.closed, w.shared, w.den = w.pair("closed"), w.pair("shared"), w.pair("den")
	for _, p := range []pair{w.closed, w.shared} {
		w.invite(p, unibus.RoleMember, w.bobID)
	}
	for _, p := range []pair{w.shared, w.den} {
		w.invite(p, unibus.RoleReader, w.attackers["reader"])
		w.invite(p, unibus.RoleMember, w.attackers["member"], w.attackers["kicked"], w.attackers["revoked"])
		w.invite(p, unibus.RoleAdmin, w.attackers["admin"])
	}
	w.endAccess()
	w.founder = w.dial(Options{Identity: w.aliceID})
	w.bob = w.dial(Options{Identity: w.bobID, Rooms: append(w.closed.ids(), w.shared.ids()...)})
	w.bobs = w.tap(w.bob, append(roomSubjects(w.closed, w.shared), bus.InboxPrefix(w.bob.Inbox)+".>", bus.NoticeSubject(w.bobID.Key()))...)
	w.reader = w.read(w.alice, "closed.>", "shared.>")
	w.lifeGoesOn() // also waits until nobody is told any more of what was done here
	return w
}

// endAccess ends the access of those who had some, who keep a login that they signed before.
func (w *world) endAccess() {
	w.Helper()
	for _, name := range []string{"kicked", "revoked"} {
		o := Options{Identity: w.attackers[name], Bus: w.alice.Bus(), Rooms: w.rooms()}
		login, err := SignLogin(o)
		w.must(err)
		w.old[name] = login
	}
	for _, p := range []pair{w.shared, w.den} {
		for _, r := range []*unibus.Room{p.stored, p.live} {
			w.must(r.Kick(w.ctx, w.attackers["kicked"].Key()))
		}
	}
	w.must(w.alice.RevokeUsers(w.ctx, "", w.attackers["revoked"].Key()))
}

func (w *trial) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *trial) identity() *unibus.Identity {
	w.Helper()
	id, err := unibus.NewIdentity()
	w.must(err)
	return id
}

// add allows a new user, whose card is known.
func (w *founding) add(name string) *unibus.Identity {
	w.Helper()
	id := w.identity()
	card, err := id.Card()
	w.must(err)
	w.must(w.alice.AddUsers(w.ctx, unibus.NewUser{Key: id.Key(), Name: name, Card: card}))
	return id
}

func (w *founding) client(id *unibus.Identity) *unibus.Client {
	w.Helper()
	c, err := unibus.Connect(w.ctx, unibus.Options{Identity: id, StateDir: w.TempDir(), Server: w.node.URL(), Timeout: 3 * soon})
	w.must(err)
	w.Cleanup(func() { c.Close() })
	return c
}

// live is the default policy of a room that stores nothing.
func live() unibus.Policy {
	p := unibus.DefaultPolicy()
	p.Retain = nil
	return p
}

func (w *founding) room(subject string, p unibus.Policy) *unibus.Room {
	w.Helper()
	r, err := w.alice.CreateRoom(w.ctx, subject, p)
	w.must(err)
	return r
}

func (w *founding) pair(name string) pair {
	w.Helper()
	return pair{w.room(name+".stored", unibus.DefaultPolicy()), w.room(name+".live", live())}
}

func (w *founding) invite(p pair, role unibus.Role, ids ...*unibus.Identity) {
	w.Helper()
	var keys []unibus.PublicKey
	for _, id := range ids {
		keys = append(keys, id.Key())
	}
	w.must(p.stored.Invite(w.ctx, role, keys...))
	w.must(p.live.Invite(w.ctx, role, keys...))
}

// rooms are all there are: whose they are, a token does not say.
func (w *world) rooms() []crypto.ID {
	return slices.Concat(w.closed.ids(), w.shared.ids(), w.den.ids())
}

func roomSubjects(pairs ...pair) (out []string) {
	for _, p := range pairs {
		for _, id := range p.ids() {
			out = append(out, bus.LiveFilter(id))
		}
	}
	return out
}

// dial logs a peer in on this bus.
func (w *founding) dial(o Options) *Peer {
	w.Helper()
	o.URL, o.Bus = w.node.URL(), w.alice.Bus()
	p, err := Dial(o)
	w.must(err)
	w.Cleanup(p.Close)
	return p
}

// stranger logs someone in who may only say hello.
func (w *founding) stranger(id *unibus.Identity, opts ...nats.Option) *Peer {
	w.Helper()
	p, err := Dial(Options{URL: w.node.URL(), Identity: id, Nats: opts})
	w.must(err)
	w.Cleanup(p.Close)
	return p
}

// tap takes in what comes on subjects.
func (w *trial) tap(p *Peer, subjects ...string) chan *nats.Msg {
	w.Helper()
	in := make(chan *nats.Msg, 8192)
	for _, s := range subjects {
		_, err := p.ChanSubscribe(s, in)
		w.must(err)
	}
	w.must(p.Flush())
	return in
}

// drain empties a tap.
func drain(in chan *nats.Msg) (out []*nats.Msg) {
	for {
		select {
		case m := <-in:
			out = append(out, m)
		default:
			return out
		}
	}
}

// reader is a proper client's subscription, and all that it says.
type reader struct {
	sub *unibus.Subscription

	mu      sync.Mutex
	texts   chan string
	notices []unibus.Notice
}

// read begins to read rooms as they are.
func (w *trial) read(c *unibus.Client, names ...string) *reader {
	w.Helper()
	r := &reader{texts: make(chan string, 4096)}
	var err error
	r.sub, err = c.Subscribe(w.ctx, names, unibus.SubscribeOptions{Notice: func(n unibus.Notice) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.notices = append(r.notices, n)
	}})
	w.must(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range r.sub.Messages() {
			if err != nil {
				r.texts <- "error: " + err.Error()
				return
			}
			r.texts <- string(m.Body)
		}
	}()
	w.Cleanup(func() {
		r.sub.Close()
		<-done
	})
	return r
}

// findings are the notices so far that say that something is wrong with a room.
func (r *reader) findings() (out []unibus.Notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.notices {
		if n.Finding {
			out = append(out, n)
		}
	}
	return out
}

// await returns the texts that come next.
func (w *trial) await(r *reader, n int) (out []string) {
	w.Helper()
	for range n {
		select {
		case text := <-r.texts:
			out = append(out, text)
		case <-time.After(soon):
			w.Fatalf("only %q came", out)
		}
	}
	slices.Sort(out)
	return out
}

// lifeGoesOn lets the others do everything that people do, and checks that it works as ever: nobody takes
// their messages away, and the attackers have added none.
func (w *world) lifeGoesOn() {
	w.Helper()
	drain(w.bobs)
	once := strings.ToLower(rand.Text()[:12])
	var want []string
	for _, r := range []*unibus.Room{w.closed.stored, w.closed.live, w.shared.stored, w.shared.live} {
		text := r.Subject() + " " + once
		w.must(r.PublishOnce(w.ctx, []byte(text)))
		want = append(want, text)
	}
	slices.Sort(want)
	if got := w.await(w.reader, len(want)); !slices.Equal(got, want) {
		w.Errorf("alice was sent %q, and reads %q", want, got)
	}
	if n := w.reader.findings(); len(n) > 0 {
		w.Errorf("alice is told of %v", n)
	}
	w.add("user-" + once)
	w.stranger(w.identity()).Close()
	w.settle()
	if frames := w.awaitNotice(w.head(w.alice.Bus())); frames != len(want) {
		w.Errorf("bob is sent %d frames", frames)
	}
}

// head is how far a log reaches.
func (w *world) head(log crypto.ID) uint64 {
	w.Helper()
	body, _, err := w.founder.Call(w.ctx, http.MethodGet, "/logs/"+log.String()+"?limit=0", nil)
	w.must(err)
	var answer struct{ Head struct{ Seq uint64 } }
	w.must(json.Unmarshal(body, &answer))
	return answer.Head.Seq
}

// awaitNotice waits until bob is told of an entry of the bus log, and counts the frames that he gets until
// then. The service tells of entries in their order, some time after they are acknowledged.
func (w *world) awaitNotice(seq uint64) (frames int) {
	w.Helper()
	told := fmt.Sprintf(`{"log":"%s","seq":%d}`, w.alice.Bus(), seq)
	for late := time.After(soon); ; {
		select {
		case m := <-w.bobs:
			if strings.HasPrefix(m.Subject, "unibus.r.") {
				frames++
			}
			if string(m.Data) == told {
				return frames
			}
		case <-late:
			w.Fatalf("bob is not told of entry %d of the bus log", seq)
		}
	}
}

// settle returns when everything that was sent before has been dealt with: what waits in line at the
// responders, at the streams, and at bob's connection.
func (w *world) settle() {
	w.Helper()
	w.barriers()
	if _, status, err := w.bob.Call(w.ctx, http.MethodGet, "/bus", nil); err != nil || status != http.StatusOK {
		w.Fatalf("the API answers bob with %d, %v", status, err)
	}
	s := w.stranger(w.identity())
	if _, err := s.RequestWithContext(w.ctx, bus.HelloSubject(s.Inbox), nil); err != nil {
		w.Fatalf("a stranger's hello: %v", err)
	}
	s.Close()
	w.barriers() // what the responders were made to send
	w.must(w.bob.Flush())
}

// barriers waits until every stream has dealt with what was sent to it: by a message that comes after, and
// is not stored because it claims a wrong place.
func (w *servers) barriers() {
	w.Helper()
	_, err := w.js.AccountInfo(w.ctx)
	w.must(err)
	for info := range w.js.ListStreams(w.ctx).Info() {
		m := nats.NewMsg(strings.NewReplacer(">", "barrier", "*", "barrier").Replace(info.Config.Subjects[0]))
		m.Header.Set(nats.ExpectedLastSeqHdr, "9007199254740991")
		if answer, err := w.store.RequestMsgWithContext(w.ctx, m); err != nil || !bytes.Contains(answer.Data, []byte("wrong last sequence")) {
			w.Fatalf("%s answers %q, %v", info.Config.Name, answer.Data, err)
		}
	}
}

// picture is all that is kept: each message of each stream and bucket, their settings and consumers, and the
// logs and lists of a store that is not among them.
type picture map[string]string

func (w *world) picture() picture {
	w.Helper()
	p := picture{}
	for info := range w.js.ListStreams(w.ctx).Info() {
		config, err := json.Marshal(info.Config)
		w.must(err)
		p[info.Config.Name] = string(config)
		if info.State.Consumers > 0 {
			w.consumers(p, info.Config.Name)
		}
		for from := uint64(1); from <= info.State.LastSeq; {
			from = w.messages(p, info.Config.Name, from) + 1
		}
	}
	if w.kind == service.JetStream {
		return p
	}
	paths := []string{"/users", "/rooms", "/logs/" + w.alice.Bus().String()}
	for _, pair := range []pair{w.closed, w.shared, w.den} {
		for _, id := range pair.ids() {
			paths = append(paths, "/logs/"+id.String())
		}
	}
	for _, path := range paths {
		body, status, err := w.founder.Call(w.ctx, http.MethodGet, path, nil)
		w.must(err)
		p["GET "+path] = fmt.Sprintf("%d %x", status, sha256.Sum256(body))
	}
	return p
}

// consumers adds those of a stream. The service reads lists of its buckets by consumers of its own, which last
// for a while after it.
func (w *servers) consumers(p picture, name string) {
	w.Helper()
	s, err := w.js.Stream(w.ctx, name)
	w.must(err)
	for c := range s.ListConsumers(w.ctx).Info() {
		if c.Config.Durable != "" || !strings.HasPrefix(name, "KV_") {
			p[name] += " consumer " + c.Name
		}
	}
}

// messages adds some of a stream, and returns the place of the last. A replica may lag.
func (w *servers) messages(p picture, name string, from uint64) (last uint64) {
	w.Helper()
	last = from - 1
	_, err := w.direct.Get(w.ctx, name, direct.Request{Seq: from, Batch: 1000}, func(m *nats.Msg) error {
		last = direct.Seq(m)
		subject, sum := direct.Last(m, "Nats-Subject"), sha256.Sum256(m.Data)
		switch {
		case strings.HasSuffix(subject, "._barrier"): // every proof that the store is current leaves one
		case strings.HasPrefix(name, "KV_"):
			p[subject] = fmt.Sprintf("%x", sum)
		default:
			p[fmt.Sprintf("%s/%d", name, last)] = fmt.Sprintf("%s %x", subject, sum)
		}
		return nil
	})
	if !errors.Is(err, direct.ErrNone) {
		w.must(err)
	}
	return last
}

// unchanged checks that nothing is kept that was not, but for messages stored on a subject that the attacker
// may publish to. Those it counts.
func (w *world) unchanged(before picture, own string) (stored int) {
	w.Helper()
	after := w.picture()
	for key, was := range before {
		if after[key] != was {
			w.Errorf("%s was %s, and is %q", key, was, after[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if _, was := before[key]; was {
			continue
		}
		if own != "" && strings.HasPrefix(after[key], own+" ") {
			stored++
			continue
		}
		w.Errorf("there is %s now: %s", key, after[key])
	}
	return stored
}
