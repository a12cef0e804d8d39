package jetstream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

var _ store.Backend = (*Store)(nil)

// Logs yields every log, that of the bus first. It holds their ids in memory.
func (s *Store) Logs(ctx context.Context) iter.Seq2[crypto.ID, error] {
	return func(yield func(crypto.ID, error) bool) {
		bus, err := s.log.get(ctx, busKey)
		var list []crypto.ID
		if err == nil {
			err = s.log.scan(ctx, "*.1", func(r record) error {
				id, err := crypto.ParseID(strings.TrimSuffix(r.key, ".1"))
				if err == nil && len(r.value) > 0 {
					list = append(list, id)
				}
				return err
			})
		}
		if err != nil {
			yield(crypto.ID{}, fmt.Errorf("logs: %w", failure(err)))
			return
		}
		slices.SortStableFunc(list, func(a, b crypto.ID) int {
			switch string(bus.value) {
			case a.String():
				return -1
			case b.String():
				return 1
			}
			return 0
		})
		for _, id := range list {
			if !yield(id, nil) {
				return
			}
		}
	}
}

// Sealed yields the sealed copies of a room's committed keys by all sealers, by epoch. It holds one epoch's in memory.
func (s *Store) Sealed(ctx context.Context, room crypto.ID) iter.Seq2[store.SealedCopy, error] {
	return func(yield func(store.SealedCopy, error) bool) {
		for epoch := uint32(1); ; epoch++ {
			list, err := s.sealed(ctx, room, epoch)
			if errors.Is(err, store.ErrNotFound) {
				return
			}
			if err != nil {
				yield(store.SealedCopy{}, fmt.Errorf("keys of room %s: %w", room, failure(err)))
				return
			}
			for _, k := range list {
				if !yield(k, nil) {
					return
				}
			}
		}
	}
}

func (s *Store) sealed(ctx context.Context, room crypto.ID, epoch uint32) ([]store.SealedCopy, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	r, err := s.rooms.one(ctx, epochKey(room, epoch))
	if err != nil {
		return nil, err
	}
	commit, _, err := epochOf(r)
	if err != nil {
		return nil, err
	}
	found, err := s.keys.list(ctx, sealedKey(room, epoch, commit.String(), "*", "*"))
	var out []store.SealedCopy
	for _, r := range found {
		k, err := sealed(r)
		if err != nil {
			return nil, err
		}
		out = append(out, store.SealedCopy{SealedKey: k, Room: room, Epoch: epoch, Commit: commit})
	}
	return out, err
}

// errStop ends a scan whose caller has had enough.
var errStop = errors.New("stop")

// AllCards yields every card.
func (s *Store) AllCards(ctx context.Context) iter.Seq2[store.Card, error] {
	return func(yield func(store.Card, error) bool) {
		err := s.keys.scan(ctx, cardPrefix+"*", func(r record) error {
			c, err := card(r)
			if err == nil && !yield(c, nil) {
				err = errStop
			}
			return err
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(store.Card{}, fmt.Errorf("cards: %w", failure(err)))
		}
	}
}

// copyingKey in unibus_log says, unless it is empty, that a bus is being copied into the store.
const copyingKey = "copying"

// Copying reports whether a bus is being copied into the store.
func (s *Store) Copying(ctx context.Context) (bool, error) {
	r, err := s.log.get(ctx, copyingKey)
	return len(r.value) > 0, failure(err)
}

// SetCopying says whether one is.
func (s *Store) SetCopying(ctx context.Context, under bool) error {
	ctx, cancel := s.op(ctx)
	defer cancel()
	var value []byte
	if under {
		value = []byte("1")
	}
	_, err := s.log.put(ctx, copyingKey, value, anyRevision)
	return failure(err)
}

// checkTries is how often a bucket is read again that seems to lack something: copies of keys that nobody used are
// removed at times.
const checkTries = 3

// CheckRecords reads all that there is, and returns ErrDamaged when a server cannot: in a listing what it cannot read is
// left out without a word.
func (s *Store) CheckRecords(ctx context.Context) error {
	for _, b := range []*bucket{s.log, s.rooms, s.members, s.roomsOf, s.keys, s.users} {
		for try := 1; ; try++ {
			whole, err := b.readable(ctx)
			if err != nil {
				return failure(err)
			}
			if whole {
				break
			}
			if try == checkTries {
				return b.damaged()
			}
		}
	}
	return nil
}

// readable reports whether as many keys can be read as the bucket has. It holds those in memory that are written
// meanwhile.
func (b *bucket) readable(ctx context.Context) (bool, error) {
	op, cancel := b.s.op(ctx)
	defer cancel()
	if _, err := b.index(op); err != nil { // so that there is a barrier's key
		return false, err
	}
	stream, err := b.s.js.Stream(op, b.stream)
	if err != nil {
		return false, err
	}
	before := stream.CachedInfo().State
	found, again := uint64(1), map[string]bool{}
	all := false
	for after := uint64(0); !all; {
		var a answer
		if a, all, err = b.page(ctx, after, 0); err != nil {
			return false, err
		}
		for _, r := range a.records {
			if r.rev <= before.LastSeq {
				found++
			} else {
				again[r.key] = true
			}
		}
		after = a.last
	}
	return found+uint64(len(again)) >= before.NumSubjects, nil
}
