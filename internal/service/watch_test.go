package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/internal/host"
	"github.com/unibus/unibus/internal/store"
)

// watched is a watch of a real node, whose looks the test makes, with a log to read.
func watched(t *testing.T) (*watch, *bytes.Buffer) {
	t.Helper()
	n, _ := node(t, "")
	log := new(bytes.Buffer)
	w := newWatch(Options{
		Store: n.store, Links: n.links, Dir: t.TempDir(), KeptHere: true, Server: n.server, Log: slog.New(slog.NewTextHandler(log, nil)),
	}, new(seen), prometheus.NewRegistry())
	w.files = func() (host.Descriptors, error) { return host.Descriptors{Used: 1, Limit: 100}, nil }
	w.disk = func(string) (host.Disk, error) { return host.Disk{Free: 50 << 20, Total: 100 << 20}, nil }
	return w, log
}

// TestChanges: what goes on is told once, what changes again, and the end of it, if there was a beginning.
func TestChanges(t *testing.T) {
	log := new(bytes.Buffer)
	c := newChanges(slog.New(slog.NewTextHandler(log, nil)))
	var got []string
	for _, state := range []string{"", "a", "a", "b", "a", "", ""} {
		log.Reset()
		if state == "" {
			c.resolved("it", "well")
		} else {
			c.report(slog.LevelWarn, "it", state, state)
		}
		_, text, _ := strings.Cut(strings.TrimSpace(log.String()), "msg=")
		got = append(got, text)
	}
	if want := "|a||b|a|well|"; strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", strings.Join(got, "|"), want)
	}
}

// TestDisk: one line when something changes, and none while it stays.
func TestDisk(t *testing.T) {
	w, log := watched(t)
	for _, step := range []struct {
		free    uint64
		line    string
		healthy bool
	}{
		{50 << 20, "", true},
		{9 << 20, "the disk is nearly full", true},
		{9 << 20, "", true},
		{0, "the disk is full", false},
		{1, "", false},
		{host.FullBelow + 1, "", false}, // not yet worth writing to
		{50 << 20, "the disk has room again", true},
		{50 << 20, "", true},
	} {
		log.Reset()
		w.disk = func(string) (host.Disk, error) { return host.Disk{Free: step.free, Total: 100 << 20}, nil }
		w.machine()
		if got := log.String(); strings.Count(got, "\n") > 1 || !strings.Contains(got, step.line) || step.line == "" && got != "" {
			t.Errorf("with %d bytes: %q, want %q", step.free, got, step.line)
		}
		if err := w.healthy(); (err == nil) != step.healthy || err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("with %d bytes: %v", step.free, err)
		}
	}
}

// TestFullRefuses: while the disk is full the API says so to who would write, and to nobody else.
func TestFullRefuses(t *testing.T) {
	w, _ := watched(t)
	handler := w.refuse(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, full := range []bool{true, false} {
		free := uint64(50 << 20)
		if full {
			free = 0
		}
		w.disk = func(string) (host.Disk, error) { return host.Disk{Free: free, Total: 100 << 20}, nil }
		w.machine()
		for request, writing := range map[string]bool{
			"GET /users": false, "POST /heads": false, "POST /cards/query": false,
			"POST /logs": true, "POST /cards": true, "PUT /cards/x": true,
		} {
			method, path, _ := strings.Cut(request, " ")
			out := httptest.NewRecorder()
			handler.ServeHTTP(out, httptest.NewRequest(method, path, nil))
			want := http.StatusNoContent
			if full && writing {
				want = http.StatusServiceUnavailable
			}
			if out.Code != want || want != http.StatusNoContent && !strings.Contains(out.Body.String(), "disk of the server is full") {
				t.Errorf("full %v, %s: %d %s", full, request, out.Code, out.Body)
			}
		}
	}
}

// TestFullElsewhere: a store that other servers keep as well takes what this one has no room for.
func TestFullElsewhere(t *testing.T) {
	w, _ := watched(t)
	w.kept = false
	w.disk = func(string) (host.Disk, error) { return host.Disk{Total: 100 << 20}, nil }
	w.machine()
	out := httptest.NewRecorder()
	w.refuse(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })).
		ServeHTTP(out, httptest.NewRequest("POST", "/logs", nil))
	if out.Code != http.StatusNoContent || w.healthy() == nil {
		t.Errorf("%d, %v", out.Code, w.healthy())
	}
}

