package bus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// replicas are three servers in this process that keep rooms' streams.
type replicas struct {
	t       *testing.T
	options []*server.Options
	servers []*server.Server
	nc      *nats.Conn // to the first one
	js      jetstream.JetStream
	past    *Past
	began   time.Time
}

const (
	places = 40      // that each room's stream has
	length = 2800    // of each message: some ten are in a file
	most   = 127_000 // bytes that a stream holds, for which its files are as small as can be
)

// newReplicas starts three servers.
func newReplicas(t *testing.T) *replicas {
	t.Helper()
	r := &replicas{t: t, began: time.Now(), servers: make([]*server.Server, 3)}
	var routes string
	for i := range 3 {
		port := freeport.Port()
		routes += fmt.Sprintf(",nats://127.0.0.1:%d", port)
		r.options = append(r.options, &server.Options{
			ServerName: fmt.Sprintf("s%d", i), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: port},
		})
	}
	for i, o := range r.options {
		o.Routes = server.RoutesFromStr(routes[1:])
		r.start(i)
		t.Cleanup(func() { r.stop(i) })
	}
	for _, s := range r.servers {
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("a server does not start")
		}
	}
	var err error
	if r.nc, err = nats.Connect(r.servers[0].ClientURL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.nc.Close)
	if r.js, err = jetstream.New(r.nc); err != nil {
		t.Fatal(err)
	}
	if r.past, err = NewPast(r.nc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.past.Close)
	return r
}

func (r *replicas) start(i int) {
	r.t.Helper()
	s, err := server.NewServer(r.options[i].Clone())
	if err != nil {
		r.t.Fatal(err)
	}
	s.Start()
	r.servers[i] = s
}

func (r *replicas) stop(i int) {
	r.servers[i].Shutdown()
	r.servers[i].WaitForShutdown()
}

// room makes a room's stream with messages, and waits until all replicas have them.
func (r *replicas) room(n byte) crypto.ID {
	r.t.Helper()
	room := crypto.ID{n}
	form := StreamForm(room, ledger.Policy{Retain: &ledger.Retain{Bytes: most}})
	form.Replicas = 3
	r.eventually("stream", func() bool {
		_, err := r.js.CreateStream(r.t.Context(), form)
		return err == nil
	})
	for range places {
		if _, err := r.js.Publish(r.t.Context(), StoredSubject(room, crypto.PublicKey{n}), make([]byte, length)); err != nil {
			r.t.Fatal(err)
		}
	}
	r.whole(room)
	return room
}

// whole waits until all replicas are current.
func (r *replicas) whole(rooms ...crypto.ID) {
	r.t.Helper()
	r.eventually("stream with all replicas", func() bool {
		for _, room := range rooms {
			if info, err := r.past.Stream(r.t.Context(), room); err != nil || !info.Whole {
				return false
			}
		}
		return true
	})
}

func (r *replicas) eventually(what string, f func() bool) {
	r.t.Helper()
	eventually(r.t, what, f)
}

// leads has one server lead a room's stream.
func (r *replicas) leads(i int, room crypto.ID) {
	r.t.Helper()
	name := r.options[i].ServerName
	order := fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, name)
	r.eventually("leader "+name, func() bool {
		s, err := r.js.Stream(r.t.Context(), StreamName(room))
		if err != nil {
			return false
		}
		if s.CachedInfo().Cluster.Leader == name {
			return true
		}
		_, _ = r.nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+StreamName(room), order, time.Second) // or else again
		return false
	})
}

// lose removes a file of a room's stream from a server that is down.
func (r *replicas) lose(i int, room crypto.ID, file string) {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.options[i].StoreDir, "jetstream", "$G", "streams", StreamName(room), "msgs", file)); err != nil {
		r.t.Fatal(err)
	}
}

// holds is how many messages of a room a server has.
func (r *replicas) holds(i int, room crypto.ID) uint64 {
	r.t.Helper()
	all, err := r.servers[i].Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, a := range all.AccountDetails {
		for _, s := range a.Streams {
			if s.Name == StreamName(room) {
				return s.State.Msgs
			}
		}
	}
	return 0
}

// read is the first place and the places that are read with one query after the other.
func (r *replicas) read(room crypto.ID, q store.FramesQuery) (first uint64, read []uint64, err error) {
	for {
		past, err := r.past.Frames(context.Background(), room, q, 1<<20)
		if err != nil {
			return 0, nil, err
		}
		if first == 0 {
			first = past.First
		}
		for _, f := range past.Frames {
			read = append(read, f.Seq)
		}
		if len(past.Frames) == 0 || past.End() >= past.Last {
			return first, read, nil
		}
		q = store.FramesQuery{After: past.End()}
	}
}

// span is places from one to another.
func span(from, to uint64) (list []uint64) {
	for seq := from; seq <= to; seq++ {
		list = append(list, seq)
	}
	return list
}

