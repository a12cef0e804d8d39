package admin

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/dustin/go-humanize/english"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// workers is how many rooms are moved at once.
const workers = 16

// keysAtOnce is how many sealed keys are written at once.
const keysAtOnce = 500

// item is one thing that a store holds and no other can be made from: an entry, a sealed key or a
// card.
type item struct {
	entry *store.Entry
	key   *store.SealedCopy
	card  *store.Card
}

// log is the log that an item belongs to; zero for a card.
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

func (t *Totals) add(i item) {
	switch {
	case i.entry != nil:
		if i.entry.Seq == 1 {
			atomic.AddInt64(&t.Logs, 1)
		}
		atomic.AddInt64(&t.Entries, 1)
	case i.key != nil:
		atomic.AddInt64(&t.Keys, 1)
	default:
		atomic.AddInt64(&t.Cards, 1)
	}
}

// Progress is told how many of all logs are done, now and then.
type Progress func(done, all int64)

// walk yields everything in a store: the bus log, the cards, and of each room first the keys and
// then the log, so that whoever is interrupted leaves no entry without the keys it needs.
func walk(ctx context.Context, from store.Backend) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		first := true
		for log, err := range from.Logs(ctx) {
			if err != nil {
				yield(item{}, err)
				return
			}
			if !first {
				for k, err := range from.Sealed(ctx, log) {
					if !yield(item{key: &k}, err) || err != nil {
						return
					}
				}
			}
			for e, err := range from.Entries(ctx, log, 0) {
				if !yield(item{entry: &e}, err) || err != nil {
					return
				}
			}
			if first {
				for c, err := range from.AllCards(ctx) {
					if !yield(item{card: &c}, err) || err != nil {
						return
					}
				}
			}
			first = false
		}
	}
}

// load puts items into a store. Rooms are worked on side by side, each in its own order.
func load(ctx context.Context, items iter.Seq2[item, error], to store.Backend, totals *Totals, done func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lines := make([]chan item, workers)
	var wait sync.WaitGroup
	for i := range lines {
		lines[i] = make(chan item, 64)
		wait.Go(func() {
			l := &loader{to: to, done: done}
			if err := l.run(ctx, lines[i]); err != nil {
				cancel(err)
			}
		})
	}
	send := func(i item) bool {
		id := i.log()
		select {
		case lines[int(id[0])%workers] <- i:
			return true
		case <-ctx.Done():
			return false
		}
	}
	var failed error
	for i, err := range items {
		if failed = err; err != nil || !send(i) {
			break
		}
		totals.add(i)
	}
	for _, line := range lines {
		close(line)
	}
	wait.Wait()
	if failed == nil {
		failed = context.Cause(ctx)
	}
	return failed
}

// loader writes the items of one room after the other.
type loader struct {
	to    store.Backend
	done  func() // a log
	fold  *ledger.Fold
	log   crypto.ID
	there ledger.Head // what the target has of the log
	keys  []store.SealedCopy
}

