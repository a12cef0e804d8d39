package mirror

import (
	"context"

	"github.com/unibus/unibus/internal/ledger"
)

// Tail reads a log from its first entry on, and then what is added to it. It is for one caller at a time.
type Tail struct {
	log   *Log
	state *ledger.State // as of what was returned
}

// NewTail begins before a log's first entry, whatever was verified before.
func NewTail(l *Log) *Tail { return &Tail{l, new(ledger.State)} }

// Next brings the log up to date, and returns the entries that the store has of it after those that were returned before,
// which may be none. They are verified, the same as were verified before, and pinned. After an error it can be called
// again, and goes on where it was.
func (t *Tail) Next(ctx context.Context) ([]*ledger.Entry, error) {
	if err := t.log.Sync(ctx); err != nil {
		return nil, err
	}
	known := t.log.State().Head.Seq
	if t.log.State().Head == t.state.Head {
		return nil, nil
	}
	var entries []*ledger.Entry
	fold := t.state.Fold()
	if err := t.log.read(ctx, fold, func(e *ledger.Entry) { entries = append(entries, e) }); err != nil {
		return nil, err
	}
	// The log may have grown since it was brought up to date, and nothing is told of that is not pinned.
	if fold.Head().Seq > t.log.State().Head.Seq {
		if err := t.log.Sync(ctx); err != nil {
			return nil, err
		}
	}
	if err := holds(t.log, known, fold.Head(), entries); err != nil {
		return nil, err
	}
	t.state = fold.State()
	return entries, nil
}

// holds checks that what a store gave of a log, up to a head, goes as far as the log was known to when the store was asked,
// which others may have verified more of since, and has nothing else in it than what was verified.
func holds(l *Log, known uint64, head ledger.Head, entries []*ledger.Entry) error {
	own := l.State()
	if head.Seq < known {
		return l.broken("the store withholds the entries after %d", head.Seq)
	}
	for _, e := range entries {
		if e.Seq <= own.Head.Seq && !own.Has(ledger.Head{Seq: e.Seq, Hash: e.Hash}) {
			return l.broken("entry %d is not the one verified before", e.Seq)
		}
	}
	return nil
}
