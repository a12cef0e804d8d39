package service

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// ErrOwnCopies is an ErrDamaged: other servers hold what this one has lost.
var ErrOwnCopies = fmt.Errorf("%w", store.ErrDamaged)

// How long a server that starts may take, without getting any further though all streams are led, until its copies of the store
// are those that the others have, and how often that is looked at.
const (
	copyWait  = 10 * time.Second
	copyEvery = time.Second
)

// ownCopies waits until this server holds of the store's buckets what the others do. A copy that a disk has shortened is
// current for all that the servers know: this one would answer from it, and say of what is there that it is not. So it
// does not take part: ErrDamaged, when it lacks something and does not get it.
func ownCopies(ctx context.Context, sys *nats.Conn, log *slog.Logger) error {
	own := sys.ConnectedServerName()
	var before bus.Copies
	progress := copying{since: time.Now()}
	for told := false; ; {
		now, err := bus.LookAtCopies(ctx, sys)
		if err != nil { // what the servers do not say the service meets, too
			return nil
		}
		if before == nil { // what is found at one look alone may be a server's that does not say all of it yet
			if before = now; now.Servers() > 1 || now.Messages(own) == 0 {
				if err := tasks.Pause(ctx, copyEvery); err != nil {
					return err
				}
				continue
			}
		}
		lacking := now.Short(before, own)
		if len(lacking) == 0 {
			return nil
		}
		names := slices.Sorted(maps.Keys(lacking))
		unled := slices.ContainsFunc(names, func(name string) bool { return now.Unled(name, own) })
		if progress.ended(now.Messages(own), unled, time.Now()) {
			var list []string
			for _, name := range names {
				list = append(list, name+": "+lacking[name])
			}
			return fmt.Errorf("%w: this server's disk has lost some of what it kept of the store (%s)", ErrOwnCopies, strings.Join(list, "; "))
		}
		if !told {
			told = true
			log.Info("waiting for what the others have stored", "streams", len(lacking))
		}
		before = now
		if err := tasks.Pause(ctx, copyEvery); err != nil {
			return err
		}
	}
}

// copying is how far a server has come with what others hold.
type copying struct {
	held  uint64    // messages, when it last got further
	since time.Time // when that was
}

// ended takes how many messages a server holds at a time, and whether none leads what it lacks, as after a restart of most of
// them. It reports whether what it lacks does not come.
func (c *copying) ended(held uint64, unled bool, at time.Time) bool {
	if held > c.held+copyGrows || unled {
		c.held, c.since = max(c.held, held), at
	}
	return at.Sub(c.since) > copyWait
}

// copyGrows is by how many messages a copy grows while others store something, at most, and it copies nothing.
const copyGrows = 100
