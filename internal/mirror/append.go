package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

const (
	// After losing its place an append starts again a little later, the later the more often it has lost: whoever
	// else is at it gets done meanwhile.
	firstPause = 10 * time.Millisecond
	maxPause   = 500 * time.Millisecond
	// underWay is how long a kept entry is taken for that of another process, which is offering it just now.
	underWay = 2 * time.Second
	// old is the age from which on a person has to say that a kept entry is still meant.
	old = 10 * time.Minute
)

// Key is a room's key that an entry hands out.
type Key struct {
	Epoch uint32
	Key   crypto.RoomKey
}

// Proposal is what a next entry does, and the key that has to be handed out before it is offered; nil for none.
type Proposal struct {
	Body ledger.Body
	Key  *Key
}

// Next decides on the next entry of a log, given the log as it is; nil is nothing to do.
type Next func(ctx context.Context, s *ledger.State) (*Proposal, error)

// Create offers the first entry of a room's log. It has no rival: an answer settles it. ErrExists when the room's
// subject is taken, ErrUnavailable when the room may have been made all the same: the log is returned then, too.
func (p *Peer) Create(ctx context.Context, next Proposal, bus crypto.ID) (*Log, error) {
	l := &Log{peer: p, bus: bus, state: new(ledger.State)}
	d, err := l.draft(ctx, next)
	if err != nil {
		return nil, err
	}
	l.id = d.Entry.Log
	d.Sign(p.Identity)
	if err := l.offer(ctx, d); err != nil {
		return l, err
	}
	return l, l.accept(ctx, d.After)
}

// Append writes the entry that next decides on; the log holds still meanwhile. When another entry takes the place next
// is asked again, for fresh keys, until the timeout: then it is ErrConflict. An entry that an earlier process left is
// offered first: ErrKept when it is so old that a person has to confirm it.
//
// With any other error the entry is kept, and offered again by the next Append.
func (l *Log) Append(ctx context.Context, next Next) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := l.tryAppend(ctx, began, next)
		if !errors.Is(err, store.ErrConflict) || errors.Is(err, ErrKept) {
			return err
		}
		if time.Since(began) > l.peer.Timeout {
			return fmt.Errorf("log %s: %w: others were quicker for %v", l.id, store.ErrConflict, l.peer.Timeout)
		}
		if err := tasks.Pause(ctx, rand.N(pause)); err != nil {
			return err
		}
	}
}

// tryAppend is one attempt at Append. It is ErrConflict too when next had keys for an epoch that has passed.
func (l *Log) tryAppend(ctx context.Context, began time.Time, next Next) error {
	before, kept, err := l.settle(ctx, began)
	if err != nil {
		return err
	}
	p, err := next(ctx, l.state)
	if err == nil && p == nil {
		return nil
	}
	var d *ledger.Draft
	if err == nil {
		d, err = l.draft(ctx, *p)
	}
	if err != nil { // it cannot be done twice
		if kept == nil {
			before, kept = l.unanswered(ctx)
		}
		if kept != nil && asked(ctx, next, before, kept) {
			return l.peer.Pins.Answered(ctx, l.id, kept.Seq)
		}
		return err
	}
	err = l.peer.Pins.Offer(ctx, l.id, d.Entry.Seq, func() (o pins.Offer, err error) {
		o.At = time.Now()
		if p.Key != nil {
			o.Epoch = p.Key.Epoch
			o.Key, err = l.sealOwn(p.Key)
		}
		if err == nil {
			o.Statement = d.Sign(l.peer.Identity)
			step("signed")
		}
		return o, err
	})
	if errors.Is(err, pins.ErrTaken) { // by another process of this identity
		return errors.Join(fmt.Errorf("log %s: %w", l.id, store.ErrConflict), l.catchUp(ctx))
	}
	if err != nil {
		return err
	}
	step("kept")
	return l.commit(ctx, d)
}

// asked reports whether an entry that was kept, and stands now, does what next asks for: the command that had signed it
// is given again.
func asked(ctx context.Context, next Next, before *ledger.State, kept *ledger.Entry) bool {
	p, err := next(ctx, before)
	return err == nil && p != nil && ledger.SameChange(p.Body, kept.Body)
}

