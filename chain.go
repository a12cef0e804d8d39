package unibus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/store"
)

// chain is one log as this client has verified it.
type chain struct {
	c  *Client
	id crypto.ID

	syncing sync.Mutex // one sync or append at a time

	mu      sync.RWMutex
	state   *ledger.State
	checked time.Time // when the store last agreed with state
}

// openChain starts from what is pinned.
func (c *Client) openChain(ctx context.Context, id crypto.ID) (*chain, error) {
	s, err := c.pins.State(ctx, id)
	if err != nil {
		return nil, err
	}
	return &chain{c: c, id: id, state: s}, nil
}

// read calls f with the state, which does not change meanwhile.
func (l *chain) read(f func(s *ledger.State)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	f(l.state)
}

func (l *chain) head() (h ledger.Head) {
	l.read(func(s *ledger.State) { h = s.Head })
	return h
}

// sync brings the chain up to date with the store, and pins what it verified. ErrIntegrity when
// the store offers a shorter, a different or a broken history; the state then stays as it was.
func (l *chain) sync(ctx context.Context) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	return l.syncLocked(ctx)
}

// confirm syncs if the store has not confirmed the head for a while.
func (l *chain) confirm(ctx context.Context) error {
	l.mu.RLock()
	fresh := time.Since(l.checked) < confirmHead
	l.mu.RUnlock()
	if fresh {
		return nil
	}
	return l.sync(ctx)
}

func (l *chain) syncLocked(ctx context.Context) error {
	before := l.head()
	heads, err := l.c.store.Heads(ctx, l.id)
	if err != nil {
		return err
	}
	return l.syncTo(ctx, before, heads[0])
}

// syncTo is sync with the head that the store gave when it was asked after the chain had reached before, as
// for many logs at once; the chain may have grown since. The caller holds l.syncing.
func (l *chain) syncTo(ctx context.Context, before, head ledger.Head) error {
	own := l.head()
	switch {
	case head.Seq == 0 && before.Seq > 0:
		return l.rolledBack("the store denies the log that was verified up to entry %d", before.Seq)
	case head.Seq == 0:
		return fmt.Errorf("log %s: %w", l.id, ErrNotFound)
	case head.Seq < before.Seq:
		return l.rolledBack("the store's log ends at entry %d, but it was verified up to entry %d", head.Seq, before.Seq)
	case head.Seq > own.Seq:
		if err := l.fetch(ctx, head.Seq); err != nil {
			return err
		}
	case !l.has(head):
		return l.broken("the store has another entry %d than the one that was verified", head.Seq)
	}
	l.mu.Lock()
	l.checked = time.Now()
	l.mu.Unlock()
	return nil
}

// has reports whether the verified log has an entry.
func (l *chain) has(h ledger.Head) (ok bool) {
	l.read(func(s *ledger.State) {
		hash, reached := s.HashAt(h.Seq)
		ok = reached && hash == h.Hash
	})
	return ok
}

// fetch verifies and pins the entries from the state's head up to at least seq.
func (l *chain) fetch(ctx context.Context, seq uint64) error {
	var failed error
	before := l.head().Seq
	for e, err := range l.c.store.Entries(ctx, l.id, before) {
		if failed = err; err == nil {
			failed = l.apply(e.Statement)
		}
		if failed != nil {
			break
		}
	}
	now := l.head().Seq
	if now > before {
		if err := l.pin(ctx); err != nil {
			return err
		}
	}
	if failed == nil && now < seq {
		return l.broken("the store withholds the entries after %d", now)
	}
	return failed
}

// apply folds one entry in. The first entry of a log names its id.
func (l *chain) apply(statement []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Head.Seq == 0 {
		first := new(ledger.State)
		if _, err := first.Apply(statement); err != nil {
			return l.invalid(err)
		}
		if first.ID != l.id {
			return l.broken("the store gave the log %s instead", first.ID)
		}
		if first.Room != nil && first.Room.Bus != l.c.bus.id {
			return l.broken("the room is of another bus")
		}
		l.state = first
		return nil
	}
	if _, err := l.state.Apply(statement); err != nil {
		return l.invalid(err)
	}
	return nil
}

func (l *chain) invalid(err error) error {
	if errors.Is(err, ledger.ErrNewer) {
		return fmt.Errorf("log %s: %w: %w", l.id, ErrInvalid, err)
	}
	return fmt.Errorf("%w: %w", ErrIntegrity, err)
}

func (l *chain) broken(format string, args ...any) error {
	return fmt.Errorf("log %s: %w: %s", l.id, ErrIntegrity, fmt.Sprintf(format, args...))
}

func (l *chain) rolledBack(format string, args ...any) error {
	return fmt.Errorf("log %s: %w: %w: %s", l.id, ErrIntegrity, ErrLogRolledBack, fmt.Sprintf(format, args...))
}