// TestDamagedReplica: what one replica has lost is read of the others, whoever leads.
func TestDamagedReplica(t *testing.T) {
	r := newReplicas(t)
	const damaged = 1
	lost := map[string]crypto.ID{"1.blk": r.room(1), "2.blk": r.room(2)}
	r.stop(damaged)
	for file, room := range lost {
		r.lose(damaged, room, file)
	}
	r.start(damaged)
	for file, room := range lost {
		r.whole(room)
		for leader := range r.servers {
			r.leads(leader, room)
			r.whole(room)
			if n := r.holds(damaged, room); n >= places {
				t.Fatalf("the replica that lost %s has %d messages", file, n)
			}
			r.complete(room, fmt.Sprintf("%s lost by s%d, s%d leads", file, damaged, leader))
		}
	}
}

// complete checks that everything is read, whichever replica answers.
func (r *replicas) complete(room crypto.ID, when string) {
	r.t.Helper()
	for name, q := range map[string]store.FramesQuery{"all": {}, "last": {Last: places}, "since": {Since: r.began}} {
		for range 10 {
			first, read, err := r.read(room, q)
			if err != nil || first != 1 || !slices.Equal(read, span(1, places)) {
				r.t.Errorf("%s: %s: %v from %d: %v", when, name, read, first, err)
			}
		}
	}
	if past, err := r.past.Frames(r.t.Context(), room, store.FramesQuery{None: true}, 1); err != nil || past.First != 1 {
		r.t.Errorf("%s: begins at %d: %v", when, past.First, err)
	}
}

// alone is a server by itself, with a room that is full.
func alone(t *testing.T) (r *replicas, o *server.Options, room crypto.ID) {
	t.Helper()
	o = &server.Options{Host: "127.0.0.1", Port: freeport.Port(), JetStream: true, StoreDir: t.TempDir(), NoSigs: true}
	r = &replicas{t: t, began: time.Now(), options: []*server.Options{o}, servers: make([]*server.Server, 1)}
	r.start(0)
	t.Cleanup(func() { r.stop(0) })
	var err error
	r.eventually("connection", func() bool {
		r.nc, err = nats.Connect(r.servers[0].ClientURL(), nats.MaxReconnects(-1))
		return err == nil
	})
	t.Cleanup(r.nc.Close)
	if r.js, err = jetstream.New(r.nc); err != nil {
		t.Fatal(err)
	}
	if r.past, err = NewPast(r.nc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.past.Close)
	room = crypto.ID{1}
	if _, err := r.js.CreateStream(t.Context(), StreamForm(room, ledger.Policy{Retain: &ledger.Retain{Bytes: most}})); err != nil {
		t.Fatal(err)
	}
	for range places {
		if _, err := r.js.Publish(t.Context(), StoredSubject(room, crypto.PublicKey{1}), make([]byte, length)); err != nil {
			t.Fatal(err)
		}
	}
	return r, o, room
}

// TestLostEnd: when the only server has lost the files with the last messages and still says that they are there, an
// answer says that they are lost; those in the middle show by what comes behind them.
func TestLostEnd(t *testing.T) {
	r, o, room := alone(t)
	r.stop(0)
	blocks, err := filepath.Glob(filepath.Join(o.StoreDir, "jetstream", "$G", "streams", StreamName(room), "msgs", "*.blk"))
	if err != nil || len(blocks) < 3 {
		t.Fatalf("%d files: %v", len(blocks), err)
	}
	r.lose(0, room, fmt.Sprintf("%d.blk", len(blocks)))
	r.lose(0, room, "2.blk")
	r.start(0)
	r.eventually("stream", func() bool { i, err := r.past.Stream(t.Context(), room); return err == nil && i.Last == places })
	var read []uint64
	answer := func(q store.FramesQuery) (past store.Past) {
		t.Helper()
		r.eventually("an answer", func() bool { // a busy machine may not have one in time
			past, err = r.past.Frames(t.Context(), room, q, 1<<20)
			return !errors.Is(err, store.ErrUnavailable)
		})
		if err != nil {
			t.Fatalf("after %v: %v", read, err)
		}
		return past
	}
	past := store.Past{}
	for past.Lost == 0 {
		past = answer(store.FramesQuery{After: past.End()})
		for _, f := range past.Frames {
			read = append(read, f.Seq)
		}
	}
	last := read[len(read)-1]
	if past.Lost != places || last >= places || read[0] != 1 || len(read) >= int(last) {
		t.Errorf("lost to %d, behind %v", past.Lost, read)
	}
	for i, place := range read[1:] {
		if before := read[i]; place > before+1 {
			if past := answer(store.FramesQuery{After: before, Bytes: 1}); len(past.Frames) != 1 || past.Frames[0].Seq != place || past.Lost != 0 {
				t.Errorf("after %d, behind which %d is next: %d messages, lost to %d", before, place, len(past.Frames), past.Lost)
			}
		}
	}
	for n, after := range []uint64{last, last - 1} { // with nothing before what is lost, and with one
		if past := answer(store.FramesQuery{After: after}); len(past.Frames) != n || past.Lost != places {
			t.Errorf("after %d of %d: %d messages, lost to %d", after, last, len(past.Frames), past.Lost)
		}
	}
}

