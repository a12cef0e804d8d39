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
	"github.com/unibus/unibus/internal/remedy"
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
	first := &appending{Log: p.log(crypto.ID{}, bus, new(ledger.State))}
	d, err := first.draft(ctx, next)
	if err != nil {
		return nil, err
	}
	first.id = d.Entry.Log
	d.Sign(p.Identity)
	if err := first.offer(ctx, d); err != nil {
		return first.Log, err
	}
	return first.Log, first.takeIn(ctx, d.After)
}

// Append writes the entry that next decides on; the log holds still meanwhile. When another entry takes the place next
// is asked again, for fresh keys, until the timeout: then it is ErrConflict. An entry that an earlier process left is
// offered first: ErrKept when it is so old that a person has to confirm it.
//
// With any other error of its offer the entry is kept, and offered again by the next Append.
func (l *Log) Append(ctx context.Context, next Next) error {
	a := &appending{Log: l, next: next}
	if l.peer.Turn == nil {
		return a.run(ctx)
	}
	return l.peer.Turn(ctx, func() error { return a.run(ctx) })
}

// appending is one Append, which holds the log while it runs.
type appending struct {
	*Log
	began time.Time // to run
	next  Next
}

// run tries until the entry stands, cannot be made, or the timeout is over.
func (a *appending) run(ctx context.Context) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	a.began = time.Now()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := a.try(ctx)
		if !errors.Is(err, store.ErrConflict) || errors.Is(err, ErrKept) {
			return err
		}
		if time.Since(a.began) > a.peer.Timeout {
			return fmt.Errorf("log %s: %w: others were quicker for %v", a.id, store.ErrConflict, a.peer.Timeout)
		}
		if err := tasks.Pause(ctx, rand.N(pause)); err != nil {
			return err
		}
	}
}

