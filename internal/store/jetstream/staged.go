package jetstream

import (
	"bytes"
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

// PutKeys keeps copies that one sealer made. Each is a Create, so that none that is there is ever replaced, not
// even by who looked before the entry was committed that names it.
func (s *Store) PutKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey, keys []store.SealedKey) error {
	return s.keep(ctx, staging{room, epoch, commit.String()}, store.By(sealer, keys), s.full)
}

// CopyKeys keeps copies that another store has.
func (s *Store) CopyKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, copies []store.SealedKey) error {
	none := func(context.Context, staging, []store.SealedKey) (map[crypto.PublicKey]bool, error) { return nil, nil }
	return s.keep(ctx, staging{room, epoch, commit.String()}, copies, none)
}

// limit says of which members as many copies of a key are there as are kept.
type limit func(ctx context.Context, of staging, copies []store.SealedKey) (map[crypto.PublicKey]bool, error)

// keep puts copies of a key.
func (s *Store) keep(ctx context.Context, of staging, copies []store.SealedKey, full limit) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	refused, err := s.tryKeep(ctx, of, copies, full)
	if err == nil && refused > 0 {
		err = fmt.Errorf("%w: other copies, for %d of %d", store.ErrExists, refused, len(copies))
	}
	if err != nil {
		return fmt.Errorf("put keys: %w", failure(err))
	}
	return nil
}

func (s *Store) tryKeep(ctx context.Context, of staging, copies []store.SealedKey, full limit) (refused int, err error) {
	enough, err := full(ctx, of, copies)
	if err != nil {
		return 0, err
	}
	var writes []write
	for _, k := range copies {
		if !enough[k.Endpoint] {
			writes = append(writes, write{sealedKey(of.room, of.epoch, of.commit, k.Endpoint.String(), k.Sealer.String()), k.Sealed, 0})
		}
	}
	others, err := s.stage(ctx, writes)
	return len(copies) - len(writes) + others, err
}

// full is the limit of store.Full; there is none before an entry names the key. Of two sealers at once both may find
// that there is room for one: then one copy more is kept, and for that no more are given.
func (s *Store) full(ctx context.Context, of staging, copies []store.SealedKey) (map[crypto.PublicKey]bool, error) {
	r, err := s.rooms.one(ctx, epochKey(of.room, of.epoch))
	if errors.Is(err, store.ErrNotFound) || err == nil && commitOf(r) != of.commit {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, author, err := epochOf(r)
	if err != nil {
		return nil, err
	}
	patterns := make([]string, len(copies))
	for i, k := range copies {
		patterns[i] = sealedKey(of.room, of.epoch, of.commit, k.Endpoint.String(), "*")
	}
	found, err := s.keys.fresh(ctx, patterns...)
	if err != nil {
		return nil, err
	}
	there := map[crypto.PublicKey][]crypto.PublicKey{}
	for _, r := range found {
		k, err := sealed(r)
		if err != nil {
			return nil, err
		}
		there[k.Endpoint] = append(there[k.Endpoint], k.Sealer)
	}
	full := map[crypto.PublicKey]bool{}
	for _, k := range copies {
		full[k.Endpoint] = store.Full(k, author, there[k.Endpoint])
	}
	return full, nil
}

// stage writes copies, again those that are there already with the same bytes: as if staged now. It returns how
// many of them have other bytes.
func (s *Store) stage(ctx context.Context, writes []write) (refused int, err error) {
	for {
		taken, err := s.keys.putMany(ctx, writes)
		if err != nil || len(taken) == 0 {
			return refused, err
		}
		keys := make([]string, len(taken))
		for i, w := range taken {
			keys[i] = w.key
		}
		found, err := s.keys.fresh(ctx, keys...)
		if err != nil {
			return refused, err
		}
		writes = writes[:0]
		for _, w := range taken {
			if r, ok := found[w.key]; ok && !bytes.Equal(r.value, w.value) {
				refused++
			} else {
				writes = append(writes, write{w.key, w.value, int64(r.rev)})
			}
		}
	}
}

// HasCopy reports whether a copy is kept.
func (s *Store) HasCopy(ctx context.Context, of store.SealedCopy) (bool, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	found, err := s.keys.fresh(ctx, sealedKey(of.Room, of.Epoch, of.Commit.String(), of.Endpoint.String(), of.Sealer.String()))
	if err != nil {
		return false, fmt.Errorf("look for a copy of a key: %w", failure(err))
	}
	return len(found) > 0, nil
}

// staging is one key that copies were staged of.
type staging struct {
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
func (s *Store) ExpireStaged(ctx context.Context, before time.Time) (removed int, err error) {
	old := map[staging]expired{}
	err = s.keys.scan(ctx, "*.*.*.*.*", func(r record) error {
		if k, ok := stagingOf(r.key); ok && r.time.Before(before) {
			old[k] = expired{old[k].count + 1, r.rev}
		}
		return nil
	})
	if err == nil {
		err = s.spareNamed(ctx, old)
	}
	for k, e := range old {
		if err != nil {
			break
		}
		if err = s.removeStaged(ctx, k, "*", jetstream.WithPurgeSequence(e.last+1)); err == nil { // those staged since then stay
			removed += e.count
		}
	}
	if err != nil {
		return removed, fmt.Errorf("expire staged keys: %w", failure(err))
	}
	return removed, nil
}

func stagingOf(key string) (k staging, ok bool) {
	tokens := strings.Split(key, ".")
	if len(tokens) != 5 {
		return k, false
	}
	room, err := crypto.ParseID(tokens[0])
	if err != nil {
		return k, false
	}
	epoch, err := strconv.ParseUint(tokens[1], 10, 32)
	return staging{room, uint32(epoch), tokens[2]}, err == nil
}

// Unstage removes one sealer's copies of a key that no entry names.
func (s *Store) Unstage(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey) error {
	k := staging{room, epoch, commit.String()}
	unnamed := map[staging]expired{k: {}}
	err := s.spareNamed(ctx, unnamed)
	if _, ok := unnamed[k]; ok && err == nil {
		err = s.removeStaged(ctx, k, sealer.String())
	}
	if err != nil {
		return fmt.Errorf("unstage keys: %w", failure(err))
	}
	return nil
}

// spareNamed takes out the keys that an entry names, or that may be named by one: where no record says which
// key an epoch has, the log is asked first, in case its views are behind it.
func (s *Store) spareNamed(ctx context.Context, old map[staging]expired) error {
	var keys []string
	for k := range old {
		keys = append(keys, epochKey(k.room, k.epoch))
	}
	op, cancel := s.op(ctx)
	defer cancel()
	if len(keys) == 0 {
		return nil
	}
	named, err := s.rooms.fresh(op, keys...)
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
func (s *Store) namedNow(ctx context.Context, k staging) (string, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	_, err := s.room(ctx, k.room)
	var r record
	if err == nil {
		r, err = s.rooms.one(ctx, epochKey(k.room, k.epoch))
	}
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return commitOf(r), err
}

// removeStaged removes the copies of a key by a sealer, "*" for any.
func (s *Store) removeStaged(ctx context.Context, k staging, sealer string, which ...jetstream.StreamPurgeOpt) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	keys, err := s.js.Stream(ctx, s.keys.stream)
	if err != nil {
		return err
	}
	subject := s.keys.prefix + sealedKey(k.room, k.epoch, k.commit, "*", sealer)
	return keys.Purge(ctx, append(which, jetstream.WithPurgeSubject(subject))...)
}
