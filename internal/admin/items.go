package admin

import (
	"context"
	"fmt"
	"iter"
	"math"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// Whatever moves a whole bus moves items: walk takes a store apart into them, an archive has a file for each, and
// copyItems (copy.go) puts them into a store. Views are not among them: they are made again from the logs.

// item is one thing that a store holds and no other can be made from: an entry, a sealed key or a
// card. An export has frames, too, which no store holds: these are not moved.
type item struct {
	entry  *store.Entry
	key    *store.SealedCopy
	card   *store.Card
	frame  *storedFrame
	places *places
}

// log is the log that an item belongs to which is moved; zero for a card, which belongs to none.
func (i item) log() crypto.ID {
	switch {
	case i.entry != nil:
		return i.entry.Log
	case i.key != nil:
		return i.key.Room
	}
	return crypto.ID{}
}

// Totals count what was looked at.
type Totals struct {
	Logs    int64 `json:"logs"`
	Entries int64 `json:"entries"`
	Keys    int64 `json:"keys"`
	Cards   int64 `json:"cards"`
}

// proof verifies items in the order of walk, as whoever puts them into a store will have to: that they cannot be is to be
// known while there is still a store to look at.
type proof struct {
	fold *ledger.Fold // of the log that it is at; nil: of none yet
	log  crypto.ID
}

// check is ErrDamaged for an item that is not what somebody has signed. A sealed key can be verified by nobody but whom it
// is for; that it has the length of one is all that is known of it.
func (p *proof) check(i item) error {
	switch {
	case i.card != nil:
		return checkCard(i.card)
	case i.key != nil:
		return checkSealed(i.key)
	case p.fold == nil || p.log != i.entry.Log:
		p.fold, p.log = new(ledger.Fold), i.entry.Log
	}
	c, err := advance(p.fold, p.log, i.entry)
	if err == nil && c.Entry.Seq != i.entry.Seq {
		err = fmt.Errorf("%w: entry %d of the log %s stands at place %d", store.ErrDamaged, c.Entry.Seq, p.log, i.entry.Seq)
	}
	return err
}

// advance adds an entry to the fold of its log. ErrDamaged when it breaks a rule, or stands under another log's id.
func advance(fold *ledger.Fold, log crypto.ID, e *store.Entry) (store.Change, error) {
	c, err := store.Advance(fold, e.Statement)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: log %s: %w", store.ErrDamaged, log, err)
	case c.Entry.Log != log:
		err = fmt.Errorf("%w: the log %s stands under the id %s", store.ErrDamaged, c.Entry.Log, log)
	}
	return c, err
}

// checkSealed is ErrDamaged for a sealed key that can be nobody's.
func checkSealed(k *store.SealedCopy) error {
	if len(k.Sealed) != crypto.SealedSize {
		return fmt.Errorf("%w: a sealed key of room %s for %s has %d bytes", store.ErrDamaged, k.Room, k.Endpoint, len(k.Sealed))
	}
	for _, key := range []crypto.PublicKey{k.Endpoint, k.Sealer} {
		if _, err := crypto.NewPublicKey(key[:]); err != nil {
			return fmt.Errorf("%w: a sealed key of room %s is for, or by, what is no user: %v", store.ErrDamaged, k.Room, err)
		}
	}
	return nil
}

// checkCard is ErrDamaged for a card that is not what its owner has signed.
func checkCard(c *store.Card) error {
	_, err := crypto.NewPublicKey(c.Endpoint[:]) // of none a card would be anybody's
	if err == nil {
		_, err = crypto.OpenCard(c.Statement, c.Endpoint)
	}
	if err != nil {
		err = remedy.With(fmt.Errorf("card of %s: %w: %v", c.Endpoint, store.ErrDamaged, err), remedy.Remedy{Kind: remedy.MendCard, User: c.Endpoint.String()})
	}
	return err
}

// add counts an item.
func (t *Totals) add(i item) {
	switch {
	case i.entry != nil:
		if i.entry.Seq == 1 {
			t.Logs++
		}
		t.Entries++
	case i.key != nil:
		t.Keys++
	default:
		t.Cards++
	}
}

// Progress is told how many of all logs are done, now and then, by several goroutines at once.
type Progress func(done, all int64)

// walk yields everything in a store: the bus log, the cards, and of each room first the keys and
// then the log, so that whoever is interrupted leaves no entry without the keys it needs; nor does a room that is rekeyed
// meanwhile: of its log there is what was there before its keys were listed. It ends with the first error.
func walk(ctx context.Context, from store.Backend) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		isBus := true // the first log is
		for log, err := range from.Logs(ctx) {
			if err != nil {
				yield(item{}, err)
				return
			}
			if isBus {
				if isBus = false; !yieldEntries(ctx, from, log, math.MaxUint64, yield) || !yieldCards(ctx, from, yield) {
					return
				}
				continue
			}
			end, err := store.HeadOf(ctx, from, log)
			if err != nil {
				yield(item{}, err)
				return
			}
			if !yieldKeys(ctx, from, log, yield) || !yieldEntries(ctx, from, log, end.Seq, yield) {
				return
			}
		}
	}
}

// yieldKeys yields the sealed keys of a room, and reports whether to go on.
func yieldKeys(ctx context.Context, from store.Backend, room crypto.ID, yield func(item, error) bool) bool {
	for k, err := range from.Sealed(ctx, room, 1) {
		if !yield(item{key: &k}, err) || err != nil {
			return false
		}
	}
	return true
}

// yieldEntries yields the entries of a log up to a last one, and reports whether to go on.
func yieldEntries(ctx context.Context, from store.Backend, log crypto.ID, last uint64, yield func(item, error) bool) bool {
	for e, err := range from.Entries(ctx, log, 0) {
		if err == nil && e.Seq > last {
			return true
		}
		if !yield(item{entry: &e}, err) || err != nil {
			return false
		}
	}
	return true
}

// yieldCards yields all cards, and reports whether to go on.
func yieldCards(ctx context.Context, from store.Backend, yield func(item, error) bool) bool {
	for c, err := range from.AllCards(ctx) {
		if !yield(item{card: &c}, err) || err != nil {
			return false
		}
	}
	return true
}
