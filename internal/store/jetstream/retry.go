package jetstream

import (
	"context"
	"time"

	"github.com/unibus/unibus/internal/tasks"
)

// retry is what is asked again, as of a replica that is behind: soon at first, then less and less often.
type retry struct {
	wait time.Duration // before the next time
	most time.Duration
}

// soon is for replicas that are behind, and for leaders that are being elected.
func soon() *retry { return &retry{wait: 2 * time.Millisecond, most: 100 * time.Millisecond} }

// later is for the servers of a cluster, which have to find together.
func later() *retry { return &retry{wait: 50 * time.Millisecond, most: time.Second} }

// pause waits until it is time to ask again, and returns ctx's error when that ends first.
func (r *retry) pause(ctx context.Context) error {
	err := tasks.Pause(ctx, r.wait)
	r.wait = min(2*r.wait, r.most)
	return err
}
