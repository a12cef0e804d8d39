package admin

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// dial connects to a server as its operator.
func (n *node) dial(t *testing.T) *nats.Conn {
	t.Helper()
	nc, err := n.acc.Dial(n.URL())
	must(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// TestScale: a bus that is kept on one server is kept on three, whole, and on no more than there are.
func TestScale(t *testing.T) {
	nodes := startCluster(t, 3)
	s := &served{node: nodes[0], store: nodes[0].open(t, 1)}
	from, rooms := migrated(t, s.store)
	finds(t, "on one", s.examine(t, repair), replicasWell(buckets), settingsWell, finding{"streams", Pass, 0, "made"})
	nc := s.dial(t)
	told := int64(0)
	scaled, err := Scale(t.Context(), nc, 3, func(done, all int64) {
		if told++; done != told || all != int64(buckets+3) {
			t.Errorf("%d of %d are done after %d", done, all, told)
		}
	})
	if err != nil || scaled != int64(buckets+3) || told != scaled {
		t.Fatalf("%d were scaled, %d told, %v", scaled, told, err)
	}
	finds(t, "on three", s.examine(t, onlyLook), finding{"replicas", Pass, 0, "9 streams, each on 3"}, settingsWell, streamsWell)
	must(t, verifySame(t.Context(), from, s.store, func() {}))
	if _, err := Scale(t.Context(), nc, 3, quiet); err != nil { // it may wait for a copy that is behind just now
		t.Errorf("again: %v", err)
	}
	if scaled, err := Scale(t.Context(), nc, 5, quiet); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "fewer than 5 servers") || scaled != 0 {
		t.Errorf("on more than there are: %d were scaled, %v", scaled, err)
	}
	if err := (&scaling{js: s.streams(t), replicas: 3}).scale(t.Context(), "UNIBUS_gone"); err != nil {
		t.Errorf("a stream that is gone meanwhile: %v", err)
	}
	calls := 0
	twice := &scaling{js: s.streams(t), replicas: 3, changed: map[string]bool{}, progress: func(done, all int64) {
		if calls++; done != 1 || all != 1 {
			t.Errorf("%d of %d are done", done, all)
		}
	}}
	for range 2 { // a copy may be behind again
		must(t, twice.round(t.Context(), []string{"KV_unibus_log"}))
	}
	if calls != 1 || len(twice.changed) != 1 {
		t.Errorf("one stream is told %d times, and counts as %d", calls, len(twice.changed))
	}
	s.change(t, rooms[1], func(c *jetstream.StreamConfig) { c.Replicas = 1 })
	finds(t, "one on one", s.examine(t, onlyLook), finding{"replicas", Warn, remedy.Scale, "1 on 1, 8 on 3"}, settingsWell, streamsWell)
	finds(t, "servers", func(report func(Check)) { Servers(t.Context(), &s.Links, report) },
		finding{"servers", Pass, 0, "3: a "}, finding{"server clocks", Pass, 0, ""}, finding{"durability", Pass, 0, ""},
		finding{"quorum", Pass, 0, "3 of 3 servers, led by "}, finding{"transport", Pass, 0, ""}, finding{"copies", Pass, 0, ""})
	behindOne(t, nodes, s)
}

// behindOne stops the last server: what it is to keep is behind, and scaling waits for it as long as it may.
func behindOne(t *testing.T, nodes []*node, s *served) {
	nodes[2].Stop()
	finds(t, "a server is gone", func(report func(Check)) {
		r := reporter{"replicas", report}
		if _, err := replicas(t.Context(), s.dial(t), s.acc.step(), r); err != nil {
			r.unknown(err)
		}
	}, finding{"replicas", Warn, remedy.AwaitCopies, "not current on every server"})
	ctx, end := context.WithTimeout(t.Context(), time.Second)
	defer end()
	if _, err := Scale(ctx, s.dial(t), 3, quiet); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server is gone: %v", err)
	}
}

// TestScaleRefused: without a store there is nothing to scale, without servers nobody to do it, and with one server no
// second copy.
func TestScaleRefused(t *testing.T) {
	n := startNode(t)
	if _, err := Scale(t.Context(), n.dial(t), 1, quiet); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no store: %v", err)
	}
	n.open(t, 1)
	if scaled, err := Scale(t.Context(), n.dial(t), 1, quiet); err != nil || scaled != 0 {
		t.Errorf("on one: %d were scaled, %v", scaled, err)
	}
	if scaled, err := Scale(t.Context(), n.dial(t), 3, quiet); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "stands alone") || scaled != 0 {
		t.Errorf("on more than there are: %d were scaled, %v", scaled, err)
	}
	s := &scaling{js: n.streams(t), replicas: 3, progress: quiet}
	names, err := s.unscaled(t.Context())
	must(t, err)
	if err := s.round(t.Context(), names); err == nil || len(names) < 2 || strings.Count(err.Error(), "stands alone") != 1 {
		t.Errorf("when the first of %d fails the others are asked for, too: %v", len(names), err)
	}
	gone := n.dial(t)
	gone.Close()
	if _, err := Scale(t.Context(), gone, 1, quiet); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a closed connection: %v", err)
	}
}
