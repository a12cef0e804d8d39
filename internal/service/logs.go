package service

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// Whatever the service decides by a log it decides by one that it has folded itself: a log is read once, and then on from
// where it was read to. Appending takes turns for each log, so that an entry is judged by what the log says, and not by what
// it said a moment ago; who reads does not wait until a store has written all that an entry of hundreds of members changes.

// maxStates bounds how many folded logs are held; the others are folded again when asked for.
const maxStates = 4096

// logs keeps folded logs at hand, each brought up to date from the store before it is used.
type logs struct {
	store  logStore
	roster *roster // as the bus log was read last

	mu     sync.Mutex
	states map[crypto.ID]*folded
}

// logStore is what logs are read from, and what says how far a store lists their rooms.
type logStore interface {
	store.Log
	ListedAt(ctx context.Context, room crypto.ID) (uint64, error)
}

// folded is a log as it was read last.
type folded struct {
	appending chan struct{} // held by the one who appends
	reading   sync.Mutex    // one reads on at a time
	state     atomic.Pointer[ledger.State]
	head      atomic.Pointer[ledger.Head] // the last that it had; nil: none yet
}

// set takes over what a log says.
func (e *folded) set(s *ledger.State) {
	e.state.Store(s)
	if s.Head.Seq > 0 {
		e.head.Store(&s.Head)
	}
}

// newLogs has read nothing yet.
func newLogs(s logStore) *logs {
	return &logs{store: s, roster: &roster{users: map[crypto.PublicKey]standing{}}, states: map[crypto.ID]*folded{}}
}

// state is what a log says now. ErrNotFound for an unknown log.
func (l *logs) state(ctx context.Context, log crypto.ID) (*ledger.State, error) {
	e := l.entry(log)
	e.reading.Lock()
	defer e.reading.Unlock()
	return l.read(ctx, log, e)
}

// read reads on in a log, whose reading is held.
func (l *logs) read(ctx context.Context, log crypto.ID, e *folded) (*ledger.State, error) {
	before := e.state.Load()
	// What is listed of a room follows its log: asked for before the log is read, and ahead of it, it says that the log has
	// lost its end, and with it whom that had kicked.
	listed := uint64(0)
	if before.Head.Seq == 0 {
		var err error
		if listed, err = l.store.ListedAt(ctx, log); err != nil {
			return nil, err
		}
	}
	fold := before.Fold()
	var failed error
	var touched []crypto.PublicKey
	for entry, err := range l.store.Entries(ctx, log, before.Head.Seq) {
		if failed = err; err != nil {
			break
		}
		added, err := fold.Add(entry.Statement)
		if err != nil {
			failed = fmt.Errorf("log %s: %w: %w", log, store.ErrDamaged, err)
			break
		}
		touched = append(touched, added.Touches()...)
	}
	s := fold.State()
	if failed == nil && s.Head.Seq < listed {
		l.forget(log)
		return nil, fmt.Errorf("log %s: %w: it ends at entry %d, and the store lists its room as of entry %d", log, store.ErrDamaged, s.Head.Seq, listed)
	}
	l.roster.update(s, touched)
	e.set(s)
	switch {
	case failed != nil:
		return nil, failed
	case s.Head.Seq == 0:
		l.forget(log)
		return nil, fmt.Errorf("log %s: %w", log, store.ErrNotFound)
	case s.ID != log:
		l.forget(log)
		return nil, fmt.Errorf("%w: the log %s stands under the id %s", store.ErrDamaged, s.ID, log)
	}
	return s, nil
}

// policy asks for the policy of a room.
func (l *logs) policy(room crypto.ID) bus.Logged {
	return func(ctx context.Context) (ledger.Policy, error) {
		s, err := l.state(ctx, room)
		if err == nil && s.Room == nil {
			err = fmt.Errorf("%w: the log %s is of no room", store.ErrDamaged, room)
		}
		if err != nil {
			return ledger.Policy{}, err
		}
		return s.Room.Policy, nil
	}
}

