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

// How long a server that starts may take, without getting any further, until its copies of the store are those that the
// others have, and how often that is looked at.
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
	held, since := uint64(0), time.Now()
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
		if n := now.Messages(own); n > held+copyGrows {
			held, since = n, time.Now()
		}
		if time.Since(since) > copyWait {
			var list []string
			for _, name := range slices.Sorted(maps.Keys(lacking)) {
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

// copyGrows is by how many messages a copy grows while others store something, at most, and it copies nothing.
const copyGrows = 100
