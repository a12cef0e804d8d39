// Package mirror is a log as one client has verified it: what its store says of it is folded entry by entry, pinned
// before anyone acts on it, and never taken back (SPEC.md §4). It also writes: an entry is signed once for each
// place, kept beyond the process, and offered, the same bytes, until a verified entry stands there.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

var (
	// ErrRolledBack is a store.ErrIntegrity: a store's log ends before what was verified of it.
	ErrRolledBack = errors.New("rolled back")
	// ErrGone is an ErrRolledBack: the store has nothing of a log that was verified.
	ErrGone = fmt.Errorf("%w", ErrRolledBack)
	// ErrKept is a store.ErrConflict: an entry that was signed long ago has to be offered first.
	ErrKept = fmt.Errorf("%w", store.ErrConflict)
)

// fresh is for how long a log that the store has confirmed counts as up to date.
const fresh = time.Minute

// Peer is what a client's logs have in common.
type Peer struct {
	Identity *crypto.Identity
	Store    store.Store
	Pins     *pins.Pins
	Timeout  time.Duration // for the answer to an offered entry, with all its repetitions
	Confirm  bool          // kept entries are offered again, however old

	// Stage hands out, to whoever is to have them, the copies of a room's key that an entry needs, before it is
	// offered: after is the log once it stands.
	Stage func(ctx context.Context, after *ledger.State, e *ledger.Entry, k *Key) error
	// OfferedAgain is told of an entry that an earlier process signed, and how long ago; LostPlace of one whose place
	// another has.
	OfferedAgain, LostPlace func(e *ledger.Entry, age time.Duration)
	// Accepted is told of an entry of one's own that stands, with the log as it is then. Nil: nobody is.
	Accepted func(ctx context.Context, after *ledger.State) error
	// Turn does what is costly when it is this process's turn among those of the identity. Nil: at once.
	Turn func(ctx context.Context, do func() error) error

	// Accept reports whether a person takes a log that went back, or is another than was verified, for what it is by the
	// hash of its last entry; nil: no log. Returned is told of a log that is taken so.
	Accept   func(crypto.Hash) bool
	Returned func(id crypto.ID, end ledger.Head)
}

// Log is one log. It is safe for concurrent use.
type Log struct {
	peer *Peer
	id   crypto.ID
	bus  crypto.ID // of a room

	changing  sync.Mutex                   // one sync or append at a time, and nobody else stores into state
	state     atomic.Pointer[ledger.State] // verified and pinned
	confirmed atomic.Pointer[time.Time]    // when the store last agreed with state; nil: never
}

// Open starts a log from what is pinned of it. A room's has to be of that bus.
func (p *Peer) Open(ctx context.Context, id, bus crypto.ID) (*Log, error) {
	s, err := p.Pins.Logs.State(ctx, id)
	if err != nil {
		return nil, err
	}
	return p.log(id, bus, s), nil
}

func (p *Peer) log(id, bus crypto.ID, s *ledger.State) *Log {
	l := &Log{peer: p, id: id, bus: bus}
	l.state.Store(s)
	return l
}

// ID is the log's id.
func (l *Log) ID() crypto.ID { return l.id }

// State is what the log says as last verified.
func (l *Log) State() *ledger.State { return l.state.Load() }

// Sync brings the log up to date with the store, and pins what it verified. ErrNotFound when neither the store nor
// the pins know it; ErrIntegrity, ErrRolledBack among it, when the store offers a shorter, a different or a broken
// history: the state then stays as it was, unless a person accepts that.
func (l *Log) Sync(ctx context.Context) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	return l.accept(ctx, l.sync(ctx))
}

// Confirm syncs if the store has not confirmed the head for a minute.
func (l *Log) Confirm(ctx context.Context) error {
	if l.Confirmed() {
		return nil
	}
	return l.Sync(ctx)
}

// Confirmed reports whether the store has confirmed the head within the last minute.
func (l *Log) Confirmed() bool {
	at := l.confirmed.Load()
	return at != nil && time.Since(*at) < fresh
}

// agreed takes note that the store has just said the same as the state.
func (l *Log) agreed() {
	now := time.Now()
	l.confirmed.Store(&now)
}

// SyncTo is Sync with the head that the store gave when it was asked after the log had reached before, as for many
// logs at once; the log may have grown since.
func (l *Log) SyncTo(ctx context.Context, before, head ledger.Head) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	return l.accept(ctx, l.syncTo(ctx, before, head))
}