// TestLostEverywhere: what no replica has is lost once all can be asked, and until then it may come back.
// What was trimmed is gone all the same.
func TestLostEverywhere(t *testing.T) {
	r := newReplicas(t)
	hole, trimmed := r.room(1), r.room(2)
	s, err := r.js.Stream(t.Context(), StreamName(hole))
	for seq := uint64(10); seq < 20 && err == nil; seq++ {
		err = s.DeleteMsg(t.Context(), seq)
	}
	if err == nil {
		s, err = r.js.Stream(t.Context(), StreamName(trimmed))
	}
	if err == nil {
		err = s.Purge(t.Context(), jetstream.WithPurgeSequence(10))
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.servers {
		r.eventually("deletion everywhere", func() bool { return r.holds(i, hole) == places-10 && r.holds(i, trimmed) == places-9 })
	}
	r.whole(hole, trimmed)
	without := append(span(1, 9), span(20, places)...)
	if first, read, err := r.read(hole, store.FramesQuery{}); err != nil || first != 1 || !slices.Equal(read, without) {
		t.Errorf("a hole: %v from %d: %v", read, first, err)
	}
	for _, q := range []store.FramesQuery{{}, {Last: places}, {Since: r.began}} {
		if first, read, err := r.read(trimmed, q); err != nil || first != 10 || !slices.Equal(read, span(10, places)) {
			t.Errorf("trimmed: %v from %d: %v", read, first, err)
		}
	}
	// As if a replica had still held places 5 to 9 when it was asked where the room begins.
	late := &pastRead{p: r.past, room: trimmed, limit: 1 << 20, told: 10, start: 5}
	if err := late.run(t.Context()); err != nil || late.past.First != 10 || len(late.past.Frames) == 0 || late.past.Frames[0].Seq != 10 {
		t.Errorf("trimmed while it was read: from %d: %v", late.past.First, err)
	}
	r.stop(2)
	r.eventually("leader that knows that one is down", func() bool {
		for _, room := range []crypto.ID{hole, trimmed} {
			if info, err := r.past.Stream(t.Context(), room); err != nil || info.Whole {
				return false
			}
		}
		return true
	})
	if _, read, err := r.read(hole, store.FramesQuery{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a hole while one is down: %v: %v", read, err)
	}
	if first, read, err := r.read(trimmed, store.FramesQuery{}); err != nil || first != 10 || !slices.Equal(read, span(10, places)) {
		t.Errorf("trimmed while one is down: %v from %d: %v", read, first, err)
	}
}

// TestTrimmedMeanwhile: what is trimmed after the leader was asked how far the room reaches, and before it is read, is not
// lost: the room is said to begin behind it.
func TestTrimmedMeanwhile(t *testing.T) {
	r, _, room := alone(t)
	before, err := r.past.Stream(t.Context(), room)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := r.js.Stream(t.Context(), StreamName(room))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		what  string
		look  func(*pastRead) error
		purge []jetstream.StreamPurgeOpt
		first uint64
	}{
		{"a hole", func(p *pastRead) error { return p.hole(t.Context(), before) }, []jetstream.StreamPurgeOpt{jetstream.WithPurgeSequence(places - 2)}, places - 2},
		{"nothing", func(p *pastRead) error { return p.unreadable(t.Context(), before) }, nil, places + 1},
	} {
		if err := stream.Purge(t.Context(), v.purge...); err != nil {
			t.Fatal(err)
		}
		p := &pastRead{p: r.past, room: room, past: store.Past{First: before.First, Last: before.Last}, lacked: 3}
		if err := v.look(p); err != nil || p.past.First != v.first {
			t.Errorf("%s: the room begins at %d, not %d: %v", v.what, p.past.First, v.first, err)
		}
	}
}

// TestPartsOfThePast: an answer takes no more than there is space for, but one frame at least; a caller's own limit counts
// if it is lower, and a message that no member can have sent has no sender.
func TestPartsOfThePast(t *testing.T) {
	r, _, room := alone(t)
	frames := func(q store.FramesQuery, limit int) (seqs []uint64, past store.Past) {
		t.Helper()
		past, err := r.past.Frames(t.Context(), room, q, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range past.Frames {
			seqs = append(seqs, f.Seq)
		}
		return seqs, past
	}
	_, one := frames(store.FramesQuery{}, 1)
	size := one.Frames[0].Size()
	for what, c := range map[string]struct {
		q     store.FramesQuery
		limit int
		want  []uint64
	}{
		"hardly anything":  {store.FramesQuery{}, 1, span(1, 1)},
		"two":              {store.FramesQuery{After: 3}, 2 * size, span(4, 5)},
		"a lower limit":    {store.FramesQuery{Bytes: 2 * size}, 1 << 20, span(1, 2)},
		"a higher limit":   {store.FramesQuery{Bytes: 1 << 20}, 2 * size, span(1, 2)},
		"the last three":   {store.FramesQuery{Last: 3}, 1 << 20, span(places-2, places)},
		"behind the end":   {store.FramesQuery{After: places}, 1 << 20, nil},
		"none":             {store.FramesQuery{None: true}, 1 << 20, nil},
		"since later":      {store.FramesQuery{Since: time.Now().Add(time.Hour)}, 1 << 20, nil},
		"since the start":  {store.FramesQuery{Since: r.began}, 1 << 20, span(1, places)},
		"more than exists": {store.FramesQuery{Last: 1000}, 1 << 20, span(1, places)},
	} {
		if got, past := frames(c.q, c.limit); !slices.Equal(got, c.want) || past.First != 1 || past.Last != places || past.Lost != 0 {
			t.Errorf("%s: %v of %d to %d, lost %d", what, got, past.First, past.Last, past.Lost)
		}
	}
	if _, err := r.js.Publish(t.Context(), "unibus.s."+room.String()+".nobody", nil); err != nil {
		t.Fatal(err)
	}
	if _, past := frames(store.FramesQuery{Last: 1}, 1); past.Frames[0].Sender != (crypto.PublicKey{}) {
		t.Errorf("sent by %v", past.Frames[0].Sender)
	}
	sender := identity(t, 1).Key()
	if _, err := r.js.Publish(t.Context(), StoredSubject(room, sender), nil); err != nil {
		t.Fatal(err)
	}
	if _, past := frames(store.FramesQuery{Last: 1}, 1); past.Frames[0].Sender != sender {
		t.Errorf("sent by %v", past.Frames[0].Sender)
	}
	p := &pastRead{limit: size + 1, past: store.Past{Frames: one.Frames}, size: size}
	if err := p.add(one.Frames[0]); !errors.Is(err, errEnough) || !p.full || len(p.past.Frames) != 1 {
		t.Errorf("a replica gave more than fits: %v, %d frames", err, len(p.past.Frames))
	}
	if _, err := r.past.Frames(t.Context(), crypto.ID{99}, store.FramesQuery{}, 1); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a room without a stream: %v", err)
	}
}

// TestPartThatIsHardlyFull: an answer ends before a frame for which no space is left, also when it has hardly anything.
func TestPartThatIsHardlyFull(t *testing.T) {
	r, _, room := alone(t)
	sender := identity(t, 1).Key()
	for _, size := range []int{0, 0, length} {
		if _, err := r.js.Publish(t.Context(), StoredSubject(room, sender), make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	past, err := r.past.Frames(t.Context(), room, store.FramesQuery{Last: 3}, length)
	if err != nil || len(past.Frames) != 2 || past.End() != places+2 {
		t.Errorf("of two small ones, and one for which no space is left, it gives %d, %v", len(past.Frames), err)
	}
}

// TestUnreadable: what a replica does not give the leader is asked for, and only what nobody can give is passed over: once
// all replicas are there, and not for ever.
func TestUnreadable(t *testing.T) {
	r, _, room := alone(t)
	info, err := r.past.Stream(t.Context(), room)
	if err != nil {
		t.Fatal(err)
	}
	look := func() *pastRead {
		return &pastRead{p: r.past, room: room, limit: 1 << 20, past: store.Past{First: info.First, Last: info.Last}}
	}
	p := look()
	if err := p.one(t.Context(), info); err != nil || len(p.past.Frames) != 1 || p.past.Frames[0].Seq != 1 || len(p.past.Frames[0].Data) != length {
		t.Errorf("the leader's: %v, %d frames", err, len(p.past.Frames))
	}
	p = look()
	if err := p.unreadable(t.Context(), info); err != nil || p.low != 0 {
		t.Errorf("what is there: passed over up to %d, %v", p.low, err)
	}
	stream, err := r.js.Stream(t.Context(), StreamName(room))
	if err == nil {
		err = stream.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	part := info
	part.Whole = false
	if err := look().one(t.Context(), part); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("while a replica is down: %v", err)
	}
	far := info
	far.Last = 2 * maxProbes
	p = look()
	p.past.Last = far.Last
	if err := p.unreadable(t.Context(), far); err != nil || !p.full || p.low != maxProbes+1 {
		t.Errorf("passed over up to %d, full: %v, %v", p.low, p.full, err)
	}
}
