package room

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
)

// MaxMessage is the most bytes a message may have, headers included.
const MaxMessage = 64 << 20

// ErrRolledBack is a store.ErrIntegrity: a room's messages end before what was read of them, or are others.
var ErrRolledBack = errors.New("rolled back")

// Room is one room. It is safe for concurrent use.
type Room struct {
	*Self
	ID  crypto.ID
	Log *mirror.Log

	Keys   Keys
	Used   Usage
	Alarms Alarms

	mu    sync.Mutex
	forks []pins.Fork           // proven: unless settled, nothing is delivered or published any more
	ends  map[*func(error)]bool // of who reads and writes in it
}

// Open starts a room from what is pinned of its log, which has to be brought up to date before anything is asked of it.
func (s *Self) Open(ctx context.Context, log *mirror.Log) (*Room, error) {
	r := &Room{Self: s, ID: log.ID(), Log: log, ends: map[*func(error)]bool{}}
	r.Keys.room, r.Keys.turn = r, make(chan struct{}, 1)
	return r, r.loadForks(ctx)
}

// State is the state of the room's log, as last verified.
func (r *Room) State() *ledger.State { return r.Log.State() }

// Ledger is what the room's log folds to, as last verified; nil for a log that is of no room.
func (r *Room) Ledger() *ledger.Room { return r.Log.State().Room }

// Subject is the room's subject.
func (r *Room) Subject() string { return r.Ledger().Subject }

// Sync brings the room up to date with the store.
func (r *Room) Sync(ctx context.Context) error { return r.Log.Sync(ctx) }

// Remedy is what would help, in this room.
func (r *Room) Remedy(kind remedy.Kind) remedy.Remedy {
	return remedy.Remedy{Kind: kind, Room: r.Subject(), RoomID: r.ID}
}

// Readable says why the room may not be read by this client, if it may not.
func (r *Room) Readable() error {
	if frozen := r.Frozen(); frozen != nil {
		return frozen
	}
	me, log := r.Key(), r.Ledger()
	switch {
	case log.Role(me) != "" && r.Active(me):
		return nil
	case log.Role(me) != "":
		return r.Excluded()
	}
	err := fmt.Errorf("room %s: %w: you are not a member", log.Subject, store.ErrDenied)
	if log.Known(me) {
		err = fmt.Errorf("room %s: %w: you are no longer a member", log.Subject, store.ErrDenied)
	}
	help := r.Remedy(remedy.LetIn)
	help.User = r.NameOf(me)
	return remedy.With(err, help)
}

// Writing returns what a frame made now must say of the log, and the key to seal it with, nil in a room without
// encryption, after making sure that this client may write. ErrDenied when it may not, ErrIntegrity when it is owed the key
// and there is none.
func (r *Room) Writing(ctx context.Context) (crypto.Header, *crypto.FrameKey, error) {
	me, s := r.Key(), r.State()
	h := crypto.Header{Epoch: s.Room.Epoch().Number, At: s.Head.Seq, Head: [16]byte(s.Head.Hash[:16])}
	role := s.Room.Role(me)
	frozen := r.Frozen()
	switch {
	case frozen != nil:
		return h, nil, frozen
	case role == "":
		return h, nil, r.Readable()
	case !role.Writes():
		help := r.Remedy(remedy.LetWrite)
		help.User = r.NameOf(me)
		return h, nil, remedy.With(fmt.Errorf("room %s: %w: you are a reader", r.Subject(), store.ErrDenied), help)
	case s.Room.Archived != 0:
		return h, nil, remedy.With(fmt.Errorf("room %s: %w: it is archived", r.Subject(), store.ErrDenied), r.Remedy(remedy.MakeOther))
	case !r.Active(me):
		return h, nil, r.Excluded()
	case !s.Room.Policy.Encrypted():
		return h, nil, nil
	}
	key, err := r.Keys.Frame(ctx, s.Room.Epochs, h.Epoch)
	if errors.Is(err, ErrNoKey) {
		if s.Room.Owes(me, h.Epoch) && !r.WasOut(me) { // as for who reads: it is lost, or withheld
			err = fmt.Errorf("%w: the key of epoch %d, which its log says is for you, is not to be had", store.ErrIntegrity, h.Epoch)
		}
		err = remedy.With(fmt.Errorf("room %s: %w", r.Subject(), err), r.Remedy(remedy.HandOutKey))
	}
	return h, key, err
}

// Judge says what there is to say of a frame with what is at hand. *NeedKey when that is not enough.
func (r *Room) Judge(frame []byte, sender crypto.PublicKey, live bool) (*ledger.Verdict, error) {
	s := r.State()
	return s.Judge(frame, sender, func(epoch uint32) (*crypto.FrameKey, error) {
		if key := r.Keys.cached(epoch); key != nil {
			return key, nil
		}
		return nil, &NeedKey{s.Room.Epochs, epoch}
	}, live)
}

// RolledBack is what ends whoever reads or writes in a room that went back; place is up to where a person would have to
// take it for what it is.
func (r *Room) RolledBack(place uint64, format string, args ...any) error {
	err := fmt.Errorf("room %s: %w: %w: %s", r.Subject(), store.ErrIntegrity, ErrRolledBack, fmt.Sprintf(format, args...))
	help := r.Remedy(remedy.AcceptPlace)
	help.Place = place
	return remedy.With(err, help)
}

// Attach has end called when nobody may read or write in the room any more, until it is detached.
func (r *Room) Attach(end func(why error)) (detach func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends[&end] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.ends, &end)
	}
}

// End stops everyone who reads or writes in the room, for a reason.
func (r *Room) End(why error) {
	r.LostRights(why)
	r.mu.Lock()
	ends := slices.Collect(maps.Keys(r.ends))
	r.mu.Unlock()
	for _, end := range ends {
		(*end)(why)
	}
}

// EndUnreadable ends it all if this client may not read the room any more, or the room has ended.
func (r *Room) EndUnreadable() {
	if why := r.Readable(); why != nil {
		r.End(why)
	}
}

// LostRights has the connection's rights in the room gained anew by whoever uses it next, if why says that they ended.
func (r *Room) LostRights(why error) {
	if errors.Is(why, store.ErrDenied) && r.Release != nil {
		r.Release(r.ID)
	}
}

// Alarms are senders of whom nothing is believed any more. The zero value is ready, and safe for concurrent use.
type Alarms struct {
	mu   sync.Mutex
	keys map[crypto.PublicKey]bool
}

// Add has a sender's frames refused from now on.
func (a *Alarms) Add(sender crypto.PublicKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keys == nil {
		a.keys = map[crypto.PublicKey]bool{}
	}
	a.keys[sender] = true
}

// Has reports whether a sender's frames are refused.
func (a *Alarms) Has(sender crypto.PublicKey) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.keys[sender]
}
