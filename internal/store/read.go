package store

import (
	"context"
	"fmt"
	"iter"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// This file is what callers and backends do with the interfaces again and again: one head, one card, a whole log, a
// change from a statement, entries page by page.

// Advance folds statement in and returns the Change to append. On an error, always a *ledger.Invalid, nothing is folded
// in.
func Advance(fold *ledger.Fold, statement []byte) (Change, error) {
	e, err := fold.Add(statement)
	if err != nil {
		return Change{}, err
	}
	return Change{Entry: e, Views: fold.Views(e)}, nil
}

// PageEntries yields entries page by page: read returns those after a seq, fewer than page when they
// are the last.
func PageEntries(after uint64, page int, read func(after uint64) ([]Entry, error)) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		after := after
		for {
			entries, err := read(after)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
				after = e.Seq
			}
			if len(entries) < page {
				return
			}
		}
	}
}

// HeadOf returns the last entry's place of one log; ErrNotFound for an unknown one.
func HeadOf(ctx context.Context, s Log, log crypto.ID) (ledger.Head, error) {
	heads, err := s.Heads(ctx, log)
	if err != nil {
		return ledger.Head{}, err
	}
	if heads[0].Seq == 0 {
		return heads[0], fmt.Errorf("log %s: %w", log, ErrNotFound)
	}
	return heads[0], nil
}

// Load folds a log as the store has it. ErrNotFound for an unknown log, ErrDamaged for a damaged one.
func Load(ctx context.Context, s Log, log crypto.ID) (*ledger.State, error) {
	var fold ledger.Fold
	for e, err := range s.Entries(ctx, log, 0) {
		if err != nil {
			return nil, err
		}
		if _, err := fold.Add(e.Statement); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	state := fold.State()
	switch {
	case state.Head.Seq == 0:
		return nil, fmt.Errorf("log %s: %w", log, ErrNotFound)
	case state.ID != log:
		return nil, fmt.Errorf("%w: the log %s stands under the id %s", ErrDamaged, state.ID, log)
	}
	return state, nil
}
