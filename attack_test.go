package unibus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a bus with alice, its founder, and bob.
type world struct {
	*testing.T
	ctx        context.Context
	dir        string
	node       *service.Node
	alice, bob *unibus.Client
	aliceID    *unibus.Identity
	bobID      *unibus.Identity
	js         jetstream.JetStream // the server's own hands
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx, dir: t.TempDir()}
	w.aliceID = w.identity()
	w.start()
	t.Cleanup(func() { w.node.Stop() })
	w.alice = w.connect(w.aliceID, "alice")
	w.bobID = w.add("bob")
	w.bob = w.connect(w.bobID, "bob")
	return w
}

// start starts the server, anew on what it has stored.
func (w *world) start() {
	w.Helper()
	var err error
	w.node, err = service.StartNode(w.ctx, service.NodeOptions{
		Listen: "127.0.0.1:0", Dir: filepath.Join(w.dir, "data"), Identity: w.aliceID, Founder: "alice", Log: slog.New(slog.DiscardHandler),
	})
	w.must(err)
	w.js, err = jetstream.New(w.node.Links().Store)
	w.must(err)
}

// add allows a new user, whose card is known.
func (w *world) add(name string) *unibus.Identity {
	w.Helper()
	id := w.identity()
	card, err := id.Card()
	w.must(err)
	w.must(w.alice.AddUsers(w.ctx, unibus.NewUser{Key: id.Key(), Name: name, Card: card}))
	return id
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) identity() *unibus.Identity {
	w.Helper()
	id, err := unibus.NewIdentity()
	w.must(err)
	return id
}

func (w *world) connect(id *unibus.Identity, state string) *unibus.Client {
	w.Helper()
	c, err := unibus.Connect(w.ctx, unibus.Options{Identity: id, StateDir: filepath.Join(w.dir, state), Server: w.node.URL()})
	w.must(err)
	w.Cleanup(func() { c.Close() })
	return c
}

// room makes a room of alice's with bob in it, as both see it.
func (w *world) room(subject string, p unibus.Policy) (alices, bobs *unibus.Room) {
	w.Helper()
	alices, err := w.alice.CreateRoom(w.ctx, subject, p)
	w.must(err)
	w.must(alices.Invite(w.ctx, unibus.RoleMember, w.bob.Key()))
	bobs, err = w.bob.Room(w.ctx, subject)
	w.must(err)
	return alices, bobs
}

// send publishes each text in a frame of its own, all of one stream.
func (w *world) send(r *unibus.Room, texts ...string) {
	w.Helper()
	p, err := r.Publisher(w.ctx)
	w.must(err)
	for _, text := range texts {
		w.must(p.Publish([]byte(text)))
		w.must(p.Flush(w.ctx))
	}
	w.must(p.Close(w.ctx))
}

// read returns everything stored, the notices, and how it ended.
func (w *world) read(r *unibus.Room, o unibus.SubscribeOptions) (texts []string, notices []unibus.Notice, err error) {
	w.Helper()
	o.End = true
	o.Notice = func(n unibus.Notice) { notices = append(notices, n) }
	s, err := r.Subscribe(w.ctx, o)
	if err != nil {
		return nil, nil, err
	}
	for m, err := range s.Messages() {
		if err != nil {
			return texts, notices, err
		}
		texts = append(texts, string(m.Body))
	}
	return texts, notices, nil
}

// rewrite replaces what a room's stream holds with what change makes of it.
func (w *world) rewrite(r *unibus.Room, change func(frames []*nats.Msg) []*nats.Msg) {
	w.Helper()
	stream, err := w.js.Stream(w.ctx, "UNIBUS_"+r.ID().String())
	w.must(err)
	info := stream.CachedInfo().State
	var frames []*nats.Msg
	for seq := max(info.FirstSeq, 1); seq <= info.LastSeq; seq++ {
		m, err := stream.GetMsg(w.ctx, seq)
		w.must(err)
		frames = append(frames, &nats.Msg{Subject: m.Subject, Data: m.Data})
	}
	w.must(w.js.DeleteStream(w.ctx, stream.CachedInfo().Config.Name))
	_, err = w.js.CreateStream(w.ctx, stream.CachedInfo().Config)
	w.must(err)
	for _, m := range change(frames) {
		_, err := w.js.PublishMsg(w.ctx, m)
		w.must(err)
	}
}

func clone(m *nats.Msg) *nats.Msg { return &nats.Msg{Subject: m.Subject, Data: bytes.Clone(m.Data)} }

