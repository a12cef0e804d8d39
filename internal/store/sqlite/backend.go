package sqlite

import (
	"context"
	"fmt"
	"iter"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file is what a store.Backend adds: going through everything that is kept, and being a copy of another store.

// inventory is store.Inventory but for the count of rooms, and store.Target but for CopyKeys.
type inventory struct{ *database }

// Logs yields every log, that of the bus first.
func (i *inventory) Logs(ctx context.Context) iter.Seq2[crypto.ID, error] {
	read := func(after []byte) ([]crypto.ID, error) {
		ctx, cancel := i.op(ctx)
		defer cancel()
		// The bus log is behind no other: it is the one without a place of its own in this order.
		return rows(ctx, i.read, scanID, `SELECT log FROM entries WHERE seq = 1 AND log > ? AND log NOT IN (SELECT log FROM bus) ORDER BY log LIMIT ?`, after, page)
	}
	return func(yield func(crypto.ID, error) bool) {
		op, cancel := i.op(ctx)
		bus, err := rows(op, i.read, scanID, `SELECT log FROM bus`)
		cancel()
		if err != nil {
			yield(crypto.ID{}, failure(err))
			return
		}
		for _, id := range bus {
			if !yield(id, nil) {
				return
			}
		}
		pages([]byte{}, read, func(id crypto.ID) []byte { return id[:] })(yield)
	}
}

// scanID reads the id of a log.
func scanID(scan func(...any) error) (id crypto.ID, err error) {
	err = scan(Blob(id[:]))
	return id, err
}

// Sealed yields the sealed copies of a room's committed keys by all sealers, by epoch, from one on.
func (i *inventory) Sealed(ctx context.Context, room crypto.ID, from uint32) iter.Seq2[store.SealedCopy, error] {
	return func(yield func(store.SealedCopy, error) bool) {
		i.sealed(ctx, room, from)(yield)
	}
}

// sealed is Sealed for one pass.
func (i *inventory) sealed(ctx context.Context, room crypto.ID, from uint32) iter.Seq2[store.SealedCopy, error] {
	last := store.SealedCopy{Epoch: from}
	read := func(after []byte) ([]store.SealedCopy, error) {
		ctx, cancel := i.op(ctx)
		defer cancel()
		return rows(ctx, i.read, func(scan func(...any) error) (store.SealedCopy, error) {
			k := store.SealedCopy{Room: room}
			err := scan(&k.Epoch, Blob(k.Commit[:]), Blob(k.Endpoint[:]), Blob(k.Sealer[:]), &k.Sealed)
			return k, err
		}, `SELECT k.epoch, k.commitment, k.endpoint, k.sealer, k.sealed FROM epochs e
			JOIN room_keys k ON k.room = e.room AND k.epoch = e.epoch AND k.commitment = e.commitment
			WHERE e.room = ? AND (k.epoch, k.endpoint, k.sealer) > (?, ?, ?) ORDER BY k.epoch, k.endpoint, k.sealer LIMIT ?`,
			room[:], last.Epoch, last.Endpoint[:], after, page)
	}
	return pages([]byte{}, read, func(k store.SealedCopy) []byte {
		last = k
		return k.Sealer[:]
	})
}

// AllCards yields every card.
func (i *inventory) AllCards(ctx context.Context) iter.Seq2[store.Card, error] {
	read := func(after []byte) ([]store.Card, error) {
		ctx, cancel := i.op(ctx)
		defer cancel()
		return rows(ctx, i.read, scanCard, `SELECT endpoint, statement FROM cards WHERE endpoint > ? ORDER BY endpoint LIMIT ?`, after, page)
	}
	return pages([]byte{}, read, func(c store.Card) []byte { return c.Endpoint[:] })
}

// Copying reports whether a bus is being copied into the store.
func (i *inventory) Copying(ctx context.Context) (bool, error) {
	yes, err := i.holds(ctx, `SELECT EXISTS (SELECT 1 FROM copying)`)
	if err != nil {
		err = fmt.Errorf("copy: %w", err)
	}
	return yes, err
}

// BeginCopy says that a bus is being copied into the store.
func (i *inventory) BeginCopy(ctx context.Context) error {
	return i.setCopying(ctx, `INSERT OR IGNORE INTO copying (one) VALUES (x'01')`)
}

// EndCopy says that none is.
func (i *inventory) EndCopy(ctx context.Context) error {
	return i.setCopying(ctx, `DELETE FROM copying`)
}

// setCopying makes the one change that says so.
func (i *inventory) setCopying(ctx context.Context, change string) error {
	ctx, cancel := i.op(ctx)
	defer cancel()
	_, err := i.write.ExecContext(ctx, change)
	return failure(err)
}
