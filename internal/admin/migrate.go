package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// A migration goes in three steps: both stores are looked at (survey), what the source has is copied (copyItems), and both
// are held against each other (verifySame).

// Report says what Migrate, Backup and Restore did, of which Totals are what they went through.
type Report struct {
	Totals
	Bus     crypto.ID `json:"bus"`
	Missing int64     `json:"missing"` // logs that the target did not have whole before
}

// Survey says what Migrate would do, in Bus and Missing, and writes nothing. To may be nil, a store that is not there: of
// that everything is missing. Its errors are those of Migrate before anything is written.
func Survey(ctx context.Context, from, to store.Backend) (Report, error) {
	r, _, err := survey(ctx, from, to)
	return r, err
}

// Migrate makes one store hold what another does. What is there already is left alone, so that it
// may be repeated, and goes on where it was interrupted. At the end it holds both against each
// other: ErrDiffers when they are not the same, as when the source is still written to. ErrConflict
// when the target has another history, ErrExists when it has another bus.
func Migrate(ctx context.Context, from, to store.Backend, progress Progress) (Report, error) {
	r, all, err := survey(ctx, from, to)
	if err != nil {
		return r, err
	}
	var done atomic.Int64
	tick := func() { progress(done.Add(1), 2*all) }
	err = receive(ctx, to, func() error {
		if err := copyItems(ctx, walk(ctx, from), to, &r.Totals, tick); err != nil {
			return err
		}
		return verifySame(ctx, from, to, tick)
	})
	return r, err
}

// receive has a store filled with a bus that it does not have, or has in part. Until that is done nobody relies on it:
// who was revoked in the end may be a user at first.
func receive(ctx context.Context, to store.Backend, fill func() error) error {
	// A store that has a bus and is not being filled is relied on: what is added to it is marked by nothing.
	copying, err := to.Copying(ctx)
	if err == nil && !copying {
		_, err = to.Bus(ctx)
		if copying = errors.Is(err, store.ErrNotFound); copying {
			err = to.BeginCopy(ctx)
		}
	}
	if err == nil {
		err = fill()
	}
	if err == nil && copying {
		err = to.EndCopy(ctx)
	}
	return err
}

// survey looks at both sides: how many logs there are in all, and how many of them the target does not have whole.
func survey(ctx context.Context, from, to store.Backend) (r Report, all int64, err error) {
	if r.Bus, err = BusOf(ctx, from); err != nil {
		if errors.Is(err, store.ErrNotFound) { // or was there, and is lost
			err = cmp.Or(store.NeverUsed(ctx, from), err)
		}
		return r, 0, fmt.Errorf("the source: %w", err)
	}
	if to != nil {
		if err := mayHold(ctx, to, r.Bus); err != nil {
			return r, 0, fmt.Errorf("the target: %w", err)
		}
	}
	for log, err := range from.Logs(ctx) {
		if err != nil {
			return r, 0, err
		}
		all++
		whole, err := isWhole(ctx, from, to, log)
		if err != nil {
			return r, 0, err
		}
		if !whole {
			r.Missing++
		}
	}
	return r, all, nil
}

// BusOf returns which bus a store holds; ErrNotFound for none, ErrDamaged when its first entry says nothing of it.
func BusOf(ctx context.Context, s store.Log) (crypto.ID, error) {
	statement, err := s.Bus(ctx)
	if err != nil {
		return crypto.ID{}, err
	}
	id, _, _, err := ledger.Place(statement)
	if err != nil {
		err = fmt.Errorf("bus log: %w: %v", store.ErrDamaged, err)
	}
	return id, err
}

// mayHold fails with ErrExists when a store holds another bus; it may hold none yet.
func mayHold(ctx context.Context, s store.Log, id crypto.ID) error {
	own, err := BusOf(ctx, s)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case own != id:
		return fmt.Errorf("%w: it holds another bus, %s", store.ErrExists, own)
	}
	return nil
}

// isWhole reports whether a target, which may be nil, has a log as far as the source does.
func isWhole(ctx context.Context, from, to store.Backend, log crypto.ID) (bool, error) {
	if to == nil {
		return false, nil
	}
	theirs, err := store.HeadOf(ctx, to, log)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ours, err := store.HeadOf(ctx, from, log)
	return ours == theirs, err
}