func TestFiles(t *testing.T) {
	w, log := watched(t)
	for _, step := range []struct {
		used uint64
		line string
	}{{10, ""}, {90, "running out"}, {95, ""}, {100, "none are left"}, {10, "again"}, {10, ""}} {
		log.Reset()
		w.files = func() (host.Descriptors, error) { return host.Descriptors{Used: step.used, Limit: 100}, nil }
		w.machine()
		got := log.String()
		if step.line == "none are left" {
			step.line = "no file descriptors are left"
		}
		if strings.Count(got, "\n") > 1 || !strings.Contains(got, step.line) || step.line == "" && got != "" {
			t.Errorf("with %d: %q, want %q", step.used, got, step.line)
		}
	}
}

// stuck is a server whose JetStream could not write.
type stuck struct {
	embedded
	restarts int
}

func (s *stuck) NeedsRestart() bool { return s.restarts == 0 }

func (s *stuck) RestartJetStream() error {
	s.restarts++
	return nil
}

// TestRestartsWithFiles: JetStream that lacked descriptors is started again once there are some.
func TestRestartsWithFiles(t *testing.T) {
	w, _ := watched(t)
	s := &stuck{embedded: w.server}
	w.server = s
	for _, step := range []struct {
		used     uint64
		restarts int
	}{{100, 0}, {90, 0}, {10, 1}, {10, 1}} {
		w.files = func() (host.Descriptors, error) { return host.Descriptors{Used: step.used, Limit: 100}, nil }
		w.machine()
		if s.restarts != step.restarts {
			t.Errorf("with %d of 100 in use it was started again %d times", step.used, s.restarts)
		}
	}
}

// failing is a server that does nothing of what it is told, as long as it fails.
type failing struct {
	embedded
	fails    error
	restart  bool // it needs to start again
	refusing bool
}

func (f *failing) NeedsRestart() bool { return f.restart }

func (f *failing) RefuseWrites(refuse bool) error {
	if f.fails == nil {
		f.refusing = refuse
	}
	return f.fails
}

func (f *failing) RestartJetStream() error {
	if f.fails == nil {
		f.restart = false
	}
	return f.fails
}

// TestRecovers: publishers are told of a full disk, and that it has room again; what fails of that is told once and tried
// again, and nothing is well before it has succeeded.
func TestRecovers(t *testing.T) {
	w, log := watched(t)
	s := &failing{embedded: w.server}
	w.server = s
	broken := errors.New("broken")
	for _, step := range []struct {
		free     uint64
		fails    error
		restart  bool
		line     string
		healthy  bool
		refusing bool
	}{
		{50 << 20, nil, false, "", true, false},
		{0, broken, false, "publishers cannot be told of the full disk", false, false},
		{0, broken, false, "", false, false},
		{0, nil, false, "", false, true},
		{50 << 20, broken, false, "publications are still refused", false, true},
		{50 << 20, broken, false, "", false, true},
		{50 << 20, nil, false, "", true, false},
		{50 << 20, broken, true, "JetStream does not start again", true, false},
		{50 << 20, broken, true, "", true, false},
		{50 << 20, nil, true, "JetStream was started again", true, false},
		{50 << 20, nil, false, "", true, false},
	} {
		log.Reset()
		w.disk = func(string) (host.Disk, error) { return host.Disk{Free: step.free, Total: 100 << 20}, nil }
		s.fails, s.restart = step.fails, step.restart
		w.machine()
		got := log.String()
		got = strings.Join(slices.DeleteFunc(strings.SplitAfter(got, "\n"), func(line string) bool {
			return strings.Contains(line, "the disk ") && !strings.Contains(line, "publishers")
		}), "")
		if strings.Count(got, "\n") != min(len(step.line), 1) || !strings.Contains(got, step.line) {
			t.Errorf("with %d bytes and %v: %q, want %q", step.free, step.fails, got, step.line)
		}
		if (w.healthy() == nil) != step.healthy || s.refusing != step.refusing {
			t.Errorf("with %d bytes and %v: %v, writes are refused: %v", step.free, step.fails, w.healthy(), s.refusing)
		}
	}
}