func (l *Log) sync(ctx context.Context) error {
	before := l.State().Head
	heads, err := l.peer.Store.Heads(ctx, l.id)
	if room := l.State().Room; errors.Is(err, store.ErrIntegrity) && room != nil { // who reads it knows no ids of logs
		return fmt.Errorf("room %s: %w", room.Subject, err)
	}
	if err != nil {
		return err
	}
	return l.syncTo(ctx, before, heads[0])
}

func (l *Log) syncTo(ctx context.Context, before, head ledger.Head) error {
	own := l.State().Head
	switch {
	case elsewhere(l) && head.Seq == 0: // as is right
		return fmt.Errorf("log %s: %w: it is of another bus", l.id, store.ErrNotFound)
	case elsewhere(l):
		return l.broken("the log is of another bus")
	case head.Seq == 0 && before.Seq > 0:
		return l.rolledBack(ledger.Head{}, "the store denies the log that was verified up to entry %d", before.Seq)
	case head.Seq == 0:
		return fmt.Errorf("log %s: %w", l.id, store.ErrNotFound)
	case head.Seq < before.Seq:
		return l.rolledBack(head, "the store's log ends at entry %d (%x), but it was verified up to entry %d", head.Seq, head.Hash[:8], before.Seq)
	case head.Seq > own.Seq:
		if err := l.fetch(ctx, head.Seq); err != nil {
			return l.parted(ctx, err)
		}
	case !l.State().Has(head):
		return l.parted(ctx, l.broken("the store has another entry %d (%x) than the one that was verified", head.Seq, head.Hash[:8]))
	}
	l.agreed()
	return nil
}

// elsewhere reports whether what is pinned of the log was verified on another bus: who is in several, and names a room by
// its id, may have gone to the wrong one, which is then no store that has lost it.
func elsewhere(l *Log) bool {
	s := l.State()
	return s.Room != nil && s.Room.Bus != l.bus || s.Bus != nil && !l.bus.IsZero() && s.ID != l.bus
}

// parted says of a log that does not go on from what was verified, for whatever reason, whether it is a valid one all the
// same, which parts from it at some entry: that is what a store holds which was restored, and written to since.
func (l *Log) parted(ctx context.Context, why error) error {
	if !errors.Is(why, store.ErrIntegrity) {
		return why
	}
	s, entries, err := l.stored(ctx)
	if err != nil {
		return why
	}
	i := slices.IndexFunc(entries, func(e *ledger.Entry) bool { return !l.State().Has(ledger.Head{Seq: e.Seq, Hash: e.Hash}) })
	if i < 0 || entries[i].Seq > l.State().Head.Seq {
		return why
	}
	return l.rolledBack(s.Head, "the store's log is another one than was verified from entry %d on, and ends at entry %d (%x)", entries[i].Seq, s.Head.Seq, s.Head.Hash[:8])
}

// fetch verifies and pins the entries from the state's head up to at least seq. What is in order before something that is
// not is taken in.
func (l *Log) fetch(ctx context.Context, seq uint64) error {
	before := l.State()
	fold := before.Fold()
	failed := l.read(ctx, fold, nil)
	if fold.Head().Seq > before.Head.Seq {
		if err := l.pin(ctx, fold.State()); err != nil {
			return err
		}
		l.state.Store(fold.State())
	}
	if failed == nil && fold.Head().Seq < seq {
		return l.broken("the store withholds the entries after %d", fold.Head().Seq)
	}
	return failed
}

// read folds what the store has of the log after what was folded, and hands on each entry.
func (l *Log) read(ctx context.Context, fold *ledger.Fold, each func(*ledger.Entry)) error {
	for raw, err := range l.peer.Store.Entries(ctx, l.id, fold.Head().Seq) {
		if err != nil {
			return err
		}
		from := *fold
		e, err := fold.Add(raw.Statement)
		if err != nil {
			return invalid(l.id, err)
		}
		if e.Seq == 1 {
			if err := l.mine(fold.State()); err != nil {
				*fold = from // it is none of this log's
				return err
			}
		}
		if each != nil {
			each(e)
		}
	}
	return nil
}