// try is one attempt. It is ErrConflict too when next had keys for an epoch that has passed.
func (a *appending) try(ctx context.Context) error {
	before, kept, err := a.settle(ctx)
	if err != nil {
		return err
	}
	p, err := a.next(ctx, a.State())
	if err == nil && p == nil {
		return nil
	}
	var d *ledger.Draft
	if err == nil {
		d, err = a.draft(ctx, *p)
	}
	if err != nil { // it cannot be done twice
		if kept == nil {
			before, kept = a.unanswered(ctx)
		}
		if kept != nil && asked(ctx, a.next, before, kept) {
			return a.peer.Pins.Offers.MarkAnswered(ctx, a.id, kept.Seq)
		}
		return err
	}
	err = a.peer.Pins.Offers.Sign(ctx, a.id, d.Entry.Seq, func() (o pins.Offer, err error) {
		o.At = time.Now()
		if p.Key != nil {
			o.Epoch = p.Key.Epoch
			o.Key, err = a.sealOwn(p.Key)
		}
		if err == nil {
			o.Statement = d.Sign(a.peer.Identity)
			step("signed")
		}
		return o, err
	})
	if errors.Is(err, pins.ErrTaken) { // by another process of this identity
		return errors.Join(fmt.Errorf("log %s: %w", a.id, store.ErrConflict), a.catchUp(ctx))
	}
	if err != nil {
		return err
	}
	step("kept")
	return a.commit(ctx, d)
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
func (a *appending) unanswered(ctx context.Context) (before *ledger.State, e *ledger.Entry) {
	o, err := a.peer.Pins.Offers.Unanswered(ctx, a.id)
	if err != nil || o == nil || time.Since(o.At) >= old {
		return nil, nil
	}
	e, err = a.State().Read(o.Statement)
	if err != nil || !a.State().Has(ledger.Head{Seq: o.Seq, Hash: e.Hash}) {
		return nil, nil
	}
	var fold ledger.Fold
	for raw, err := range a.peer.Store.Entries(ctx, a.id, 0) {
		if err != nil || fold.Head().Seq == o.Seq-1 {
			break
		}
		if _, err := fold.Add(raw.Statement); err != nil {
			break
		}
	}
	if fold.Head().Seq != o.Seq-1 || !a.State().Has(fold.Head()) {
		return nil, nil
	}
	return fold.State(), e
}

// step is told how far an Append has come. Tests end the process there.
var step = func(string) {}

// draft makes the next entry, by this identity, and has the key handed out that it needs.
func (a *appending) draft(ctx context.Context, p Proposal) (*ledger.Draft, error) {
	d, err := a.State().Draft(a.peer.Identity.Key(), p.Body, time.Now())
	if err != nil {
		return nil, refused(err)
	}
	if p.Key != nil {
		err = a.peer.Stage(ctx, d.After, d.Entry, p.Key)
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
func (a *appending) sealOwn(k *Key) ([]byte, error) {
	id := a.peer.Identity
	statement, err := id.Card()
	if err != nil {
		return nil, err
	}
	card, err := crypto.OpenCard(statement, id.Key())
	if err != nil {
		return nil, err
	}
	return crypto.SealKey(k.Key, a.id, k.Epoch, id.Key(), card.Sealing)
}

// commit offers an entry that is kept, until it stands or another does. A store's word alone settles nothing: only a
// verified entry frees the place, its own or another's.
func (a *appending) commit(ctx context.Context, d *ledger.Draft) error {
	err := a.offer(ctx, d)
	step("answered")
	switch {
	case err == nil:
		return a.takeIn(ctx, d.After)
	case !errors.Is(err, store.ErrConflict):
		return fmt.Errorf("%w; the entry is kept, and offered again before the next change of this log", err)
	}
	if serr := a.sync(ctx); serr != nil {
		return errors.Join(serr, fmt.Errorf("entry %d is kept: the store says that another took its place", d.Entry.Seq))
	}
	if a.State().Head.Seq < d.Entry.Seq {
		return a.broken("the store says that entry %d is another's, and has none", d.Entry.Seq)
	}
	if a.State().Has(ledger.Head{Seq: d.Entry.Seq, Hash: d.Entry.Hash}) {
		return errors.Join(a.peer.Pins.Offers.MarkAnswered(ctx, a.id, d.Entry.Seq), a.accepted(ctx))
	}
	return err
}

// offer submits an entry, again while it is not answered and the timeout allows.
func (a *appending) offer(ctx context.Context, d *ledger.Draft) error {
	change := store.Change{Entry: d.Entry, Views: d.After.Views(d.Entry)}
	ctx, cancel := context.WithTimeout(ctx, store.Within(a.peer.Timeout, len(change.Views)))
	defer cancel()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := a.peer.Store.Append(ctx, change)
		if err == nil || !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		if tasks.Pause(ctx, wait) != nil {
			return err
		}
	}
}

// takeIn takes in one's own entry, which stands.
func (a *appending) takeIn(ctx context.Context, after *ledger.State) error {
	if err := a.pin(ctx, after); err != nil {
		return err
	}
	step("pinned")
	a.state.Store(after)
	a.agreed()
	step("taken in")
	if err := a.peer.Pins.Offers.MarkAnswered(ctx, a.id, after.Head.Seq); err != nil {
		return err
	}
	return a.accepted(ctx)
}

func (a *appending) accepted(ctx context.Context) error {
	if a.peer.Accepted == nil {
		return nil
	}
	return a.peer.Accepted(ctx, a.State())
}

// settle brings the log up to date, and offers again an entry that an earlier process signed for it and of which
// nobody knows whether it stands. It returns that entry, if it stands now, and the log as it was before.
func (a *appending) settle(ctx context.Context) (before *ledger.State, kept *ledger.Entry, err error) {
	o, err := a.peer.Pins.Offers.Pending(ctx, a.id)
	if err != nil {
		return nil, nil, err
	}
	if o != nil { // it may continue what another process has verified
		if err := a.catchUp(ctx); err != nil {
			return nil, nil, err
		}
		before = a.State()
	}
	if err := a.sync(ctx); err != nil || o == nil {
		return nil, nil, err
	}
	age := time.Since(o.At)
	if a.State().Head.Seq >= o.Seq { // a verified entry stands there, and the pins have let go of it
		kept, err := a.settled(o, age)
		return before, kept, err
	}
	before = a.State()
	d, err := a.kept(o)
	if err == nil {
		err = a.offerKept(ctx, o, d, age)
	}
	if err != nil {
		return nil, nil, err
	}
	return before, d.Entry, nil
}

// offerKept offers an entry again that was signed so long ago.
func (a *appending) offerKept(ctx context.Context, o *pins.Offer, d *ledger.Draft, age time.Duration) error {
	switch {
	case age < underWay && time.Since(a.began) < underWay:
		return fmt.Errorf("log %s: %w: another process of this identity is at it", a.id, store.ErrConflict)
	case age >= old && !a.peer.Confirm:
		err := fmt.Errorf("log %s: %w: its entry %d (%s), which you signed %s ago, was never answered, or was taken back, and has to be offered before any other",
			a.id, ErrKept, o.Seq, d.Entry.Op, age.Round(time.Minute))
		return remedy.With(err, remedy.Remedy{Kind: remedy.ConfirmEntry})
	}
	a.peer.OfferedAgain(d.Entry, age)
	if o.Key != nil {
		k, err := a.openOwn(o, d.After)
		if err == nil {
			err = a.peer.Stage(ctx, d.After, d.Entry, k)
		}
		if err != nil {
			return err
		}
	}
	return a.commit(ctx, d)
}

// settled tells of an entry that has lost its place, unless it is that of another process which is at it just now, and
// returns one that has not.
func (a *appending) settled(o *pins.Offer, age time.Duration) (*ledger.Entry, error) {
	e, err := a.State().Read(o.Statement)
	if err != nil {
		return nil, err
	}
	if a.State().Has(ledger.Head{Seq: o.Seq, Hash: e.Hash}) {
		return e, nil
	}
	if age >= underWay {
		a.peer.LostPlace(e, age)
	}
	return nil, nil
}

// kept is an entry that is kept, as the next one.
func (a *appending) kept(o *pins.Offer) (*ledger.Draft, error) {
	e, err := a.State().Check(o.Statement)
	if err != nil {
		return nil, a.broken("the entry %d that is kept for it does not continue it: %v", o.Seq, err)
	}
	return &ledger.Draft{Entry: e, After: a.State().With(e)}, nil
}

// openOwn opens the key that is kept with an entry.
func (a *appending) openOwn(o *pins.Offer, after *ledger.State) (*Key, error) {
	if after.Room == nil || o.Epoch < 1 || int(o.Epoch) > len(after.Room.Epochs) {
		return nil, a.broken("the key that is kept with its entry %d is of no epoch", o.Seq)
	}
	key, err := a.peer.Identity.OpenKey(o.Key, a.id, o.Epoch, after.Room.Epochs[o.Epoch-1].Commit)
	if err != nil {
		return nil, a.broken("the key that is kept with its entry %d: %v", o.Seq, err)
	}
	return &Key{Epoch: o.Epoch, Key: key}, nil
}

// catchUp takes over what another process of this identity has verified and pinned meanwhile.
func (a *appending) catchUp(ctx context.Context) error {
	s, err := a.peer.Pins.Logs.State(ctx, a.id)
	if err != nil {
		return err
	}
	if s.Head.Seq > a.State().Head.Seq {
		a.state.Store(s)
	}
	return nil
}
