package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Staging: sealed copies are mostly put before the entry that names their key. Those that no entry
// names in the end are removed, by time or by whoever made them.

// staging is store.Staging.
type staging struct {
	*conn
	*buckets
	directory *directory
}

// HasCopy reports whether a copy is kept.
func (s *staging) HasCopy(ctx context.Context, of store.SealedCopy) (bool, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	found, err := s.keys.latest(ctx, sealedKey(of.Room, of.Epoch, of.Commit.String(), of.Endpoint.String(), of.Sealer.String()))
	if err != nil {
		return false, fmt.Errorf("look for a copy of a key: %w", failure(err))
	}
	return len(found) > 0, nil
}

// stagedKey is one key that copies were staged of.
type stagedKey struct {
	room   crypto.ID
	epoch  uint32
	commit string
}

// expired is how many of its copies are old, and the place of the last of them.
type expired struct {
	count int
	last  uint64
}

// ExpireStaged removes what was staged before a time and no entry names. It holds a line for each key of each
// room in memory.
func (s *staging) ExpireStaged(ctx context.Context, before time.Time) (removed int, err error) {
	old := map[stagedKey]expired{}
	err = s.keys.scan(ctx, "*.*.*.*.*", func(r record) error {
		if k, ok := stagingOf(r.key); ok && r.time.Before(before) {
			old[k] = expired{old[k].count + 1, r.rev}
		}
		return nil
	})
	if err == nil {
		err = s.dropNamed(ctx, old)
	}
	for k, e := range old {
		if err != nil {
			break
		}
		if err = s.remove(ctx, k, "*", jetstream.WithPurgeSequence(e.last+1)); err == nil { // those staged since then stay
			removed += e.count
		}
	}
	if err != nil {
		return removed, fmt.Errorf("expire staged keys: %w", failure(err))
	}
	return removed, nil
}

// stagingOf is the key that a copy is of; false for the keys of other records.
func stagingOf(key string) (k stagedKey, ok bool) {
	tokens := strings.Split(key, ".")
	if len(tokens) != 5 {
		return k, false
	}
	room, err := crypto.ParseID(tokens[0])
	if err != nil {
		return k, false
	}
	epoch, err := strconv.ParseUint(tokens[1], 10, 32)
	return stagedKey{room, uint32(epoch), tokens[2]}, err == nil
}

// Unstage removes one sealer's copies of a key that no entry names.
func (s *staging) Unstage(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey) error {
	k := stagedKey{room, epoch, commit.String()}
	unnamed := map[stagedKey]expired{k: {}}
	err := s.dropNamed(ctx, unnamed)
	if _, ok := unnamed[k]; ok && err == nil {
		err = s.remove(ctx, k, sealer.String())
	}
	if err != nil {
		return fmt.Errorf("unstage keys: %w", failure(err))
	}
	return nil
}

// dropNamed takes out of old the keys that an entry names, or that may be named by one: where no record says which
// key an epoch has, the log is asked first, in case its views are behind it.
func (s *staging) dropNamed(ctx context.Context, old map[stagedKey]expired) error {
	var keys []string
	for k := range old {
		keys = append(keys, epochKey(k.room, k.epoch))
	}
	op, cancel := s.op(ctx)
	defer cancel()
	if len(keys) == 0 {
		return nil
	}
	named, err := s.rooms.latest(op, keys...)
	if err != nil {
		return err
	}
	for k := range old {
		r, ok := named[epochKey(k.room, k.epoch)]
		commit := commitOf(r)
		if !ok {
			if commit, err = s.namedNow(ctx, k); err != nil {
				return err
			}
		}
		if commit == k.commit {
			delete(old, k)
		}
	}
	return nil
}

// namedNow is the commitment of an epoch once the views of its room are current; empty if there is none.
func (s *staging) namedNow(ctx context.Context, k stagedKey) (string, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	_, err := s.directory.room(ctx, k.room)
	var r record
	if err == nil {
		r, err = s.rooms.one(ctx, epochKey(k.room, k.epoch))
	}
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return commitOf(r), err
}

// remove removes the copies of a key by a sealer, "*" for any.
func (s *staging) remove(ctx context.Context, k stagedKey, sealer string, which ...jetstream.StreamPurgeOpt) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	keys, err := s.js.Stream(ctx, s.keys.stream)
	if err != nil {
		return err
	}
	subject := s.keys.prefix + sealedKey(k.room, k.epoch, k.commit, "*", sealer)
	return keys.Purge(ctx, append(which, jetstream.WithPurgeSubject(subject))...)
}
