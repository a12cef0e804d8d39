package jetstream

import (
	"context"
	"time"

	"github.com/unibus/unibus/internal/tasks"
)

// This file is how long a store waits before it asks servers again.

// retry is the waits between attempts: short at first, each twice as long as the one before, up to most.
type retry struct {
	wait time.Duration // before the next time
	most time.Duration
}

// replicaRetry is for replicas that are behind, and for leaders that are being elected.
func replicaRetry() *retry { return &retry{wait: 2 * time.Millisecond, most: 100 * time.Millisecond} }

// clusterRetry is for the servers of a cluster, which have to find together.
func clusterRetry() *retry { return &retry{wait: 50 * time.Millisecond, most: time.Second} }

// pause waits until it is time to ask again, and returns ctx's error when that ends first.
func (r *retry) pause(ctx context.Context) error {
	err := tasks.Pause(ctx, r.wait)
	r.wait = min(2*r.wait, r.most)
	return err
}