// TestLyingServer changes what is stored in every way a server can. Frame 0 to 3 hold one text
// each; frame 4 ends the stream.
func TestLyingServer(t *testing.T) {
	w := newWorld(t)
	all := []string{"zero", "one", "two", "three"}
	flip := func(at int) func(f []*nats.Msg) []*nats.Msg {
		return func(f []*nats.Msg) []*nats.Msg {
			f[1].Data[at] ^= 1
			return f
		}
	}
	for name, c := range map[string]struct {
		change func(f []*nats.Msg) []*nats.Msg
		want   []string
		kind   unibus.NoticeKind // of the finding; empty for none
	}{
		"nothing":            {func(f []*nats.Msg) []*nats.Msg { return f }, all, ""},
		"body altered":       {flip(150), []string{"zero", "two", "three"}, unibus.NoticeForged},
		"counter altered":    {flip(59), []string{"zero", "two", "three"}, unibus.NoticeForged},
		"stream altered":     {flip(36), []string{"zero", "two", "three"}, unibus.NoticeForged},
		"place altered":      {flip(19), []string{"zero", "two", "three"}, unibus.NoticeForged},
		"head altered":       {flip(20), []string{"zero", "two", "three"}, unibus.NoticeForged},
		"suite altered":      {flip(3), []string{"zero", "two", "three"}, unibus.NoticeForged},
		"magic altered":      {flip(0), []string{"zero", "two", "three"}, unibus.NoticeForged},
		"epoch altered":      {flip(11), []string{"zero", "two", "three"}, unibus.NoticeForged},
		"dropped":            {func(f []*nats.Msg) []*nats.Msg { return slices.Delete(f, 1, 3) }, []string{"zero", "three"}, unibus.NoticeGap},
		"replayed":           {func(f []*nats.Msg) []*nats.Msg { return append(f, clone(f[1]), clone(f[0])) }, all, ""},
		"reordered":          {func(f []*nats.Msg) []*nats.Msg { f[1], f[2] = f[2], f[1]; return f }, all, ""},
		"begun late":         {func(f []*nats.Msg) []*nats.Msg { f[0], f[1], f[2] = f[1], f[2], f[0]; return f }, all, ""},
		"beginning withheld": {func(f []*nats.Msg) []*nats.Msg { return f[1:] }, all[1:], unibus.NoticeGap},
		"cut short": {func(f []*nats.Msg) []*nats.Msg {
			f[1].Data = f[1].Data[:160]
			return f
		}, []string{"zero", "two", "three"}, unibus.NoticeForged},
		"garbage": {func(f []*nats.Msg) []*nats.Msg {
			return append(f, &nats.Msg{Subject: f[0].Subject, Data: []byte("ub1 garbage")}, &nats.Msg{Subject: f[0].Subject})
		}, all, unibus.NoticeForged},
		"re-attributed": {func(f []*nats.Msg) []*nats.Msg {
			f[1].Subject = strings.Replace(f[1].Subject, w.alice.Key().String(), w.bob.Key().String(), 1)
			return f
		}, []string{"zero", "two", "three"}, unibus.NoticeForged},
		"no sender": {func(f []*nats.Msg) []*nats.Msg {
			f[1].Subject = strings.Replace(f[1].Subject, w.alice.Key().String(), "nobody", 1)
			return f
		}, []string{"zero", "two", "three"}, unibus.NoticeForged},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, ctx: w.ctx, js: w.js, alice: w.alice, bob: w.bob}
			alices, bobs := w.room("lie."+strings.ReplaceAll(name, " ", "-"), unibus.DefaultPolicy())
			w.send(alices, all...)
			w.rewrite(alices, c.change)
			got, notices, err := w.read(bobs, unibus.SubscribeOptions{All: true})
			if !slices.Equal(got, c.want) {
				t.Errorf("delivered %q, want %q", got, c.want)
			}
			if (c.kind != "") != errors.Is(err, unibus.ErrIntegrity) || c.kind == "" && err != nil {
				t.Errorf("it ended with %v", err)
			}
			kinds := map[unibus.NoticeKind]bool{}
			for _, n := range notices {
				kinds[n.Kind] = true
			}
			if c.kind != "" && !kinds[c.kind] {
				t.Errorf("notices %v", notices)
			}
		})
	}
}

// TestLostMessage: a message that is a stream of its own leaves no gap in any counter, but a hole, and its writer
// tells of it with the next.
func TestLostMessage(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("lost", unibus.DefaultPolicy())
	for _, text := range []string{"one", "two", "three"} {
		w.must(alices.PublishOnce(w.ctx, []byte(text)))
	}
	stream, err := w.js.Stream(w.ctx, "UNIBUS_"+alices.ID().String())
	w.must(err)
	w.must(stream.DeleteMsg(w.ctx, 2))
	got, notices, err := w.read(bobs, unibus.SubscribeOptions{All: true})
	if !slices.Equal(got, []string{"one", "three"}) || !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("%q, %v", got, err)
	}
	if len(notices) != 2 || notices[0].Kind != unibus.NoticeLost || notices[0].From != 2 || notices[0].To != 2 || notices[1].Kind != unibus.NoticeMissing {
		t.Errorf("%v", notices)
	}
	w.must(stream.DeleteMsg(w.ctx, 1)) // from the front, as retention does, but nothing has expired
	got, notices, err = w.read(bobs, unibus.SubscribeOptions{All: true})
	if !slices.Equal(got, []string{"three"}) || !errors.Is(err, unibus.ErrIntegrity) || len(notices) != 2 ||
		notices[0].Kind != unibus.NoticeMissing || notices[1].Kind != unibus.NoticeLost || notices[1].From != 1 || notices[1].To != 2 {
		t.Errorf("%q, %v, %v", got, notices, err)
	}
}

