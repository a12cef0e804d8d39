package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// noPeers is the server's error code for too few servers.
const noPeers = 10005

// lookEvery is how often a stream that is being copied is looked at.
const lookEvery = 200 * time.Millisecond

// Scale keeps the store's buckets and every room's stream on as many servers as replicas says, and
// returns when each copy is current. The bus goes on meanwhile.
func Scale(ctx context.Context, nc *nats.Conn, replicas int, progress Progress) (streams int64, err error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(open.Slow))
	if err != nil {
		return 0, err
	}
	for { // rooms that are made meanwhile come in the next round
		names, err := unscaled(ctx, js, replicas)
		if err != nil || len(names) == 0 {
			return streams, err
		}
		all := streams + int64(len(names))
		if err := scale(ctx, js, names[0], replicas); err != nil { // the others would fare no better
			return streams, err
		}
		streams++
		progress(streams, all)
		var mu sync.Mutex
		var scaling tasks.Group
		run := scaling.Limit(workers)
		var failed error
		for _, name := range names[1:] {
			run(ctx, func() {
				err := scale(ctx, js, name, replicas)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed = errors.Join(failed, err)
					return
				}
				streams++
				progress(streams, all)
			})
			mu.Lock()
			stop := failed != nil
			mu.Unlock()
			if stop {
				break
			}
		}
		scaling.Wait()
		if failed != nil {
			return streams, failed
		}
	}
}

// ours reports whether a stream belongs to a bus: a bucket of the store, or a room's.
func ours(name string) bool {
	return strings.HasPrefix(name, "KV_unibus_") || strings.HasPrefix(name, "UNIBUS_")
}

// unscaled lists the streams that are not on as many servers, or not yet current on all, the log first:
// new rooms follow its number.
func unscaled(ctx context.Context, js jetstream.JetStream, replicas int) ([]string, error) {
	first := "KV_" + unibusjs.Buckets[0]
	var names []string
	list := js.ListStreams(ctx)
	found := false
	for info := range list.Info() {
		name := info.Config.Name
		if !ours(name) {
			continue
		}
		found = found || name == first
		if info.Config.Replicas == replicas && bus.Current(info) {
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

func scale(ctx context.Context, js jetstream.JetStream, name string, replicas int) error {
	s, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) { // its room stopped storing
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	if cfg := s.CachedInfo().Config; cfg.Replicas != replicas {
		cfg.Replicas = replicas
		_, err := js.UpdateStream(ctx, cfg)
		var e *jetstream.APIError
		if errors.As(err, &e) && e.ErrorCode == noPeers {
			return fmt.Errorf("%w: the cluster has fewer than %d servers that could keep it", store.ErrUnavailable, replicas)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, unavailable(err))
		}
	}
	for {
		info, err := s.Info(ctx)
		if err == nil && info.Config.Replicas == replicas && bus.Current(info) {
			return nil
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

func unavailable(err error) error { return fmt.Errorf("%w: %v", store.ErrUnavailable, err) }
