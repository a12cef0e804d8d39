package jetstream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/store"
)

// done fails the test unless f returns before the store's OpTimeout; the time is one that only a failure takes.
func done(t *testing.T, what string, f func()) {
	t.Helper()
	end := make(chan struct{})
	go func() {
		defer close(end)
		f()
	}()
	select {
	case <-end:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: still under way", what)
	}
}

// drained returns when a watch has ended.
func drained(notices <-chan store.Notice) {
	for range notices {
	}
}

// TestWatchEnds: whatever has become of the servers, a watch ends with its context, and all with Close.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	founded(t, c.open(0, 1, 20*time.Second))
	for _, broken := range []struct {
		name string
		how  func(nc *nats.Conn)
	}{
		{"no connection", func(nc *nats.Conn) { nc.Close() }},
		{"no quorum", func(*nats.Conn) { c.stop(1); c.stop(2) }},
		{"no server", func(*nats.Conn) { c.stop(0) }},
	} {
		nc := c.connect(0, 1)
		s, err := Open(t.Context(), nc, Options{OpTimeout: time.Minute, Existing: true})
		must(t, err)
		t.Run(broken.name, func(t *testing.T) { watchEnds(t, s, func() { broken.how(nc) }) })
		for i, server := range c.servers {
			if server == nil && broken.name == "no quorum" {
				c.start(i)
			}
		}
	}
}

func watchEnds(t *testing.T, s *Store, breakDown func()) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	one, err := s.Watch(ctx)
	must(t, err)
	other, err := s.Watch(t.Context())
	must(t, err)
	breakDown()
	reading := make(chan struct{})
	go func() { // in the midst of what cannot be answered
		defer close(reading)
		_, _ = s.HasAdmin(t.Context())
	}()
	cancel()
	done(t, "the watch whose context ended", func() { drained(one) })
	done(t, "Close", func() { s.Close() })
	done(t, "the watch of a closed store", func() { drained(other) })
	done(t, "a read of a closed store", func() { <-reading })
	if _, err := s.Watch(t.Context()); err == nil {
		t.Error("a closed store is watched")
	}
}

// TestLayout: buckets of another build are refused with one clear line, and nothing is changed in them.
func TestLayout(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	s := c.open(0, 0, 20*time.Second)
	founded(t, s)
	for written, says := range map[string]string{"": "data of an earlier build", "1": "data of an earlier build", "999": "newer unibus needed"} {
		stream, err := s.js.Stream(t.Context(), s.keys.stream)
		must(t, err)
		config := stream.CachedInfo().Config
		config.Metadata[layoutKey] = written
		if written == "" {
			delete(config.Metadata, layoutKey)
		}
		_, err = s.js.UpdateStream(t.Context(), config)
		must(t, err)
		other, err := Open(t.Context(), c.connect(0, 0), Options{OpTimeout: 20 * time.Second})
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("layout %q: %v, %v", written, other, err)
		}
	}
}

// TestAnnounced: the server says which entry was written, and not what it says; a log that an earlier build
// made learns to.
func TestAnnounced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	old := c.open(0, 0, 20*time.Second)
	bus := founded(t, old)
	forget := func() {
		t.Helper()
		stream, err := old.js.Stream(t.Context(), old.log.stream)
		must(t, err)
		config := stream.CachedInfo().Config
		config.RePublish = nil
		_, err = old.js.UpdateStream(t.Context(), config)
		must(t, err)
	}
	forget()
	s := c.open(0, 0, 20*time.Second)
	nc := c.connect(0, 0)
	heard, err := nc.SubscribeSync(announcements)
	must(t, err)
	must(t, nc.Flush())
	room, create := newRoom(t, bus, "r")
	must(t, s.Append(t.Context(), create))
	m, err := heard.NextMsg(20 * time.Second)
	must(t, err)
	if want := "unibus.log." + room.ID.String() + ".1"; m.Subject != want || len(m.Data) > 0 || m.Header.Get(jetstream.SequenceHeader) == "" {
		t.Errorf("%s says %q", m.Subject, m.Data)
	}

	// Without announcements, as when they are lost, every entry is reported all the same.
	forget()
	notices, err := s.Watch(t.Context())
	must(t, err)
	for i := range 3 {
		other, create := newRoom(t, bus, "other"+string('a'+rune(i)))
		must(t, s.Append(t.Context(), create))
		select {
		case n := <-notices:
			if n.Log != other.ID || n.Seq != 1 {
				t.Errorf("a notice of %v", n)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no notice")
		}
	}
}

// TestFalseAnnouncement: who can publish where the server does makes nobody miss an entry.
func TestFalseAnnouncement(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	s := c.open(0, 0, 20*time.Second)
	bus := founded(t, s)
	notices, err := s.Watch(t.Context())
	must(t, err)
	room, create := newRoom(t, bus, "r")
	for _, seq := range []string{"18446744073709551615", "none", ""} {
		m := nats.NewMsg("unibus.log." + room.ID.String() + ".7")
		m.Header.Set(jetstream.SequenceHeader, seq)
		must(t, s.nc.PublishMsg(m))
	}
	must(t, s.Append(t.Context(), create))
	if n := <-notices; n.Log != room.ID || n.Seq != 1 {
		t.Errorf("the first notice is of %v", n)
	}
}
