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

// This file is what a store.Backend adds: going through everything that is kept, and being a copy of another store.

// inventory is store.Inventory but for the count of rooms, and store.Target but for CopyKeys.
type inventory struct {
	*conn
	*buckets
}

// Logs yields every log, that of the bus first. It holds their ids in memory.
func (i *inventory) Logs(ctx context.Context) iter.Seq2[crypto.ID, error] {
	return func(yield func(crypto.ID, error) bool) {
		bus, err := i.log.get(ctx, busKey)
		var list []crypto.ID
		if err == nil {
			err = i.log.scan(ctx, "*.1", func(r record) error {
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

// Sealed yields the sealed copies of a room's committed keys by all sealers, by epoch, from one on. It holds one epoch's in memory.
func (i *inventory) Sealed(ctx context.Context, room crypto.ID, from uint32) iter.Seq2[store.SealedCopy, error] {
	return func(yield func(store.SealedCopy, error) bool) {
		for epoch := max(from, 1); ; epoch++ {
			list, err := i.sealed(ctx, room, epoch)
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

// sealed are the copies of one epoch's committed key: ErrNotFound for an epoch that never began.
func (i *inventory) sealed(ctx context.Context, room crypto.ID, epoch uint32) ([]store.SealedCopy, error) {
	ctx, cancel := i.op(ctx)
	defer cancel()
	r, err := i.rooms.one(ctx, epochKey(room, epoch))
	if err != nil {
		return nil, err
	}
	commit, _, err := epochOf(r)
	if err != nil {
		return nil, err
	}
	found, err := i.keys.list(ctx, sealedKey(room, epoch, commit.String(), "*", "*"))
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
func (i *inventory) AllCards(ctx context.Context) iter.Seq2[store.Card, error] {
	return func(yield func(store.Card, error) bool) {
		err := i.keys.scan(ctx, cardPrefix+"*", func(r record) error {
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
func (i *inventory) Copying(ctx context.Context) (bool, error) {
	r, err := i.log.get(ctx, copyingKey)
	return len(r.value) > 0, failure(err)
}

// BeginCopy says that a bus is being copied into the store.
func (i *inventory) BeginCopy(ctx context.Context) error { return i.setCopying(ctx, []byte("1")) }

// EndCopy says that none is.
func (i *inventory) EndCopy(ctx context.Context) error { return i.setCopying(ctx, nil) }

// setCopying makes the one record that says so.
func (i *inventory) setCopying(ctx context.Context, value []byte) error {
	ctx, cancel := i.op(ctx)
	defer cancel()
	_, err := i.log.put(ctx, copyingKey, value, anyRevision)
	return failure(err)
}

// Replicas is on how many servers the log is kept.
func (i *inventory) Replicas(ctx context.Context) (int, error) {
	ctx, cancel := i.op(ctx)
	defer cancel()
	stream, err := i.js.Stream(ctx, i.log.stream)
	if err != nil {
		return 0, failure(err)
	}
	return stream.CachedInfo().Config.Replicas, nil
}
