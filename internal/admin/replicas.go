package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/shown"
	"github.com/unibus/unibus/internal/tasks"
)

// On how many servers the streams of a bus are kept, and whether each copy has all that there is. Streams (streams.go) and
// Scale (scale.go) go on with what is found here.

// Copies are behind for a moment whenever something is stored: it is looked again at those that were.
const (
	behindLooks = 5
	behindWait  = 300 * time.Millisecond
)

// foundStream is a stream that is there.
type foundStream struct {
	name   string
	config jetstream.StreamConfig
}

// isOurs reports whether a stream belongs to a bus: a bucket of the store, or a room's.
func isOurs(name string) bool {
	return strings.HasPrefix(name, "KV_unibus_") || isRooms(name)
}

// isRooms reports whether a stream is a room's.
func isRooms(name string) bool { return strings.HasPrefix(name, "UNIBUS_") }

// replicas looks at the copies of all streams that are a bus's, and returns what streams there are. An error is that they
// cannot be listed; nothing is reported then.
func replicas(ctx context.Context, nc *nats.Conn, step time.Duration, r reporter) (found []foundStream, err error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(step))
	if err != nil {
		return nil, err
	}
	var behind []string
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		name := info.Config.Name
		if !isOurs(name) {
			continue
		}
		found = append(found, foundStream{name, info.Config})
		if !bus.Current(info) {
			behind = append(behind, name)
		}
	}
	if err := list.Err(); err != nil {
		return nil, err
	}
	if behind, err = stillBehind(ctx, js, behind); err != nil {
		return nil, err
	}
	reportReplicas(found, behind, r)
	return found, nil
}

// stillBehind returns those of some streams whose copies are not current at any of a few more looks.
func stillBehind(ctx context.Context, js jetstream.JetStream, behind []string) ([]string, error) {
	for range behindLooks {
		if len(behind) == 0 {
			break
		}
		if err := tasks.Pause(ctx, behindWait); err != nil {
			return nil, err
		}
		// One that does not answer is still behind, for all that is known.
		behind = slices.DeleteFunc(behind, func(name string) bool {
			s, err := js.Stream(ctx, name)
			return err == nil && bus.Current(s.CachedInfo())
		})
	}
	return behind, nil
}

// reportReplicas tells of copies that are behind, or else of streams that are kept more often than others: a server that
// fails then takes some rooms away, and leaves others. Without streams there is nothing to tell.
func reportReplicas(found []foundStream, behind []string, r reporter) {
	counts := map[int]int{} // streams, by on how many servers they are
	for _, f := range found {
		counts[f.config.Replicas]++
	}
	switch {
	case len(behind) > 0:
		r.warn(help(remedy.AwaitCopies), "not current on every server: %s: %s", english.Plural(len(behind), "stream", ""), shown.Few(behind))
	case len(counts) > 1:
		var parts []string
		for _, replicas := range slices.Sorted(maps.Keys(counts)) {
			parts = append(parts, fmt.Sprintf("%d on %d", counts[replicas], replicas))
		}
		r.warn(help(remedy.Scale), "streams are kept on different numbers of servers: %s", strings.Join(parts, ", "))
	default:
		for replicas, streams := range counts {
			r.pass("%s, each on %s", english.Plural(streams, "stream", ""), english.Plural(replicas, "server", ""))
		}
	}
}