// unanswered returns the last entry that this identity signed, if it stands, and the command that had it signed ended a
// while ago without knowing that; and the log as it was before. It only helps to say what a command has done: nil when
// anything is in the way.
func (l *Log) unanswered(ctx context.Context) (before *ledger.State, e *ledger.Entry) {
	o, err := l.peer.Pins.Unanswered(ctx, l.id)
	if err != nil || o == nil || time.Since(o.At) >= old {
		return nil, nil
	}
	e, err = l.state.Read(o.Statement)
	if err != nil || !l.has(ledger.Head{Seq: o.Seq, Hash: e.Hash}) {
		return nil, nil
	}
	before = new(ledger.State)
	for raw, err := range l.peer.Store.Entries(ctx, l.id, 0) {
		if err != nil || before.Head.Seq == o.Seq-1 {
			break
		}
		if _, err := before.Apply(raw.Statement); err != nil {
			break
		}
	}
	if before.Head.Seq != o.Seq-1 || !l.has(before.Head) {
		return nil, nil
	}
	return before, e
}

// step is told how far an Append has come. Tests end the process there.
var step = func(string) {}

// draft makes the next entry, by this identity, and has the key handed out that it needs.
func (l *Log) draft(ctx context.Context, p Proposal) (*ledger.Draft, error) {
	d, err := l.state.Draft(l.peer.Identity.Key(), p.Body, time.Now())
	if err != nil {
		return nil, refused(err)
	}
	if p.Key != nil {
		err = l.peer.Stage(ctx, d.After, d.Entry, p.Key)
	}
	step("staged")
	return d, err
}

// refused gives a rule that an entry of one's own would break its kind.
func refused(err error) error {
	var invalid *ledger.Invalid
	switch {
	case !errors.As(err, &invalid):
		return err
	case errors.Is(err, ledger.ErrNotAllowed), errors.Is(err, ledger.ErrRule):
		return fmt.Errorf("%w: %w", store.ErrDenied, invalid.Why)
	case errors.Is(err, crypto.ErrEncoding):
		return fmt.Errorf("%w: %w", store.ErrInvalid, invalid.Why)
	}
	return invalid.Why
}

// sealOwn seals a key for this identity, to be kept with its entry.
func (l *Log) sealOwn(k *Key) ([]byte, error) {
	id := l.peer.Identity
	statement, err := id.Card()
	if err != nil {
		return nil, err
	}
	card, err := crypto.OpenCard(statement, id.Key())
	if err != nil {
		return nil, err
	}
	return crypto.SealKey(k.Key, l.id, k.Epoch, id.Key(), card.Sealing)
}

// commit offers an entry that is kept, until it stands or another does. A store's word alone settles nothing: only a
// verified entry frees the place, its own or another's.
func (l *Log) commit(ctx context.Context, d *ledger.Draft) error {
	err := l.offer(ctx, d)
	step("answered")
	switch {
	case err == nil:
		return l.accept(ctx, d.After)
	case !errors.Is(err, store.ErrConflict):
		return fmt.Errorf("%w; the entry is kept, and offered again before the next change of this log", err)
	}
	if serr := l.sync(ctx); serr != nil {
		return errors.Join(serr, fmt.Errorf("entry %d is kept: the store says that another took its place", d.Entry.Seq))
	}
	if l.Head().Seq < d.Entry.Seq {
		return l.broken("the store says that entry %d is another's, and has none", d.Entry.Seq)
	}
	if l.has(ledger.Head{Seq: d.Entry.Seq, Hash: d.Entry.Hash}) {
		return errors.Join(l.peer.Pins.Answered(ctx, l.id, d.Entry.Seq), l.accepted(ctx))
	}
	return err
}

// offer submits an entry, again while it is not answered and the timeout allows.
func (l *Log) offer(ctx context.Context, d *ledger.Draft) error {
	ctx, cancel := context.WithTimeout(ctx, l.peer.Timeout)
	defer cancel()
	change := store.Change{Entry: d.Entry, Views: d.After.Views(d.Entry)}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := l.peer.Store.Append(ctx, change)
		if err == nil || !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		if tasks.Pause(ctx, wait) != nil {
			return err
		}
	}
}

// accept takes in one's own entry, which stands.
func (l *Log) accept(ctx context.Context, after *ledger.State) error {
	l.mu.Lock()
	l.state, l.checked = after, time.Now()
	l.mu.Unlock()
	step("taken in")
	if err := l.pin(ctx); err != nil {
		return err
	}
	step("pinned")
	if err := l.peer.Pins.Answered(ctx, l.id, after.Head.Seq); err != nil {
		return err
	}
	return l.accepted(ctx)
}

