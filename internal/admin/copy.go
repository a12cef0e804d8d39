package admin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file puts items into a store. copyItems hands them out to a few loaders, all of one log to the same one, and each
// loader writes what it is given in the order in which it comes, so that keys are there before the entries that name them.

// workers is how many logs are worked on at once.
const workers = 16

// keysAtOnce is how many sealed keys are written at once.
const keysAtOnce = 500

// waiting is how many items may wait for a loader.
const waiting = 64

// copyItems puts items into a store, some logs at once, and counts them in totals. It calls done for each log that is
// there whole, from several goroutines, and returns the first error; what was written until then stays.
func copyItems(ctx context.Context, items iter.Seq2[item, error], to store.Backend, totals *Totals, done func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queues := make([]chan item, workers)
	var loading sync.WaitGroup
	for n := range queues {
		queues[n] = make(chan item, waiting)
		loading.Go(func() {
			l := &loader{to: to, done: done}
			if err := l.run(ctx, queues[n]); err != nil {
				cancel(err)
			}
		})
	}
	// Queues are closed whatever happens, and loaders that have failed leave theirs: handOut ends when ctx does.
	err := handOut(ctx, items, queues, totals)
	for _, queue := range queues {
		close(queue)
	}
	loading.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}

// handOut puts each item into the queue of its log, until one cannot be read or ctx ends; that it has ended is no error
// here, for why it did is known to who ended it.
func handOut(ctx context.Context, items iter.Seq2[item, error], queues []chan item, totals *Totals) error {
	for i, err := range items {
		if err != nil {
			return err
		}
		log := i.log()
		select {
		case queues[int(log[0])%len(queues)] <- i:
			totals.add(i)
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// loader writes the items of one log after the other.
type loader struct {
	to    store.Backend
	done  func()             // called for each log that is there
	fold  *ledger.Fold       // of the log that it is at; nil: of none yet
	log   crypto.ID          // which one that is
	there ledger.Head        // what the target had of it before
	keys  []store.SealedCopy // of one epoch, to be written at once
}

// run writes what comes through a queue, until that is closed.
func (l *loader) run(ctx context.Context, queue <-chan item) error {
	for i := range queue {
		if err := l.put(ctx, i); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil // someone else's error
	}
	if err := l.flush(ctx); err != nil || l.fold == nil {
		return err
	}
	l.done()
	return nil
}

// put writes an item, or keeps a key until there are more to be written with it. Cards are verified before they are
// written, and entries by being folded; a sealed key can be verified by nobody but whom it is for.
func (l *loader) put(ctx context.Context, i item) error {
	if i.card != nil {
		if err := checkCard(i.card); err != nil {
			return err
		}
		return l.to.PutCards(ctx, *i.card)
	}
	if i.log() != l.log || l.fold == nil {
		if err := l.begin(ctx, i.log()); err != nil {
			return err
		}
	}
	if i.key != nil {
		return l.key(ctx, i.key)
	}
	// Keys are kept before the entry that names them, so that whoever reads it finds them.
	if err := l.flush(ctx); err != nil {
		return err
	}
	return l.entry(ctx, i.entry)
}

// key keeps a sealed key, and first writes those that are of another epoch or are many.
func (l *loader) key(ctx context.Context, k *store.SealedCopy) error {
	if n := len(l.keys); n == keysAtOnce || n > 0 && (l.keys[0].Epoch != k.Epoch || l.keys[0].Commit != k.Commit) {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	l.keys = append(l.keys, *k)
	return nil
}

// begin goes on to another log: the one before is done.
func (l *loader) begin(ctx context.Context, log crypto.ID) error {
	if err := l.flush(ctx); err != nil {
		return err
	}
	if l.fold != nil {
		l.done()
	}
	l.fold, l.log = new(ledger.Fold), log
	var err error
	l.there, err = store.HeadOf(ctx, l.to, log)
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return err
}

// flush writes the keys that are kept.
func (l *loader) flush(ctx context.Context) error {
	if len(l.keys) == 0 {
		return nil
	}
	k := l.keys[0]
	sealed := make([]store.SealedKey, len(l.keys))
	for i, k := range l.keys {
		sealed[i] = k.SealedKey
	}
	l.keys = l.keys[:0]
	return l.to.CopyKeys(ctx, k.Room, k.Epoch, k.Commit, sealed)
}

// entry appends an entry that the target does not have. What it has must be the same: ErrConflict if its last entry is
// another one, ErrDamaged if the entry breaks a rule or stands under another log's id.
func (l *loader) entry(ctx context.Context, e *store.Entry) error {
	c, err := advance(l.fold, l.log, e)
	if err != nil {
		return err
	}
	if e.Seq > l.there.Seq {
		return l.to.Append(ctx, c)
	}
	if e.Seq == l.there.Seq && l.fold.Head() != l.there {
		return fmt.Errorf("log %s: %w: the target has another entry %d", l.log, store.ErrConflict, e.Seq)
	}
	return nil
}
