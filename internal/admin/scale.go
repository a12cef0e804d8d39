package admin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/store"
	unibusjs "github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/open"
	"github.com/unibus/unibus/internal/tasks"
)

// Scaling goes in rounds: the streams that are not as they have to be are listed, and changed some at once, until a list
// is empty. In each round one goes first by itself, so that a cluster that cannot do it is asked once.

// The server's error codes for too few servers in its cluster, and for no cluster at all.
const (
	noPeers   = 10005
	noCluster = 10074
)

// lookEvery is how often a stream that is being copied is looked at.
const lookEvery = 200 * time.Millisecond

// Scale keeps the store's buckets and every room's stream on as many servers as replicas says, and
// returns how many it changed, when each copy is current. The bus goes on meanwhile. ErrNotFound when there is no store,
// ErrUnavailable when the cluster has too few servers, or does not answer; what was changed until then stays.
func Scale(ctx context.Context, nc *nats.Conn, replicas int, progress Progress) (streams int64, err error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(open.Slow))
	if err != nil {
		return 0, err
	}
	s := &scaling{js: js, replicas: replicas, progress: progress, changed: map[string]bool{}}
	for { // rooms that are made meanwhile come in the next round
		names, err := s.unscaled(ctx)
		if err != nil || len(names) == 0 {
			return int64(len(s.changed)), err
		}
		if err := s.round(ctx, names); err != nil {
			return int64(len(s.changed)), err
		}
	}
}

// scaling is what one Scale does.
type scaling struct {
	js       jetstream.JetStream
	replicas int
	progress Progress

	mu      sync.Mutex
	changed map[string]bool // streams; one of which a copy is behind again comes again in the next round
	all     int             // that were changed so far, and are to be in this round
	failed  error
}

// round scales streams, the first one before the others: if that fails, the others would fare no better. When it returns
// nothing of it is under way any more.
func (s *scaling) round(ctx context.Context, names []string) error {
	s.all = len(s.changed)
	for _, name := range names {
		if !s.changed[name] {
			s.all++
		}
	}
	s.one(ctx, names[0])
	var working tasks.Group
	run := working.Limit(workers)
	for _, name := range names[1:] {
		if s.outcome() != nil || !run(ctx, func() { s.one(ctx, name) }) {
			break
		}
	}
	working.Wait()
	return s.outcome()
}

// one scales a stream, and counts it or what it failed with.
func (s *scaling) one(ctx context.Context, name string) {
	err := s.scale(ctx, name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed = errors.Join(s.failed, err)
		return
	}
	if !s.changed[name] {
		s.changed[name] = true
		s.progress(int64(len(s.changed)), int64(s.all))
	}
}

// outcome is what streams of this round have failed with.
func (s *scaling) outcome() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// unscaled lists the streams that are not on as many servers, or not yet current on all, the log first:
// new rooms follow its number.
func (s *scaling) unscaled(ctx context.Context) ([]string, error) {
	first := "KV_" + unibusjs.Buckets[0]
	var names []string
	list := s.js.ListStreams(ctx)
	found := false
	for info := range list.Info() {
		name := info.Config.Name
		if !isOurs(name) {
			continue
		}
		found = found || name == first
		if info.Config.Replicas == s.replicas && bus.Current(info) {
			continue
		}
		names = append(names, name)
		if name == first {
			names[0], names[len(names)-1] = names[len(names)-1], names[0]
		}
	}
	if err := list.Err(); err != nil {
		return nil, unavailable(err)
	}
	if !found {
		return nil, fmt.Errorf("%w: there is no JetStream store here", store.ErrNotFound)
	}
	return names, nil
}

// scale changes a stream, and waits until every copy of it is current. One that is gone is fine: its room stopped storing.
func (s *scaling) scale(ctx context.Context, name string) error {
	stream, err := s.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	if cfg := stream.CachedInfo().Config; cfg.Replicas != s.replicas {
		cfg.Replicas = s.replicas
		_, err := s.js.UpdateStream(ctx, cfg)
		var e *jetstream.APIError
		switch {
		case errors.As(err, &e) && e.ErrorCode == noPeers:
			return fmt.Errorf("%w: the cluster has fewer than %d servers that could keep it", store.ErrUnavailable, s.replicas)
		case errors.As(err, &e) && e.ErrorCode == noCluster:
			return fmt.Errorf("%w: the server stands alone, and others could keep a copy only if it were one of a cluster", store.ErrUnavailable)
		case err != nil:
			return fmt.Errorf("%s: %w", name, unavailable(err))
		}
	}
	// A server that is gone may come back: this waits for as long as ctx lets it, and asks again after any error.
	for {
		info, err := stream.Info(ctx)
		if err == nil && info.Config.Replicas == s.replicas && bus.Current(info) || errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil
		}
		if err := tasks.Pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// unavailable is for servers that do not answer as they should.
func unavailable(err error) error { return fmt.Errorf("%w: %v", store.ErrUnavailable, err) }