// ensure makes rooms' streams what their logs say.
func (l *logs) ensure(streams *bus.Streams) func(ctx context.Context, room crypto.ID) error {
	return func(ctx context.Context, room crypto.ID) error { return streams.Ensure(ctx, room, l.policy(room)) }
}

// reached is the last entry of a log that was read of it so far; zero for none.
func (l *logs) reached(log crypto.ID) (last ledger.Head) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.states[log]; e != nil {
		if head := e.head.Load(); head != nil {
			last = *head
		}
	}
	return last
}

// goesOn makes sure that what the store says is the head of a log is not before what was read of it when the store was
// asked; ErrDamaged else.
func goesOn(log crypto.ID, was, head ledger.Head) error {
	if head.Seq < was.Seq {
		return fmt.Errorf("log %s: %w: it ends at entry %d, and was read up to entry %d", log, store.ErrDamaged, head.Seq, was.Seq)
	}
	return nil
}

// entry is what is held of a log, made if there is nothing; another log may go for it.
func (l *logs) entry(log crypto.ID) *folded {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.states[log]
	if e == nil {
		for id := range l.states { // any will do
			if len(l.states) < maxStates {
				break
			}
			delete(l.states, id)
		}
		e = &folded{appending: make(chan struct{}, 1)}
		e.state.Store(new(ledger.State))
		l.states[log] = e
	}
	return e
}

// forget drops what is held of a log that is none.
func (l *logs) forget(log crypto.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.states, log)
}

// append offers the next entry of a known log, if check has nothing against it, and returns its place and the entry; no
// entry when the log had these bytes already.
func (l *logs) append(ctx context.Context, log crypto.ID, statement []byte, check func(before, after *ledger.State, e *ledger.Entry) error) (place store.PlaceBody, added *ledger.Entry, err error) {
	f := l.entry(log)
	release, err := hold(ctx, f.appending)
	if err != nil {
		return place, nil, err
	}
	defer release()
	place, e, after, err := l.judge(ctx, log, f, statement, check)
	if err != nil || e == nil {
		return place, nil, err
	}
	if err := l.store.Append(ctx, store.Change{Entry: e, Views: after.Views(e)}); err != nil {
		return place, nil, err // whether the store has it shows when the log is read on
	}
	f.reading.Lock()
	defer f.reading.Unlock()
	if f.state.Load().Head.Seq < after.Head.Seq { // nobody has read it meanwhile
		l.roster.update(after, e.Touches())
		f.set(after)
	}
	return place, e, nil
}

// judge says what place an entry offered for a log has, and what the log is after it; no entry when the log has these bytes
// already.
func (l *logs) judge(ctx context.Context, log crypto.ID, f *folded, statement []byte, check func(before, after *ledger.State, e *ledger.Entry) error) (place store.PlaceBody, e *ledger.Entry, after *ledger.State, err error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	s, err := l.read(ctx, log, f)
	if err != nil {
		return place, nil, nil, err
	}
	claimed, seq, hash, err := ledger.Place(statement)
	if err != nil {
		return place, nil, nil, fmt.Errorf("%w: %v", store.ErrInvalid, err)
	}
	if claimed != log {
		return place, nil, nil, fmt.Errorf("%w: the entry is of another log", store.ErrInvalid)
	}
	place = store.PlaceBody{Log: log, Seq: seq, Hash: hash}
	if s.Has(ledger.Head{Seq: seq, Hash: hash}) {
		return place, nil, nil, nil
	}
	if seq != s.Head.Seq+1 {
		return place, nil, nil, &conflict{s.Head}
	}
	if e, err = s.Check(statement); err != nil {
		return place, nil, nil, err
	}
	after = s.With(e)
	return place, e, after, check(s, after, e)
}

// conflict is an ErrConflict that knows who won.
type conflict struct{ head ledger.Head }

// Error says where the log is.
func (c *conflict) Error() string {
	return fmt.Sprintf("%v: the log is at entry %d", store.ErrConflict, c.head.Seq)
}

// Unwrap says what kind of error it is.
func (c *conflict) Unwrap() error { return store.ErrConflict }
