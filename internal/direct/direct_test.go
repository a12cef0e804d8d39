package direct

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect starts a server and connects to it.
func connect(t *testing.T) *nats.Conn {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, DontListen: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	nc, err := nats.Connect("", nats.InProcessServer(ns))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// record is a message as a server sends it: its place, and that of the one before. The headers that its writer
// chose come first.
func record(seq, before string) nats.Header {
	return nats.Header{
		"Status": {"204"}, "Nats-Subject": {"forged", "s.a"}, "Nats-Sequence": {"99", seq}, "Nats-Last-Sequence": {"98", before},
	}
}

func ending(status, last, pending string) nats.Header {
	return nats.Header{"Status": {status}, "Nats-Last-Sequence": {last}, "Nats-Num-Pending": {pending}}
}

// TestAnswers: an answer counts when all of it has arrived, and only the server's headers count in it.
func TestAnswers(t *testing.T) {
	nc := connect(t)
	c, err := New(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, a := range map[string]struct {
		parts []nats.Header
		n     int
		more  bool
		err   error
	}{
		"whole":                  {parts: []nats.Header{record("3", "0"), record("5", "3"), ending("204", "5", "0")}, n: 2},
		"cut off by the server":  {parts: []nats.Header{record("3", "0"), ending("204", "3", "1")}, n: 1, more: true},
		"nothing there":          {parts: []nats.Header{ending("404", "", "")}, err: ErrNone},
		"the first is missing":   {parts: []nats.Header{record("5", "3"), ending("204", "5", "0")}, err: ErrLost},
		"one between is missing": {parts: []nats.Header{record("3", "0"), record("7", "5"), ending("204", "7", "0")}, n: 1, err: ErrLost},
		"the last is missing":    {parts: []nats.Header{record("3", "0"), ending("204", "5", "0")}, n: 1, err: ErrLost},
		"one cannot be read":     {parts: []nats.Header{record("3", "0"), ending("404", "", "")}, n: 1, err: ErrNone},
		"too many":               {parts: []nats.Header{ending("413", "", "")}, err: ErrMany},
		"no stream":              {parts: []nats.Header{ending("503", "", "")}, err: nats.ErrNoResponders},
		"an unknown status":      {parts: []nats.Header{ending("500", "", "")}, err: store.ErrUnavailable},
		"no place":               {parts: []nats.Header{record("", "0")}, err: store.ErrUnavailable},
		"no end":                 {parts: []nats.Header{record("3", "0")}, n: 1, err: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			sub, err := nc.Subscribe("$JS.API.DIRECT.GET.S", func(m *nats.Msg) {
				for _, h := range a.parts {
					_ = m.RespondMsg(&nats.Msg{Header: h})
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			limit := 20 * time.Second
			if errors.Is(a.err, context.DeadlineExceeded) {
				limit = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			n := 0
			more, err := c.Get(ctx, "S", Request{Seq: 1}, func(*nats.Msg) error { n++; return nil })
			if !errors.Is(err, a.err) || n != a.n || more != a.more {
				t.Errorf("%d messages, more: %v, %v", n, more, err)
			}
		})
	}
}

// TestLeader: a leader is believed when a quorum follows it, and only then.
func TestLeader(t *testing.T) {
	nc := connect(t)
	const state = `"state":{"messages":2,"bytes":9,"first_seq":4,"last_seq":5}`
	replicas := func(list string) string {
		return `{"config":{"num_replicas":3},` + state + `,"cluster":{"leader":"a","replicas":[` + list + `]}}`
	}
	const follows, lags, quiet, never = `{"current":true,"active":1000}`, `{"current":false,"active":1000}`, `{"current":true,"active":3000000000}`, `{"current":true,"active":0}`
	for name, c := range map[string]struct {
		answer string
		err    error
	}{
		"a server by itself":   {answer: `{"config":{"num_replicas":1},` + state + `}`},
		"one follows":          {answer: replicas(follows + "," + lags)},
		"none follows":         {answer: replicas(lags + "," + lags), err: store.ErrUnavailable},
		"none heard of lately": {answer: replicas(quiet + "," + quiet), err: store.ErrUnavailable},
		"none ever heard of":   {answer: replicas(never + "," + never), err: store.ErrUnavailable},
		"no leader":            {answer: `{"config":{"num_replicas":1},` + state + `,"cluster":{"leader":""}}`, err: store.ErrUnavailable},
		"a single one in many": {answer: `{"config":{"num_replicas":1},` + state + `,"cluster":{"leader":"a"}}`},
		"no stream":            {answer: `{"error":{"code":404}}`, err: store.ErrNotFound},
		"an error":             {answer: `{"error":{"code":503}}`, err: store.ErrUnavailable},
		"what is no answer":    {answer: `{`, err: store.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			sub, err := nc.Subscribe("$JS.API.STREAM.INFO.S", func(m *nats.Msg) { _ = m.Respond([]byte(c.answer)) })
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			info, err := Leader(t.Context(), nc, "S")
			if !errors.Is(err, c.err) || err == nil && (info.First != 4 || info.Last != 5) {
				t.Errorf("%+v, %v", info, err)
			}
		})
	}
	if _, err := Leader(t.Context(), nc, "S"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("nobody answers: %v", err)
	}
}

// TestLowest: the lowest place that any replica begins with counts; one that holds nothing counts for none, and one that
// does not answer, or not as it has to, for an error.
func TestLowest(t *testing.T) {
	nc := connect(t)
	c, err := New(nc)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	holds := func(seq string) []nats.Header { return []nats.Header{record(seq, "0"), ending("204", seq, "0")} }
	nothing, many := []nats.Header{ending("404", "", "")}, []nats.Header{ending("413", "", "")}
	for name, a := range map[string]struct {
		replicas [][]nats.Header // nil: it does not answer
		lowest   uint64
		err      error
	}{
		"all alike":                 {[][]nats.Header{holds("7"), holds("7"), holds("7")}, 7, nil},
		"one has lost its begin":    {[][]nats.Header{holds("9"), holds("4"), holds("7")}, 4, nil},
		"one has nothing":           {[][]nats.Header{nothing, holds("7"), nothing}, 7, nil},
		"none has anything":         {[][]nats.Header{nothing, nothing, nothing}, 0, nil},
		"one does not answer":       {[][]nats.Header{holds("7"), nil, holds("4")}, 0, store.ErrUnavailable},
		"one answers with too much": {[][]nats.Header{holds("7"), many, holds("4")}, 0, ErrMany},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			sub, err := nc.Subscribe("$JS.API.DIRECT.GET.S", func(m *nats.Msg) {
				for _, h := range a.replicas[asked] {
					_ = m.RespondMsg(&nats.Msg{Header: h})
				}
				asked++
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			limit := 20 * time.Second
			if errors.Is(a.err, store.ErrUnavailable) {
				limit = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if lowest, err := c.Lowest(ctx, "S", Request{Seq: 1, Batch: 1}, len(a.replicas)); !errors.Is(err, a.err) || err == nil && lowest != a.lowest {
				t.Errorf("%d, %v", lowest, err)
			}
		})
	}
}

// TestOne: the leader gives one message, has none there, or does not say.
func TestOne(t *testing.T) {
	nc := connect(t)
	if _, err := One(t.Context(), nc, "S", 3); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("nobody answers: %v", err)
	}
	for name, c := range map[string]struct {
		answer string
		want   Message
		err    error
	}{
		"there":             {`{"message":{"subject":"s.a","seq":3,"data":"YWJj","time":"2026-01-02T03:04:05Z"}}`, Message{Subject: "s.a", Seq: 3}, nil},
		"not there":         {`{"error":{"code":404}}`, Message{}, ErrNone},
		"an error":          {`{"error":{"code":503}}`, Message{}, store.ErrUnavailable},
		"what is no answer": {`{`, Message{}, store.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan string, 1)
			sub, err := nc.Subscribe("$JS.API.STREAM.MSG.GET.S", func(m *nats.Msg) {
				asked <- string(m.Data)
				_ = m.Respond([]byte(c.answer))
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			m, err := One(t.Context(), nc, "S", 3)
			if !errors.Is(err, c.err) || m.Subject != c.want.Subject || m.Seq != c.want.Seq || err == nil && (string(m.Data) != "abc" || m.Time.Year() != 2026) {
				t.Errorf("%+v, %v", m, err)
			}
			if text := <-asked; text != `{"seq":3}` {
				t.Errorf("asked for %s", text)
			}
		})
	}
}

// TestOtherEnds: reading ends with what f says, and with the connection; leaders are asked until a context ends.
func TestOtherEnds(t *testing.T) {
	nc := connect(t)
	c, err := New(nc)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := nc.Subscribe("$JS.API.DIRECT.GET.S", func(m *nats.Msg) {
		for range 2 * maxReplies { // more than anybody waits for
			_ = m.RespondMsg(&nats.Msg{Header: record("3", "0")})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	if _, err := c.Get(t.Context(), "S", Request{Seq: 1, Batch: 1}, func(*nats.Msg) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Leader(ended, nc, "S"); !errors.Is(err, context.Canceled) {
		t.Errorf("a leader: %v", err)
	}
	nc.Close()
	if _, err := c.Get(t.Context(), "S", Request{Seq: 1}, func(*nats.Msg) error { return nil }); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("over a closed connection: %v", err)
	}
	if len(c.open) > 0 {
		t.Errorf("%d answers are waited for still", len(c.open))
	}
	if _, err := New(nc); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("over a closed connection: %v", err)
	}
	c.Close()
}