func (l *Log) accepted(ctx context.Context) error {
	if l.peer.Accepted == nil {
		return nil
	}
	return l.peer.Accepted(ctx, l.state)
}

// settle brings the log up to date, and offers again an entry that an earlier process signed for it and of which
// nobody knows whether it stands. It returns that entry, if it stands now, and the log as it was before.
func (l *Log) settle(ctx context.Context, began time.Time) (before *ledger.State, kept *ledger.Entry, err error) {
	o, err := l.peer.Pins.Offered(ctx, l.id)
	if err != nil {
		return nil, nil, err
	}
	if o != nil { // it may continue what another process has verified
		if err := l.catchUp(ctx); err != nil {
			return nil, nil, err
		}
		if before, err = l.state.Clone(); err != nil {
			return nil, nil, err
		}
	}
	if err := l.sync(ctx); err != nil || o == nil {
		return nil, nil, err
	}
	age := time.Since(o.At)
	if l.state.Head.Seq >= o.Seq { // a verified entry stands there, and the pins have let go of it
		kept, err := l.settled(o, age)
		return before, kept, err
	}
	before = l.state
	d, err := l.kept(o)
	if err == nil {
		err = l.offerKept(ctx, o, d, age, time.Since(began))
	}
	if err != nil {
		return nil, nil, err
	}
	return before, d.Entry, nil
}

// offerKept offers an entry again that was signed so long ago, in an Append that began a while ago.
func (l *Log) offerKept(ctx context.Context, o *pins.Offer, d *ledger.Draft, age, sought time.Duration) error {
	switch {
	case age < underWay && sought < underWay:
		return fmt.Errorf("log %s: %w: another process of this identity is at it", l.id, store.ErrConflict)
	case age >= old && !l.peer.Confirm:
		return fmt.Errorf("log %s: %w: its entry %d (%s), which you signed %s ago, was never answered, or was taken back, and has to be offered before any other",
			l.id, ErrKept, o.Seq, d.Entry.Op, age.Round(time.Minute))
	}
	l.peer.Tell(d.Entry, age, false)
	if o.Key != nil {
		k, err := l.openOwn(o, d.After)
		if err == nil {
			err = l.peer.Stage(ctx, d.After, d.Entry, k)
		}
		if err != nil {
			return err
		}
	}
	return l.commit(ctx, d)
}

// settled tells of an entry that has lost its place, unless it is that of another process which is at it just now, and
// returns one that has not.
func (l *Log) settled(o *pins.Offer, age time.Duration) (*ledger.Entry, error) {
	e, err := l.state.Read(o.Statement)
	if err != nil {
		return nil, err
	}
	if l.has(ledger.Head{Seq: o.Seq, Hash: e.Hash}) {
		return e, nil
	}
	if age >= underWay {
		l.peer.Tell(e, age, true)
	}
	return nil, nil
}

// kept is an entry that is kept, as the next one.
func (l *Log) kept(o *pins.Offer) (*ledger.Draft, error) {
	after, err := l.state.Clone()
	if err != nil {
		return nil, err
	}
	e, err := after.Apply(o.Statement)
	if err != nil {
		return nil, l.broken("the entry %d that is kept for it does not continue it: %v", o.Seq, err)
	}
	return &ledger.Draft{Entry: e, After: after}, nil
}

// openOwn opens the key that is kept with an entry.
func (l *Log) openOwn(o *pins.Offer, after *ledger.State) (*Key, error) {
	if after.Room == nil || o.Epoch < 1 || int(o.Epoch) > len(after.Room.Epochs) {
		return nil, l.broken("the key that is kept with its entry %d is of no epoch", o.Seq)
	}
	key, err := l.peer.Identity.OpenKey(o.Key, l.id, o.Epoch, after.Room.Epochs[o.Epoch-1].Commit)
	if err != nil {
		return nil, l.broken("the key that is kept with its entry %d: %v", o.Seq, err)
	}
	return &Key{Epoch: o.Epoch, Key: key}, nil
}

// catchUp takes over what another process of this identity has verified and pinned meanwhile.
func (l *Log) catchUp(ctx context.Context) error {
	s, err := l.peer.Pins.State(ctx, l.id)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.Head.Seq > l.state.Head.Seq {
		l.state = s
	}
	return nil
}