func (l *chain) pin(ctx context.Context) (err error) {
	l.read(func(s *ledger.State) { err = l.c.pins.Advance(ctx, s) })
	if errors.Is(err, pins.ErrContradiction) {
		return fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	return err
}

// After losing its place an append starts again a little later, the later the more often it has lost:
// whoever else is at it gets done meanwhile.
const (
	firstPause = 10 * time.Millisecond
	maxPause   = 500 * time.Millisecond
)

// append writes the entry whose body next decides on, given the current state, which holds still
// meanwhile. When another entry takes the place, next is asked again, for fresh keys, until the
// client's timeout; then it is ErrConflict. A nil body is nothing to do.
func (l *chain) append(ctx context.Context, next func(ctx context.Context, s *ledger.State) (ledger.Body, error)) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if err := l.settle(ctx); err != nil {
		return err
	}
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := l.tryAppend(ctx, next)
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if time.Since(began) > l.c.o.Timeout {
			return fmt.Errorf("log %s: %w: others were quicker for %v", l.id, ErrConflict, l.c.o.Timeout)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(pause)):
		}
	}
}

// tryAppend is one attempt at append. It is ErrConflict too when next had keys for an epoch that has passed.
func (l *chain) tryAppend(ctx context.Context, next func(ctx context.Context, s *ledger.State) (ledger.Body, error)) error {
	if err := l.syncLocked(ctx); err != nil {
		return err
	}
	body, err := next(ctx, l.state) // only the holder of l.syncing changes it
	if err != nil || body == nil {
		return err
	}
	statement, err := l.state.Next(l.c.id, body, time.Now())
	if err != nil {
		return notAllowed(err)
	}
	return l.offer(ctx, statement)
}

// notAllowed gives a broken rule its kind.
func notAllowed(err error) error {
	var invalid *ledger.Invalid
	if !errors.As(err, &invalid) {
		return err
	}
	if errors.Is(err, ledger.ErrNotAllowed) || errors.Is(err, ledger.ErrRule) {
		return fmt.Errorf("%w: %w", ErrDenied, invalid.Why)
	}
	return invalid.Why
}

// offer submits an entry, the same bytes until they are answered, remembered meanwhile even beyond
// this process: nobody signs two entries for one place.
func (l *chain) offer(ctx context.Context, statement []byte) error {
	ahead, err := l.copy()
	if err != nil {
		return err
	}
	change, err := store.Advance(ahead, statement)
	if err != nil {
		return notAllowed(err)
	}
	if err := l.c.pins.Offering(ctx, l.id, statement); err != nil {
		return err
	}
	if err := l.submit(ctx, change); err != nil {
		return err
	}
	l.mu.Lock()
	l.state, l.checked = ahead, time.Now()
	l.mu.Unlock()
	if err := l.pin(ctx); err != nil {
		return err
	}
	if err := l.c.pins.Answered(ctx, l.id); err != nil {
		return err
	}
	if l.c.streams != nil && ahead.Room != nil { // no service does it
		return l.c.streams.Ensure(ctx, ahead.ID, ahead.Room.Policy)
	}
	return nil
}

// copy returns a state of its own, equal to the chain's.
func (l *chain) copy() (*ledger.State, error) {
	if l.state.Head.Seq == 0 {
		return new(ledger.State), nil
	}
	snapshot, err := l.state.Snapshot()
	if err != nil {
		return nil, err
	}
	return ledger.LoadSnapshot(snapshot)
}

// submit appends a change, again while it is not answered and ctx allows.
func (l *chain) submit(ctx context.Context, change store.Change) error {
	ctx, cancel := context.WithTimeout(ctx, l.c.o.Timeout)
	defer cancel()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := l.c.store.Append(ctx, change)
		if err == nil || !errors.Is(err, ErrUnavailable) {
			if err != nil {
				err = errors.Join(err, l.c.pins.Answered(context.WithoutCancel(ctx), l.id))
			}
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the entry is kept and offered again by the next change of this log", err)
		case <-time.After(wait):
		}
	}
}

// settle offers again an entry that an earlier process never heard of.
func (l *chain) settle(ctx context.Context) error {
	statement, err := l.c.pins.Unanswered(ctx, l.id)
	if err != nil || statement == nil {
		return err
	}
	if err := l.syncLocked(ctx); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	_, seq, hash, err := ledger.Place(statement)
	if err != nil {
		return err
	}
	own, reached := l.state.HashAt(seq)
	if !reached {
		if err := l.offer(ctx, statement); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
		return nil
	}
	if own != hash { // it lost
		l.c.say("an earlier change of log %s lost its place to another and was given up", l.id)
	}
	return l.c.pins.Answered(ctx, l.id)
}
