package service

import (
	"context"
	"log/slog"
	"time"

	"github.com/unibus/unibus/internal/store"
)

// Keys are staged before the entry that names them, and some entries never come.

const (
	stagedFor   = time.Hour        // how long a sealed key waits for the entry that names it
	expireEvery = 10 * time.Minute // how often the older ones are removed
	expireIn    = time.Minute      // how long that may take; what it leaves comes with the next
)

// expireStaged removes the sealed keys that nobody came back for, at each tick, until ctx ends.
func expireStaged(ctx context.Context, s store.Staging, log *slog.Logger, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks:
			expireOnce(ctx, s, log, now.Add(-stagedFor))
		}
	}
}

// expireOnce removes what was staged before a time, as far as it gets in expireIn.
func expireOnce(ctx context.Context, s store.Staging, log *slog.Logger, before time.Time) {
	ctx, cancel := context.WithTimeout(ctx, expireIn)
	defer cancel()
	removed, err := s.ExpireStaged(ctx, before)
	if err != nil && ctx.Err() != context.Canceled {
		log.Warn("staged keys could not be removed", "error", err)
	}
	if removed > 0 {
		log.Info("staged keys that no entry named were removed", "removed", removed)
	}
}