// TestAdvisories: a rescue of the meta group is told, once.
func TestAdvisories(t *testing.T) {
	w, log := watched(t)
	sub, err := w.advise()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for range 3 {
		if err := w.links.Sys.Publish("$JS.EVENT.ADVISORY.SERVER.META_RESCUE", []byte(`{"server":"n1"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.links.Sys.Publish("$JS.EVENT.ADVISORY.API", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for handled := int64(0); handled < 4 && ctx.Err() == nil; handled, _ = sub.Delivered() {
		_ = w.links.Sys.FlushWithContext(ctx) // Delivered tells
	}
	if err := sub.Drain(); err != nil {
		t.Fatal(err)
	}
	for sub.IsValid() && ctx.Err() == nil { // the last handler has returned when a drain ends
		_ = w.links.Sys.FlushWithContext(ctx)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "advisory=SERVER.META_RESCUE server=n1\n") { // and no name that it has not
		t.Errorf("log: %s", got)
	}
}

// TestStatus: the operator gets an answer at once, which says so as long as the streams were not looked at.
func TestStatus(t *testing.T) {
	n, _ := node(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		m, err := n.links.Sys.RequestWithContext(ctx, bus.StatusSubject, nil)
		var s bus.Status
		if errors.Is(err, nats.ErrNoResponders) {
			continue
		}
		if err != nil || json.Unmarshal(m.Data, &s) != nil || s.Disk.Total == 0 || s.Files.Limit == 0 || s.Full {
			t.Fatalf("%+v, %v", s, err)
		}
		if s.Looking() {
			continue
		}
		if s.Unseen {
			t.Errorf("the streams were looked at, and it says %+v", s)
		}
		return
	}
	t.Error("no answer")
}

func info(last uint64, created time.Time) *jetstream.StreamInfo {
	return &jetstream.StreamInfo{Created: created, State: jetstream.StreamState{FirstSeq: min(last, 1), LastSeq: last, Msgs: last}}
}

func never(uint64) bool { return false }

// TestMarks: what is told of a stream, look after look.
func TestMarks(t *testing.T) {
	first, second := time.Unix(1, 0).UTC(), time.Unix(2, 0).UTC()
	m := Marks{}
	for i, step := range []struct {
		now  *jetstream.StreamInfo
		tell string
		lost uint64
	}{
		{info(5, first), "", 0},
		{info(9, first), "", 0},
		{info(7, first), "shorter than it was left: it is at 7, and was at 9", 9},
		{info(8, first), "", 9},
		{info(0, second), "made anew: it is at 0, and was at 8", 9},
		{nil, "gone, which was at 9", 9},
		{info(20, second), "", 0},
	} {
		if tell := m.Compare("r", 1, step.now, first, never); !strings.Contains(tell, step.tell) || step.tell == "" && tell != "" || m["r"].Lost != step.lost {
			t.Errorf("step %d: %q, %+v", i, tell, m["r"])
		}
	}
	if tell := (Marks{}).Compare("r", 1, nil, first, never); tell != "" {
		t.Errorf("of a stream that never was: %q", tell)
	}
}

// TestMadeAnew: a stream that was made anew is told of once and remembered, however far it has come, until it is accepted, or is
// the one again that it was.
func TestMadeAnew(t *testing.T) {
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	m := Marks{}
	for i, step := range []struct {
		last, made uint64
		accept     bool
		tell       string
		short      string
	}{
		{0, 1, false, "", ""},
		{0, 2, false, "", ""}, // nothing was in it
		{3, 2, false, "", ""},
		{4, 3, false, "made anew: it is at 4, and was at 3", "made anew: it is at 4, and what it was before was at 3"},
		{6, 3, false, "", "made anew: it is at 6, and what it was before was at 3"},
		{9, 4, false, "made anew: it is at 9, and was at 6", "made anew: it is at 9, and what it was before was at 6"},
		{9, 2, false, "", ""}, // it was put back
		{2, 5, false, "made anew: it is at 2, and was at 9", "it is at 2, and was at 9"},
		{9, 5, false, "", "made anew: it is at 9, and what it was before was at 9"},
		{9, 5, true, "", ""},
		{9, 6, false, "made anew: it is at 9, and was at 9", "made anew: it is at 9, and what it was before was at 9"},
	} {
		now := info(step.last, at(int64(step.made)))
		tell := m.Compare("r", 1, now, at(0), never)
		if step.accept {
			m["r"] = m["r"].Accepted()
		}
		if short := m["r"].Short(); !strings.Contains(tell, step.tell) || (step.tell == "") != (tell == "") || !strings.Contains(short, step.short) || (step.short == "") != (short == "") {
			t.Errorf("step %d: %q, then %q", i, tell, short)
		}
	}
}

// TestLostBeginning: a stream that begins later than it did, and which of those its limits and the room's log excuse.
func TestLostBeginning(t *testing.T) {
	began := time.Unix(100000, 0).UTC()
	const day = 24 * time.Hour
	for _, step := range []struct {
		what   string
		age    time.Duration
		limit  int64
		was    uint64
		first  uint64
		change func(*Mark, *jetstream.StreamInfo)
		after  time.Duration
		lost   bool

		changed uint64 // the last entry that changed the policy
	}{
		{"without limits", 0, -1, 1, 301, nil, day, true, 0},
		{"nothing lost", 0, -1, 1, 1, nil, day, false, 0},
		{"of what was empty", 0, -1, 0, 301, nil, day, false, 0},
		{"before it expires", day, -1, 1, 301, nil, day / 2, true, 0},
		{"expired", day, -1, 1, 301, nil, day, false, 0},
		{"expired by another server's clock", day, -1, 1, 301, nil, day - clocks, false, 0},
		{"nothing was there that could expire", day, -1, 1, 301, func(m *Mark, _ *jetstream.StreamInfo) { m.Began = time.Time{} }, 0, false, 0},
		{"trimmed", 0, largest + 499, 1, 301, func(m *Mark, _ *jetstream.StreamInfo) { m.Last-- }, day, false, 0},
		{"with room for more", 0, largest + 500, 1, 301, func(m *Mark, _ *jetstream.StreamInfo) { m.Last-- }, day, true, 0},
		{"trimmed for nothing new", 0, largest, 1, 301, nil, day, true, 0},
		{"emptied by the log", 0, -1, 1, 301, func(m *Mark, _ *jetstream.StreamInfo) { m.Seq-- }, day, false, 7},
		{"after a change of the log that is none of the policy", 0, -1, 1, 301, func(m *Mark, _ *jetstream.StreamInfo) { m.Seq-- }, day, true, 6},
		{"emptied by a service that was slow", 0, -1, 1, 301, func(m *Mark, _ *jetstream.StreamInfo) { m.Before, m.Grown = 6, began.Add(day-time.Minute) }, day, false, 7},
		{"long after that", 0, -1, 1, 301, func(m *Mark, _ *jetstream.StreamInfo) { m.Before, m.Grown = 6, began }, day, true, 7},
		{"with another age", day, -1, 1, 301, func(_ *Mark, i *jetstream.StreamInfo) { i.Config.MaxAge = 2 * day }, day / 2, false, 0},
		{"with another size", 0, 2000, 1, 301, func(_ *Mark, i *jetstream.StreamInfo) { i.Config.MaxBytes = 3000 }, day, false, 0},
	} {
		mark := Mark{First: step.was, Began: began, Last: 900, Created: began, Age: step.age, Bytes: max(step.limit, 0), Seq: 7}
		now := info(900, began)
		now.State.FirstSeq, now.State.Msgs, now.State.Bytes = step.first, 900-step.first+1, 500
		now.Config.MaxAge, now.Config.MaxBytes = step.age, step.limit
		if step.change != nil {
			step.change(&mark, now)
		}
		m := Marks{"r": mark}
		tell := m.Compare("r", 7, now, began.Add(step.after), func(since uint64) bool { return since < step.changed })
		if lost := strings.Contains(tell, "lost its beginning: it begins at 301, and began at 1"); lost != step.lost || lost != (m["r"].Short() != "") {
			t.Errorf("%s: %q, %q", step.what, tell, m["r"].Short())
		}
		now.State.FirstSeq, now.State.Msgs = 1, 900
		if tell := m.Compare("r", 7, now, began, never); tell != "" || m["r"].Short() != "" {
			t.Errorf("%s, and it is there again: %q, %q", step.what, tell, m["r"].Short())
		}
	}
	m := Marks{"r": {First: 1, Last: 900, Created: began}}
	now := info(800, began)
	now.State.FirstSeq = 301
	if m.Compare("r", 0, now, began, never); m["r"].Begun != 1 || m["r"].Lost != 900 {
		t.Errorf("both ends lost: %+v", m["r"])
	}
}

// TestHoles: a place without a message inside a stream is told once, remembered until it is accepted, and told again
// when there are more.
func TestHoles(t *testing.T) {
	at := time.Unix(1, 0).UTC()
	m := Marks{}
	for i, step := range []struct {
		first, msgs uint64
		accept      bool
		tell, short string
	}{
		{1, 9, false, "", ""},
		{1, 7, false, "its stream lost messages: it lacks 2 of its places 1 to 9", "it lacks 2 of its places 1 to 9"},
		{1, 7, false, "", "it lacks 2 of its places 1 to 9"},
		{1, 7, true, "", ""},
		{1, 6, false, "its stream lost messages: it lacks 3 of its places 1 to 9", "it lacks 3 of its places 1 to 9"},
		{1, 9, false, "", ""},
		{1, 7, false, "its stream lost messages: it lacks 2 of its places 1 to 9", "it lacks 2 of its places 1 to 9"},
		{10, 0, true, "its stream lost its beginning: it begins at 10, and began at 1", ""},
	} {
		now := info(9, at)
		now.State.FirstSeq, now.State.Msgs = step.first, step.msgs
		if tell := m.Compare("r", 1, now, at, never); tell != step.tell {
			t.Errorf("step %d: %q, %+v", i, tell, m["r"])
		}
		if step.accept {
			m["r"] = m["r"].Accepted()
		}
		if short := m["r"].Short(); short != step.short {
			t.Errorf("step %d: it is %q", i, short)
		}
	}
}

func TestMarksFile(t *testing.T) {
	file := MarksFile(t.TempDir())
	if m, err := LoadMarks(file); err != nil || len(m) != 0 {
		t.Fatalf("without a file: %v, %v", m, err)
	}
	m := Marks{"r": {Last: 7, Created: time.Unix(1, 0).UTC(), Lost: 9}}
	if err := m.Save(file); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadMarks(file); err != nil || got["r"] != m["r"] {
		t.Errorf("%v, %v", got, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-3] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadMarks(file); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a damaged file: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".unibus-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestHTTPBounds: a connection over TCP does not stay for as long as it likes.
func TestHTTPBounds(t *testing.T) {
	s := newHTTP(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout == 0 || s.IdleTimeout == 0 || s.MaxHeaderBytes == 0 {
		t.Error("without bounds")
	}
}

// TestHTTPLog: a complaint is passed on once.
func TestHTTPLog(t *testing.T) {
	log := new(bytes.Buffer)
	l := &httpLog{log: slog.New(slog.NewTextHandler(log, nil))}
	for range 3 {
		_, _ = io.WriteString(l, "http: Accept error: too many open files; retrying in 5ms\n")
	}
	if strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log: %s", log)
	}
}

// TestExposed: an API that other machines reach is told of; this machine's is not.
func TestExposed(t *testing.T) {
	for listen, want := range map[string]bool{"": false, "127.0.0.1:1": false, "[::1]:1": false, "10.0.0.1:1": true, ":1": true} {
		log := new(bytes.Buffer)
		new(Node).exposed(NodeOptions{HTTP: listen, Log: slog.New(slog.NewTextHandler(log, nil))})
		if (log.Len() > 0) != want {
			t.Errorf("%q: %s", listen, log)
		}
	}
}

// TestWithin: what does not end is not waited for.
func TestWithin(t *testing.T) {
	end := make(chan struct{})
	if within(time.Nanosecond, func() { <-end }) {
		t.Error("it was waited for")
	}
	close(end)
	if !within(time.Minute, func() {}) {
		t.Error("it was not waited for")
	}
}

// TestStartCalledOff: a start ends with its context, also one that waits for other servers. It is called off once
// its server listens for those: before that the library may go on to listen although it was told to stop.
func TestStartCalledOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	others := freeport.Local()
	var listens sync.WaitGroup
	listens.Go(func() {
		for {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", others)
			if err == nil {
				c.Close()
				cancel()
			}
			if ctx.Err() != nil {
				return
			}
		}
	})
	n, err := StartNode(ctx, NodeOptions{
		Store: JetStream, Listen: "127.0.0.1:0", Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Cluster: bus.Cluster{Name: "c", Listen: others, Routes: []string{"127.0.0.1:1"}},
	})
	if err == nil {
		n.Stop()
		t.Error("it started")
	}
	cancel()
	listens.Wait()
}

// TestScrubTells: what is damaged in a server's files is told, and that it is whole again.
func TestScrubTells(t *testing.T) {
	o := inFolder(t)
	n, err := StartNode(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	js, err := jetstream.New(n.links.Store)
	if err == nil {
		_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "UNIBUS_r", Subjects: []string{"scrubbed"}})
	}
	if err == nil {
		_, err = js.Publish(t.Context(), "scrubbed", []byte("a message"))
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(o.Dir, "jetstream", "jetstream", bus.AccountStore, "streams", "UNIBUS_r", "msgs", "1.blk")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	log := new(bytes.Buffer)
	s := newScrub(slog.New(slog.NewTextHandler(log, nil)), n.server)
	damaged := bytes.Replace(text, []byte("a message"), []byte("b message"), 1)
	for _, step := range []struct {
		text []byte
		says string
	}{{text, ""}, {damaged, "damaged or lost"}, {text, "whole again"}} {
		if err := os.WriteFile(file, step.text, 0o600); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		s.look(t.Context(), []string{"UNIBUS_r"})
		if !strings.Contains(log.String(), step.says) || step.says == "" && log.Len() > 0 {
			t.Errorf("it says %q, not %q", log, step.says)
		}
		if lacking := len(told(s).Lacking) > 0; lacking != (step.says == "damaged or lost") {
			t.Errorf("something is lacking: %v", lacking)
		}
	}
}

// TestScrubWords: what is damaged and needed is told otherwise than what is damaged and not needed any more, and both are
// found until they are whole.
func TestScrubWords(t *testing.T) {
	log := new(bytes.Buffer)
	s := newScrub(slog.New(slog.NewTextHandler(log, nil)), nil)
	s.run(t.Context()) // the files of external servers are theirs: it looks at nothing, and ends
	for _, step := range []struct {
		lack        bus.Lack
		says, found string
	}{
		{bus.Lack{}, "", ""},
		{bus.Lack{Dead: 2}, "make a backup now", "2 records of what was removed or overwritten are damaged"},
		{bus.Lack{Dead: 2}, "", "2 records of what was removed or overwritten are damaged"},
		{bus.Lack{Held: 1, Dead: 2}, "a backup has to be restored", "1 of what it holds cannot be read"},
		{bus.Lack{}, "whole again", ""},
	} {
		log.Reset()
		s.tell("UNIBUS_r", step.lack)
		if got := log.String(); strings.Count(got, "\n") != min(len(step.says), 1) || !strings.Contains(got, step.says) {
			t.Errorf("of %+v it says %q, not %q", step.lack, got, step.says)
		}
		if lacking := told(s).Lacking; !strings.HasPrefix(lacking["UNIBUS_r"], step.found) || step.found == "" && len(lacking) > 0 {
			t.Errorf("of %+v it has found %q", step.lack, lacking)
		}
	}
}
