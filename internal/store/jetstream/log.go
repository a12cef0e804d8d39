package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

const (
	busKey   = "bus" // in unibus_log: the id of the bus log
	page     = 64    // entries asked for at once: each has up to 900 KiB
	maxHeads = 4096  // logs whose last entry is remembered: those of four long requests
)

// step is told how far an Append has come. Tests end the process there.
var step = func(string) {}

func entryKey(log crypto.ID, seq uint64) string {
	return log.String() + "." + strconv.FormatUint(seq, 10)
}

// Bus returns the first statement of the bus log.
func (s *Store) Bus(ctx context.Context) ([]byte, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	r, err := s.log.one(ctx, busKey)
	if err == nil {
		r, err = s.log.one(ctx, string(r.value)+".1")
	}
	if err == nil && len(r.value) == 0 { // claimed by one who never founded it
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("bus log: %w", failure(err))
	}
	return r.value, nil
}

func (s *Store) remember(log crypto.ID, h ledger.Head) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heads[log].Seq >= h.Seq {
		return
	}
	for id := range s.heads { // any will do
		if len(s.heads) < maxHeads {
			break
		}
		delete(s.heads, id)
	}
	s.heads[log] = h
}

// Entries yields the entries after a seq, a page per OpTimeout.
func (s *Store) Entries(ctx context.Context, log crypto.ID, after uint64) iter.Seq2[store.Entry, error] {
	return store.PageEntries(after, page, func(after uint64) ([]store.Entry, error) {
		entries, err := s.entries(ctx, log, after)
		if err != nil {
			return nil, fmt.Errorf("log %s: %w", log, failure(err))
		}
		return entries, nil
	})
}

func (s *Store) entries(ctx context.Context, log crypto.ID, after uint64) ([]store.Entry, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	keys := make([]string, page)
	for i := range keys {
		keys[i] = entryKey(log, after+1+uint64(i))
	}
	found, err := s.log.fresh(ctx, keys...)
	if err != nil {
		return nil, err
	}
	var out []store.Entry
	for i, key := range keys {
		seq := after + 1 + uint64(i)
		r, ok := found[key]
		if !ok || len(r.value) == 0 {
			continue
		}
		if missing := after + 1 + uint64(len(out)); seq != missing { // a server's disk lost it
			return nil, fmt.Errorf("%w: entry %d is missing, and entry %d is there", store.ErrDamaged, missing, seq)
		}
		out = append(out, store.Entry{Log: log, Seq: seq, Statement: r.value})
	}
	return out, nil
}

// Append commits an entry, and then its views. Until the entry is committed nothing has happened;
// once it is, whoever comes next completes it.
func (s *Store) Append(ctx context.Context, c store.Change) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	if err := s.append(ctx, c); err != nil {
		return fmt.Errorf("append entry %d of log %s: %w", c.Entry.Seq, c.Entry.Log, failure(err))
	}
	return nil
}

func (s *Store) append(ctx context.Context, c store.Change) error {
	e := c.Entry
	if err := s.place(ctx, e); err != nil {
		return err
	}
	step("claimed")
	err := s.commit(ctx, e)
	if errors.Is(err, store.ErrConflict) {
		s.discard(ctx, c)
	}
	if err != nil {
		return err
	}
	step("committed")
	s.remember(e.Log, ledger.Head{Seq: e.Seq, Hash: e.Hash})
	return s.advance(ctx, c)
}

// commit writes an entry to its place, once. A server refuses that also while it is busy with another
// entry for the place, of which nothing may come when it loses its lead: then the place is free again.
func (s *Store) commit(ctx context.Context, e *ledger.Entry) error {
	for {
		_, err := s.log.put(ctx, entryKey(e.Log, e.Seq), e.Statement, 0)
		if errors.Is(err, errChanged) {
			err = s.same(ctx, e)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
}

// discard removes the keys that its author staged for an entry whose place another has taken: they are of use
// to nobody. It does what it can; what stays is never given out.
func (s *Store) discard(ctx context.Context, c store.Change) {
	for _, v := range c.Views {
		epoch, ok := v.(ledger.EpochView)
		if !ok {
			continue
		}
		r, err := s.rooms.one(ctx, epochKey(epoch.Room, epoch.Epoch))
		if err != nil && !errors.Is(err, store.ErrNotFound) || commitOf(r) == epoch.Commit.String() {
			continue
		}
		_ = s.removeStaged(ctx, staging{epoch.Room, epoch.Epoch, epoch.Commit.String()}, epoch.By.String())
	}
}

// place makes sure that the entry may be the next: the one before is there, and never goes away. A
// first entry claims the name that is to be its own.
func (s *Store) place(ctx context.Context, e *ledger.Entry) error {
	switch b := e.Body.(type) {
	case *ledger.Found:
		return s.claim(ctx, s.log, busKey, e.Log, "the bus is founded already")
	case *ledger.Create:
		return s.claim(ctx, s.rooms, subjectKey(b.Subject), e.Log, "a room with the subject "+b.Subject)
	}
	s.mu.Lock()
	known := s.heads[e.Log]
	s.mu.Unlock()
	before := ledger.Head{Seq: e.Seq - 1, Hash: e.Prev}
	if known == before {
		return nil
	}
	r, err := s.log.one(ctx, entryKey(e.Log, before.Seq))
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
func (s *Store) same(ctx context.Context, e *ledger.Entry) error {
	r, err := s.log.one(ctx, entryKey(e.Log, e.Seq))
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
func (s *Store) claim(ctx context.Context, b *bucket, key string, log crypto.ID, taken string) error {
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
		if err := s.bury(ctx, string(r.value), taken); err != nil {
			return err
		}
		expect = int64(r.rev)
	}
}

// bury makes sure that a log without a first entry never gets one, by putting an empty one there.
// ErrExists when it has one.
func (s *Store) bury(ctx context.Context, log, taken string) error {
	key := log + ".1"
	_, err := s.log.put(ctx, key, nil, 0)
	if !errors.Is(err, errChanged) {
		return err
	}
	r, err := s.log.one(ctx, key)
	if err == nil && len(r.value) > 0 {
		err = fmt.Errorf("%w: %s", store.ErrExists, taken)
	}
	return err
}
