package admin

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize/english"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// This file holds stores against each other, once something was copied: logs by where they end, keys and cards by digests
// of all of them, and views by what the logs say.

// ErrDiffers says that two stores do not hold the same.
var ErrDiffers = errors.New("the stores differ")

// verifySame checks that two stores hold the same, and that the views of the second are what its logs say. It calls done
// for each log.
func verifySame(ctx context.Context, from, to store.Backend, done func()) error {
	logs, err := eachLog(ctx, from, func(ctx context.Context, log crypto.ID) error {
		defer done()
		if err := verifySameLog(ctx, from, to, log); err != nil {
			return err
		}
		return verifySameKeys(ctx, from, to, log)
	})
	if err != nil {
		return err
	}
	for _, err := range to.Logs(ctx) {
		if err != nil {
			return err
		}
		logs--
	}
	// None can be missing, for each was looked for.
	if logs != 0 {
		return fmt.Errorf("%w: the target has %s more than the source", ErrDiffers, english.Plural(-logs, "log", ""))
	}
	return verifySameCards(ctx, from, to)
}

// verifySameLog checks that a log ends in the target where it does in the source, and its views there.
func verifySameLog(ctx context.Context, from store.Log, to store.Backend, log crypto.ID) error {
	h, err := store.HeadOf(ctx, from, log)
	if err != nil {
		return err
	}
	return verifyLog(ctx, to, log, h)
}

// verifySameKeys checks that both have the same sealed keys of a room; of the bus, which has none, too.
func verifySameKeys(ctx context.Context, from, to store.Inventory, room crypto.ID) error {
	a, err := sealedDigest(ctx, from, room)
	if err != nil {
		return err
	}
	b, err := sealedDigest(ctx, to, room)
	if err == nil && a != b {
		err = fmt.Errorf("%w: room %s has %d sealed keys in the source, %d in the target, or others", ErrDiffers, room, a.count, b.count)
	}
	return err
}

// verifySameCards checks that both have the same cards.
func verifySameCards(ctx context.Context, from, to store.Inventory) error {
	a, err := cardsDigest(ctx, from)
	if err != nil {
		return err
	}
	b, err := cardsDigest(ctx, to)
	if err == nil && a != b {
		err = fmt.Errorf("%w: %d cards in the source, %d in the target, or others", ErrDiffers, a.count, b.count)
	}
	return err
}

// verifyLog checks that a store has a log up to a head, no further, and its views as it says. The log is folded for that,
// and so verified by the rules once more, as it is stored now.
func verifyLog(ctx context.Context, s store.Backend, log crypto.ID, h ledger.Head) error {
	state, err := store.Load(ctx, s, log)
	if err != nil {
		return err
	}
	if state.Head != h {
		return fmt.Errorf("%w: log %s ends at entry %d in the source, at %d in the target", ErrDiffers, log, h.Seq, state.Head.Seq)
	}
	wrong, err := s.Differs(ctx, state)
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%w: %d views of log %s are not what it says", ErrDiffers, wrong, log)
	}
	return err
}

// digest is of a set: the same whatever the order, for stores list what they hold in orders of their own. Nothing is in a
// set twice, so that two of a kind do not take each other out.
type digest struct {
	sum   [sha256.Size]byte
	count int64
}

// add takes in one thing, of several parts: lengths go before them, so that what is moved from one part to another differs.
func (d *digest) add(parts ...[]byte) {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	for i, b := range h.Sum(nil) {
		d.sum[i] ^= b
	}
	d.count++
}

// sealedDigest is of all sealed keys of a room.
func sealedDigest(ctx context.Context, s store.Inventory, room crypto.ID) (d digest, err error) {
	for k, err := range s.Sealed(ctx, room, 1) {
		if err != nil {
			return d, err
		}
		d.add(binary.BigEndian.AppendUint32(nil, k.Epoch), k.Commit[:], k.Endpoint[:], k.Sealer[:], k.Sealed)
	}
	return d, nil
}

// cardsDigest is of all cards.
func cardsDigest(ctx context.Context, s store.Inventory) (d digest, err error) {
	for c, err := range s.AllCards(ctx) {
		if err != nil {
			return d, err
		}
		d.add(c.Endpoint[:], c.Statement)
	}
	return d, nil
}

// eachLog calls f for every log of a store, some at once, and returns how many there are. The first error ends it.
func eachLog(ctx context.Context, s store.Inventory, f func(ctx context.Context, log crypto.ID) error) (n int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var working tasks.Group
	// The first error ends the others by the context, whose own error they then have: it is asked for the cause.
	run := working.Limit(workers)
	var failed error
	for log, err := range s.Logs(ctx) {
		if failed = err; err != nil || ctx.Err() != nil {
			break
		}
		n++
		run(ctx, func() {
			if err := f(ctx, log); err != nil {
				cancel(err)
			}
		})
	}
	working.Wait()
	if failed == nil {
		failed = context.Cause(ctx)
	}
	return n, failed
}