// TestMovedFrame: a frame of one room means nothing in another, even with the same members.
func TestMovedFrame(t *testing.T) {
	w := newWorld(t)
	a, _ := w.room("from", unibus.DefaultPolicy())
	b, bobs := w.room("to", unibus.DefaultPolicy())
	w.send(a, "secret of another room")
	var moved *nats.Msg
	w.rewrite(a, func(f []*nats.Msg) []*nats.Msg { moved = clone(f[0]); return f })
	w.rewrite(b, func([]*nats.Msg) []*nats.Msg {
		moved.Subject = strings.Replace(moved.Subject, a.ID().String(), b.ID().String(), 1)
		return []*nats.Msg{moved}
	})
	got, _, err := w.read(bobs, unibus.SubscribeOptions{All: true})
	if len(got) != 0 || !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestLast finds the last messages wherever they lie.
func TestLast(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("last", unibus.DefaultPolicy())
	var texts []string
	for i := range 80 {
		texts = append(texts, fmt.Sprint("m", i))
	}
	for chunk := range slices.Chunk(texts, 20) {
		w.send(alices, chunk...)
	}
	large := strings.Repeat("x", 3<<20) // three frames and more
	w.must(alices.PublishOnce(w.ctx, []byte(large)))
	for _, n := range []int{1, 2, 3, 21, 80, 81, 200} {
		got, _, err := w.read(bobs, unibus.SubscribeOptions{Last: n})
		want := append(slices.Clone(texts), large)
		want = want[max(0, len(want)-n):]
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("the last %d are %d, %v", n, len(got), err)
		}
	}
	got, _, err := w.read(bobs, unibus.SubscribeOptions{Since: time.Now().Add(time.Hour)})
	if err != nil || len(got) != 0 {
		t.Errorf("since later: %d, %v", len(got), err)
	}
	// With a frame missing, the last are still the last.
	w.rewrite(alices, func(f []*nats.Msg) []*nats.Msg { return slices.Delete(f, 64, 65) })
	if got, _, err := w.read(bobs, unibus.SubscribeOptions{Last: 2}); !slices.Equal(got, []string{texts[79], large}) || !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("%d, %v", len(got), err)
	}
}

// TestRacingAdmins: two admins who rekey at once both end in one history, and both can read.
func TestRacingAdmins(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("race", unibus.DefaultPolicy())
	w.must(alices.SetRole(w.ctx, w.bob.Key(), unibus.RoleAdmin))
	errs := make(chan error, 2)
	for _, r := range []*unibus.Room{alices, bobs} {
		go func() {
			for range 5 {
				if err := r.Rekey(w.ctx); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	w.must(<-errs)
	w.must(<-errs)
	for _, r := range []*unibus.Room{alices, bobs} {
		w.must(r.Refresh(w.ctx))
		if held, err := r.HoldsKey(w.ctx); !held || err != nil || r.Info().Epoch != 11 {
			t.Errorf("epoch %d, held %v, %v", r.Info().Epoch, held, err)
		}
	}
	w.send(alices, "after")
	got, _, err := w.read(bobs, unibus.SubscribeOptions{All: true})
	if err != nil || !slices.Equal(got, []string{"after"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestLiveReplay: in a room that stores nothing, a frame that the server repeats is not news.
func TestLiveReplay(t *testing.T) {
	w := newWorld(t)
	p := unibus.DefaultPolicy()
	p.Retain = nil
	alices, bobs := w.room("live", p)
	var frames []*nats.Msg
	tap := make(chan *nats.Msg, 16)
	reader, err := attack.Dial(attack.Options{URL: w.node.URL(), Identity: w.bobID, Bus: w.alice.Bus(), Rooms: []unibus.ID{alices.ID()}})
	w.must(err)
	defer reader.Close()
	_, err = reader.ChanSubscribe("unibus.r."+alices.ID().String()+".*", tap)
	w.must(err)
	w.must(reader.Flush())
	var notices []unibus.Notice
	sub, err := bobs.Subscribe(w.ctx, unibus.SubscribeOptions{Notice: func(n unibus.Notice) { notices = append(notices, n) }})
	w.must(err)
	w.must(alices.PublishOnce(w.ctx, []byte("first")))
	frames = append(frames, <-tap)
	w.must(w.node.Links().Store.PublishMsg(clone(frames[0]))) // again, by the server
	w.must(w.node.Links().Store.Flush())
	w.must(alices.PublishOnce(w.ctx, []byte("second")))
	var got []string
	for m, err := range sub.Messages() {
		w.must(err)
		if got = append(got, string(m.Body)); got[len(got)-1] == "second" {
			break
		}
	}
	if !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("%q", got)
	}
	w.must(sub.Close())
}