// mine checks that what a store gave begins as this log does.
func (l *Log) mine(first *ledger.State) error {
	if first.ID != l.id {
		return l.broken("the store gave the log %s instead", first.ID)
	}
	if first.Room != nil && first.Room.Bus != l.bus {
		return l.broken("the room is of another bus")
	}
	return nil
}

// Audit fetches the whole log from the store and verifies it from its first entry; it has to be the one that was
// verified before.
func (l *Log) Audit(ctx context.Context) ([]*ledger.Entry, error) {
	if err := l.Sync(ctx); err != nil {
		return nil, err
	}
	known := l.State().Head.Seq
	s, entries, err := l.stored(ctx)
	if err != nil {
		return nil, err
	}
	return entries, holds(l, known, s.Head, entries)
}

// stored folds the store's log from its first entry, whatever was verified before.
func (l *Log) stored(ctx context.Context) (*ledger.State, []*ledger.Entry, error) {
	var entries []*ledger.Entry
	fold := new(ledger.Fold)
	if err := l.read(ctx, fold, func(e *ledger.Entry) { entries = append(entries, e) }); err != nil {
		return nil, nil, err
	}
	if len(entries) == 0 {
		return nil, nil, l.rolledBack(ledger.Head{}, "the store denies the log")
	}
	return fold.State(), entries, nil
}

// accept takes the store's log for what it is, although it ends before what was verified or is another from some entry
// on, if a person has named the hash of its last entry. Else synced is what came of bringing the log up to date.
func (l *Log) accept(ctx context.Context, synced error) error {
	if l.peer.Accept == nil || !errors.Is(synced, store.ErrIntegrity) {
		return synced
	}
	s, _, err := l.stored(ctx)
	if err != nil || !l.peer.Accept(s.Head.Hash) {
		return synced
	}
	if err := l.peer.Pins.Logs.Return(ctx, s); err != nil {
		return err
	}
	l.state.Store(s)
	l.agreed()
	l.peer.Returned(l.id, s.Head)
	return nil
}

// invalid gives an entry that a store gave, and that breaks a rule, its kind.
func invalid(log crypto.ID, err error) error {
	if errors.Is(err, ledger.ErrNewer) {
		return fmt.Errorf("log %s: %w: %w", log, store.ErrInvalid, err)
	}
	return fmt.Errorf("%w: %w", store.ErrIntegrity, err)
}

// broken is the ErrIntegrity of a log of which the store does not keep what was verified.
func (l *Log) broken(format string, args ...any) error {
	err := fmt.Errorf("%s: %w: %s", called(l), store.ErrIntegrity, fmt.Sprintf(format, args...))
	return remedy.With(err, remedy.Remedy{Kind: remedy.LookAtStore})
}

// called is what people know the log as, as far as it was verified.
func called(l *Log) string {
	switch s := l.State(); {
	case s.Room != nil:
		return "room " + s.Room.Subject
	case s.Bus != nil:
		return "the allowlist"
	}
	return "log " + l.id.String()
}

// rolledBack is an ErrRolledBack of a log that is said to end at an entry; zero: that it is not there.
func (l *Log) rolledBack(end ledger.Head, format string, args ...any) error {
	kind, r := ErrRolledBack, remedy.Remedy{Kind: remedy.AcceptLog, Hash: end.Hash}
	room := l.State().Room
	if room != nil {
		r.Room, r.RoomID = room.Subject, l.id
	}
	if end.Seq == 0 {
		kind, r.Kind = ErrGone, remedy.AskOperator
		if room != nil {
			r.Kind = remedy.AcceptLoss
		}
	}
	return remedy.With(fmt.Errorf("%s: %w: %w: %s", called(l), store.ErrIntegrity, kind, fmt.Sprintf(format, args...)), r)
}

func (l *Log) pin(ctx context.Context, s *ledger.State) error {
	err := l.peer.Pins.Logs.Advance(ctx, s)
	if taken := new(pins.SubjectTaken); errors.As(err, &taken) {
		err = fmt.Errorf("room %s: %w: the subject meant the room %s, and this is another, %s", taken.Subject, store.ErrIntegrity, taken.Room, s.ID)
		return remedy.With(err, remedy.Remedy{Kind: remedy.ConfirmSubject, Room: taken.Subject})
	}
	if errors.Is(err, pins.ErrContradiction) {
		return fmt.Errorf("%w: %w", store.ErrIntegrity, err)
	}
	return err
}
