package service

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store/remote"
	"github.com/unibus/unibus/internal/store/storetest"
)

// looked is a look at the streams of a real node that has a room with frames in it; the test makes each look.
type looked struct {
	*testing.T
	*streamWatch
	n     *Node
	admin *crypto.Identity
	api   *remote.Store
	room  *ledger.State
	js    jetstream.JetStream
	said  bytes.Buffer
}

const framesLooked = 30

func newLooked(t *testing.T) *looked {
	t.Helper()
	l := &looked{T: t}
	l.n, l.admin = node(t, "")
	l.api, l.room = roomOf(t, l.n, l.admin, "r", &ledger.Retain{})
	fill(t, l.n, l.room.ID, l.admin, framesLooked)
	var err error
	if l.js, err = jetstream.New(l.n.links.Store); err != nil {
		t.Fatal(err)
	}
	l.again(t.TempDir())
	return l
}

// again begins to look anew, with what a folder remembers, as a service does that starts.
func (l *looked) again(dir string) {
	w := newWatch(Options{
		Store: l.n.store, Links: l.n.links, Dir: dir, Log: slog.New(slog.NewTextHandler(&l.said, nil)),
	}, new(seen), prometheus.NewRegistry())
	l.streamWatch = w.streams
}

// tells looks, and wants the log to have one line with a text, or none for no text.
func (l *looked) tells(text string) {
	l.Helper()
	l.said.Reset()
	l.next = time.Time{}
	if looked, copied := l.look(l.Context()); !looked || copied {
		l.Errorf("it has looked: %v; at streams on several servers: %v", looked, copied)
	}
	if got := l.said.String(); strings.Count(got, "\n") != min(len(text), 1) || !strings.Contains(got, text) {
		l.Errorf("it tells %q, not %q", got, text)
	}
}

// mark is what is remembered of the room's stream.
func (l *looked) mark() Mark {
	l.Helper()
	m, err := LoadMarks(l.file)
	if err != nil {
		l.Fatal(err)
	}
	return m[l.room.ID.String()]
}

// TestLooks: a stream that is gone, or was made anew, is told of once, and until a person accepts it what it lacks is
// remembered, across starts.
func TestLooks(t *testing.T) {
	l := newLooked(t)
	cut, cancel := context.WithCancel(t.Context())
	cancel()
	if looked, _ := l.look(cut); !looked || l.compared {
		t.Errorf("it has looked for streams that it could not list: %v, and has compared them: %v", looked, l.compared)
	}
	l.next = time.Time{}
	l.tells("")
	if !l.compared {
		t.Error("the streams were not held against anything")
	}
	if m := l.mark(); m.Last != framesLooked || m.First != 1 {
		t.Errorf("it is remembered to go from %d to %d", m.First, m.Last)
	}
	if looked, _ := l.look(t.Context()); looked {
		t.Error("it looks again at once")
	}
	if err := l.js.DeleteStream(t.Context(), bus.StreamName(l.room.ID)); err != nil {
		t.Fatal(err)
	}
	l.tells("its stream is gone, which was at 30")
	l.tells("")
	if l.lost["r"] == "" {
		t.Error("nothing is wrong with the room")
	}
	streams, err := bus.NewStreams(l.n.links.Store, func(context.Context) (int, error) { return 1, nil })
	if err == nil {
		err = streams.Ensure(t.Context(), l.room.ID, newLogs(l.n.store).policy(l.room.ID))
	}
	if err != nil {
		t.Fatal(err)
	}
	l.tells("its stream was made anew: it is at 0, and was at 30")
	l.tells("")
	l.again(filepath.Dir(l.file))
	l.tells("a room's stream is not what it once was")
	m := Marks{l.room.ID.String(): l.mark().Accepted()}
	if err := m.Save(l.file); err != nil {
		t.Fatal(err)
	}
	l.tells("a room's stream is taken for what it has to be again")
	l.tells("")
}

// TestLooksArchived: of a room that is archived nothing is remembered: its stream may go.
func TestLooksArchived(t *testing.T) {
	l := newLooked(t)
	l.tells("")
	storetest.Write(t, l.api, l.room, l.admin, &ledger.Archive{})
	l.tells("")
	if m := l.mark(); m != (Mark{}) {
		t.Errorf("it is remembered to be %+v", m)
	}
	if err := l.js.DeleteStream(t.Context(), bus.StreamName(l.room.ID)); err != nil {
		t.Fatal(err)
	}
	l.tells("")
}

// TestLooksUnremembered: what is remembered and cannot be read is told, and so is that nothing is where something was; both
// not twice.
func TestLooksUnremembered(t *testing.T) {
	l := newLooked(t)
	l.tells("")
	good, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ file, tells string }{
		{"damaged", "streams that went back would not be noticed"}, {"damaged", ""}, {string(good), ""},
	} {
		if err := os.WriteFile(l.file, []byte(step.file), 0o600); err != nil {
			t.Fatal(err)
		}
		l.tells(step.tells)
	}
	old := t.TempDir()
	if err := os.WriteFile(filepath.Join(old, keptFile), []byte(SQLiteFile), 0o600); err != nil {
		t.Fatal(err)
	}
	l.again(old)
	l.tells("nothing was remembered of the rooms' streams")
	l.tells("")
	l.again("") // without a folder there is nothing to remember, and nothing is
	l.tells("")
}