func (l *loader) run(ctx context.Context, line <-chan item) error {
	for i := range line {
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

// step is told of each item before it is written. Tests end the process there.
var step = func() {}

func (l *loader) put(ctx context.Context, i item) error {
	step()
	if i.card != nil {
		if _, err := crypto.OpenCard(i.card.Statement, i.card.Endpoint); err != nil {
			return fmt.Errorf("card of %s: %w: %v", i.card.Endpoint, store.ErrDamaged, err)
		}
		return l.to.PutCards(ctx, *i.card)
	}
	if i.log() != l.log || l.fold == nil {
		if err := l.begin(ctx, i.log()); err != nil {
			return err
		}
	}
	if i.key != nil {
		if n := len(l.keys); n == keysAtOnce || n > 0 && (l.keys[0].Epoch != i.key.Epoch || l.keys[0].Commit != i.key.Commit) {
			if err := l.flush(ctx); err != nil {
				return err
			}
		}
		l.keys = append(l.keys, *i.key)
		return nil
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	return l.entry(ctx, i.entry)
}

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

// entry appends an entry that the target does not have; what it has must be the same.
func (l *loader) entry(ctx context.Context, e *store.Entry) error {
	c, err := store.Advance(l.fold, e.Statement)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	if c.Entry.Log != l.log {
		return fmt.Errorf("%w: the log %s stands under the id %s", store.ErrDamaged, c.Entry.Log, l.log)
	}
	if e.Seq > l.there.Seq {
		return l.to.Append(ctx, c)
	}
	if e.Seq == l.there.Seq && l.fold.Head() != l.there {
		return fmt.Errorf("log %s: %w: the target has another entry %d", l.log, store.ErrConflict, e.Seq)
	}
	return nil
}

// digest is of a set: the same whatever the order, and however often something is written.
type digest struct {
	sum   [sha256.Size]byte
	count int64
}

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

func sealedDigest(ctx context.Context, s store.Inventory, room crypto.ID) (d digest, err error) {
	for k, err := range s.Sealed(ctx, room) {
		if err != nil {
			return d, err
		}
		d.add(binary.BigEndian.AppendUint32(nil, k.Epoch), k.Commit[:], k.Endpoint[:], k.Sealer[:], k.Sealed)
	}
	return d, nil
}

func cardsDigest(ctx context.Context, s store.Inventory) (d digest, err error) {
	for c, err := range s.AllCards(ctx) {
		if err != nil {
			return d, err
		}
		d.add(c.Endpoint[:], c.Statement)
	}
	return d, nil
}

// ErrDiffers says that two stores do not hold the same.
var ErrDiffers = errors.New("the stores differ")

// Report says what Migrate and Restore did.
type Report struct {
	Totals
	Bus     crypto.ID `json:"bus"`
	Missing int64     `json:"missing"` // logs that the target did not have whole before
}

// Migrate makes one store hold what another does. What is there already is left alone, so that it
// may be repeated, and goes on where it was interrupted. At the end it holds both against each
// other: ErrDiffers when they are not the same, as when the source is still written to. ErrConflict
// when the target has another history, ErrExists when it has another bus. With dry nothing is written.
func Migrate(ctx context.Context, from, to store.Backend, dry bool, progress Progress) (Report, error) {
	var r Report
	all, err := count(ctx, from, to, &r)
	if err != nil || dry {
		return r, err
	}
	var done atomic.Int64
	tick := func() { progress(done.Add(1), 2*all) }
	return r, receive(ctx, to, func() error {
		if err := load(ctx, walk(ctx, from), to, &r.Totals, tick); err != nil {
			return err
		}
		return same(ctx, from, to, tick)
	})
}

// receive has a store filled with a bus that it does not have, or has in part. Until that is done nobody relies on it:
// who was revoked in the end may be a user at first.
func receive(ctx context.Context, to store.Backend, fill func() error) error {
	copying, err := to.Copying(ctx)
	if err == nil && !copying {
		_, err = to.Bus(ctx)
		if copying = errors.Is(err, store.ErrNotFound); copying {
			err = to.BeginCopy(ctx)
		}
	}
	if err == nil {
		err = fill()
	}
	if err == nil && copying {
		err = to.EndCopy(ctx)
	}
	return err
}

// count looks at both sides: what there is, and what of it is missing at the target.
func count(ctx context.Context, from, to store.Backend, r *Report) (all int64, err error) {
	if r.Bus, err = BusOf(ctx, from); err != nil {
		return 0, fmt.Errorf("the source: %w", err)
	}
	if to != nil {
		if err := ofBus(ctx, to, r.Bus); err != nil {
			return 0, fmt.Errorf("the target: %w", err)
		}
	}
	for log, err := range from.Logs(ctx) {
		if err != nil {
			return 0, err
		}
		all++
		whole, err := has(ctx, from, to, log)
		if err != nil {
			return 0, err
		}
		if !whole {
			r.Missing++
		}
	}
	return all, nil
}

// BusOf returns which bus a store holds; ErrNotFound for none.
func BusOf(ctx context.Context, s store.Log) (crypto.ID, error) {
	statement, err := s.Bus(ctx)
	if err != nil {
		return crypto.ID{}, err
	}
	id, _, _, err := ledger.Place(statement)
	if err != nil {
		err = fmt.Errorf("bus log: %w: %v", store.ErrDamaged, err)
	}
	return id, err
}

// ofBus fails with ErrExists when a store holds another bus; it may hold none yet.
func ofBus(ctx context.Context, s store.Log, id crypto.ID) error {
	own, err := BusOf(ctx, s)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case own != id:
		return fmt.Errorf("%w: it holds another bus, %s", store.ErrExists, own)
	}
	return nil
}

func has(ctx context.Context, from, to store.Backend, log crypto.ID) (bool, error) {
	if to == nil {
		return false, nil
	}
	theirs, err := store.HeadOf(ctx, to, log)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ours, err := store.HeadOf(ctx, from, log)
	return ours == theirs, err
}

// same checks that two stores hold the same, and that the views of the second are what its logs say.
func same(ctx context.Context, from, to store.Backend, done func()) error {
	logs, err := each(ctx, from, func(ctx context.Context, log crypto.ID) error {
		defer done()
		if err := sameLog(ctx, from, to, log); err != nil {
			return err
		}
		a, err := sealedDigest(ctx, from, log)
		if err != nil {
			return err
		}
		b, err := sealedDigest(ctx, to, log)
		if err == nil && a != b {
			err = fmt.Errorf("%w: room %s has %d sealed keys in the source, %d in the target, or others", ErrDiffers, log, a.count, b.count)
		}
		return err
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
	if logs != 0 {
		return fmt.Errorf("%w: the target has %s more than the source", ErrDiffers, english.Plural(-logs, "log", ""))
	}
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

func sameLog(ctx context.Context, from store.Log, to store.Backend, log crypto.ID) error {
	h, err := store.HeadOf(ctx, from, log)
	if err != nil {
		return err
	}
	return right(ctx, to, log, h)
}

// right checks that a store has a log up to a head, no further, and its views as it says.
func right(ctx context.Context, s store.Backend, log crypto.ID, h ledger.Head) error {
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

// each calls f for every log of a store, some at once, and returns how many there are.
func each(ctx context.Context, s store.Inventory, f func(ctx context.Context, log crypto.ID) error) (n int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var working tasks.Group
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
