package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file commits entries, in the steps that the package's comment draws: prepare, commit, apply. Each step can be done
// again by whoever offers the same bytes again, so that a crash between two of them loses nothing.

// committer appends to logs.
type committer struct {
	*conn
	*buckets
	heads    *heads
	views    *views
	repairer *repairer
	staging  *staging
}

// Append commits an entry, and then its views. Until the entry is committed nothing has happened;
// once it is, whoever comes next completes it.
func (c *committer) Append(ctx context.Context, change store.Change) error {
	ctx, cancel := c.writing(ctx, len(change.Views))
	defer cancel()
	if err := c.append(ctx, change); err != nil {
		return fmt.Errorf("append entry %d of log %s: %w", change.Entry.Seq, change.Entry.Log, failure(err))
	}
	return nil
}

// append is Append without a bound.
func (c *committer) append(ctx context.Context, change store.Change) error {
	e := change.Entry
	if err := c.prepare(ctx, e); err != nil {
		return err
	}
	c.views.step("claimed")
	err := c.commit(ctx, e)
	if errors.Is(err, store.ErrConflict) {
		c.discard(ctx, change)
	}
	if err != nil {
		return err
	}
	c.views.step("committed")
	c.heads.remember(e.Log, ledger.Head{Seq: e.Seq, Hash: e.Hash})
	return c.apply(ctx, change)
}

// apply writes the views of an entry that was just committed, after those of the entries before.
func (c *committer) apply(ctx context.Context, change store.Change) error {
	done, err := c.repairer.turns.take(ctx, change.Entry.Log)
	if err != nil {
		return err
	}
	defer done()
	changes, last := c.views.rows(change.Entry.Seq, change.Views)
	if change.Entry.Seq > 1 {
		current, err := c.views.current(ctx, last)
		if err == nil && current+1 < change.Entry.Seq {
			current, err = c.repairer.await(ctx, last, change.Entry.Seq-1)
		}
		if err != nil {
			return err
		}
		if current+1 < change.Entry.Seq {
			return c.repairer.complete(ctx, change.Entry.Log, current)
		}
	}
	return c.views.write(ctx, change.Entry.Seq, changes, last)
}

// commit writes an entry to its place, once. A server refuses that also while it is busy with another
// entry for the place, of which nothing may come when it loses its lead: then the place is free again.
func (c *committer) commit(ctx context.Context, e *ledger.Entry) error {
	for { // until the place is certainly this entry's, or another's
		_, err := c.log.put(ctx, entryKey(e.Log, e.Seq), e.Statement, 0)
		if errors.Is(err, errChanged) {
			err = c.same(ctx, e)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
}

// discard removes the keys that its author staged for an entry whose place another has taken: they are of use
// to nobody. It does what it can; what stays is never given out.
func (c *committer) discard(ctx context.Context, change store.Change) {
	for _, v := range change.Views {
		epoch, ok := v.(ledger.EpochView)
		if !ok {
			continue
		}
		r, err := c.rooms.one(ctx, epochKey(epoch.Room, epoch.Epoch))
		if err != nil && !errors.Is(err, store.ErrNotFound) || commitOf(r) == epoch.Commit.String() {
			continue
		}
		_ = c.staging.remove(ctx, stagedKey{epoch.Room, epoch.Epoch, epoch.Commit.String()}, epoch.By.String())
	}
}

// prepare makes sure that the entry may be the next: the one before is there, and never goes away. A
// first entry claims the name that is to be its own.
func (c *committer) prepare(ctx context.Context, e *ledger.Entry) error {
	switch b := e.Body.(type) {
	case *ledger.Found:
		return c.claim(ctx, c.log, busKey, e.Log, "the bus is founded already")
	case *ledger.Create:
		return c.claim(ctx, c.rooms, subjectKey(b.Subject), e.Log, "a room with the subject "+b.Subject)
	}
	before := ledger.Head{Seq: e.Seq - 1, Hash: e.Prev}
	if c.heads.known(e.Log) == before {
		return nil
	}
	r, err := c.log.one(ctx, entryKey(e.Log, before.Seq))
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: the log ends before entry %d", store.ErrConflict, before.Seq)
	}
	if err != nil {
		return err
	}
	if hash, err := crypto.HashStatement(r.value); err != nil || hash != before.Hash {
		return fmt.Errorf("%w: the log has another entry %d", store.ErrConflict, before.Seq)
	}
	return nil
}

// same succeeds when the place of an entry holds these very bytes.
func (c *committer) same(ctx context.Context, e *ledger.Entry) error {
	r, err := c.log.one(ctx, entryKey(e.Log, e.Seq))
	switch {
	case err != nil:
		return err
	case len(r.value) == 0:
		return fmt.Errorf("%w: another took the name meanwhile", store.ErrExists)
	case !bytes.Equal(r.value, e.Statement):
		return store.ErrConflict
	}
	return nil
}

// claim gives a name to a log that is about to begin. A name claimed by a log that never began is
// taken over, once it is certain that it never will.
func (c *committer) claim(ctx context.Context, b *bucket, key string, log crypto.ID, taken string) error {
	expect := int64(0)
	for {
		_, err := b.put(ctx, key, []byte(log.String()), expect)
		if !errors.Is(err, errChanged) {
			return err
		}
		r, err := b.one(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			expect = 0
			continue
		}
		if err != nil || string(r.value) == log.String() {
			return err
		}
		if err := c.neverBegan(ctx, b, string(r.value), taken); err != nil {
			return err
		}
		if err := c.tombstone(ctx, string(r.value), taken); err != nil {
			return err
		}
		expect = int64(r.rev)
	}
}

// neverBegan makes sure that nothing is listed of a log, which is so before its first entry only. ErrExists when something
// is: a disk has lost the log, and nobody else may have its name.
func (c *committer) neverBegan(ctx context.Context, b *bucket, log, taken string) error {
	id, err := crypto.ParseID(log)
	if err != nil {
		return fmt.Errorf("%w: the name is that of %q, which is no log", store.ErrDamaged, log)
	}
	listed := c.repairer.listedBus
	if b == c.rooms {
		listed = func(ctx context.Context) (uint64, error) { return c.repairer.listedRoom(ctx, id) }
	}
	seq, err := listed(ctx)
	if err == nil && seq > 0 {
		err = fmt.Errorf("%w: %s, whose log is lost, and was listed as of entry %d", store.ErrExists, taken, seq)
	}
	return err
}

// tombstone makes sure that a log without a first entry never gets one, by putting an empty one there.
// ErrExists when it has one.
func (c *committer) tombstone(ctx context.Context, log, taken string) error {
	key := log + ".1"
	_, err := c.log.put(ctx, key, nil, 0)
	if !errors.Is(err, errChanged) {
		return err
	}
	r, err := c.log.one(ctx, key)
	if err == nil && len(r.value) > 0 {
		err = fmt.Errorf("%w: %s", store.ErrExists, taken)
	}
	return err
}