// TestPolicyChanged: only a change of a room's policy after an entry excuses a stream, as far as the log can be read.
func TestPolicyChanged(t *testing.T) {
	l := newLooked(t)
	policy := plainPolicy()
	policy.Retain = nil
	storetest.Write(t, l.api, l.room, l.admin, &ledger.SetPolicy{Policy: policy})
	for name, c := range map[string]struct {
		room  crypto.ID
		since uint64
		want  bool
	}{
		"since its first entry":          {l.room.ID, 1, true},
		"since that change":              {l.room.ID, 2, false},
		"of the bus, which has none":     {l.n.Bus, 0, false},
		"of a room that nobody can tell": {crypto.ID{1}, 0, false},
	} {
		if got := l.policyChanged(t.Context(), c.room)(c.since); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestTellsBehind: a copy of a stream of the bus that is not current is told of after a while, with its stream, and that it
// is current again; others' streams are not the service's.
func TestTellsBehind(t *testing.T) {
	l := newLooked(t)
	copied := func(current bool) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{
			Config:  jetstream.StreamConfig{Replicas: 2},
			Cluster: &jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{{Name: "b", Current: current}}},
		}
	}
	const own, others = "UNIBUS_r", "ORDERS"
	for i, step := range []struct {
		patience time.Duration
		found    map[string]*jetstream.StreamInfo
		tells    string
	}{
		{0, map[string]*jetstream.StreamInfo{own: copied(true), others: copied(false)}, ""},
		{time.Hour, map[string]*jetstream.StreamInfo{own: copied(false)}, ""},
		{0, map[string]*jetstream.StreamInfo{own: copied(false)}, "copies of streams are behind"},
		{0, map[string]*jetstream.StreamInfo{own: copied(false)}, ""},
		{0, map[string]*jetstream.StreamInfo{own: copied(true)}, "every copy of the streams is current again"},
		{time.Hour, map[string]*jetstream.StreamInfo{own: copied(false)}, ""},
		{0, map[string]*jetstream.StreamInfo{}, ""}, // it is gone, which is told otherwise
	} {
		l.said.Reset()
		l.patience = step.patience
		l.tellBehind(step.found)
		if got := l.said.String(); strings.Count(got, "\n") != min(len(step.tells), 1) || !strings.Contains(got, step.tells) {
			t.Errorf("step %d: it tells %q, not %q", i, got, step.tells)
		}
	}
}

// TestTellsUnlike: servers that do not say what they hold are told of, once, and that they do again; and what a look has
// found to be unlike is told of when it is alike again.
func TestTellsUnlike(t *testing.T) {
	l := newLooked(t)
	links, closed := *l.n.links, *l.n.links
	peer := mustDial(t, l.n, l.admin, l.n.Bus)
	peer.Close()
	closed.Sys = peer.Conn
	for _, step := range []struct {
		links *bus.Links
		tells string
	}{
		{&links, ""}, {&closed, "the copies of streams could not be compared"}, {&closed, ""}, {&links, "the copies of streams can be compared again"},
	} {
		l.said.Reset()
		l.links = step.links
		l.tellUnlike(t.Context())
		if got := l.said.String(); strings.Count(got, "\n") != min(len(step.tells), 1) || !strings.Contains(got, step.tells) {
			t.Errorf("it tells %q, not %q", got, step.tells)
		}
	}
	l.said.Reset()
	l.unlike = map[string]string{"UNIBUS_r": "in its messages"}
	l.report(slog.LevelError, "copies UNIBUS_r", "in its messages", "the copies of a stream are not alike")
	l.tellUnlike(t.Context())
	if got := l.said.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "the copies of a stream are alike again") {
		t.Errorf("it tells %q", got)
	}
}

// TestBusLogLost: a running service tells that its servers have lost the end of the bus log, with what helps, and that it is
// there again.
func TestBusLogLost(t *testing.T) {
	n, _ := node(t, JetStream)
	var said bytes.Buffer
	w := newWatch(Options{Store: n.store, Links: n.links, Log: slog.New(slog.NewTextHandler(&said, nil))}, n.seen, prometheus.NewRegistry())
	first, err := n.store.Bus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(n.links.Store)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		lose  bool
		tells string
	}{{false, ""}, {true, "the store lost the end of the bus log: " + takeAsItIs(n.seen.file)}, {false, "the bus log goes on from what was seen of it again"}} {
		said.Reset()
		if step.lose {
			loseEntry(t, n, 1)
		} else if step.tells != "" {
			if _, err := js.Publish(t.Context(), "$KV.unibus_log."+n.Bus.String()+".1", first); err != nil {
				t.Fatal(err)
			}
		}
		w.busLog(t.Context())
		if got := said.String(); strings.Count(got, "\n") != min(len(step.tells), 1) || !strings.Contains(got, step.tells) {
			t.Errorf("it tells %q, not %q", got, step.tells)
		}
	}
}
