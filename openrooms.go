package unibus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/tasks"
)

// syncAtOnce is how many logs are brought up to date at the same time.
const syncAtOnce = 8

// rooms are those that a client has opened.
type rooms struct {
	c *Client

	mu   sync.Mutex
	open map[ID]*Room
	lost losses

	recalled atomic.Bool // all that is pinned is open, or taken for lost
}

func newRooms(c *Client) *rooms { return &rooms{c: c, open: map[ID]*Room{}, lost: losses{c: c}} }

// known returns a room if it is open; nil if it is not.
func (o *rooms) known(id ID) *Room {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open[id]
}

// all returns those that are open.
func (o *rooms) all() []*Room {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Values(o.open))
}

// count is how many are open.
func (o *rooms) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.open)
}

// explainListed says what is wrong with a room that a store lists, by that subject, and that cannot be opened; nil when nothing
// is, or its subject is not wanted.
func explainListed(r *Room, subject string, wanted func(string) bool, err error) error {
	verified := r.r.Ledger()
	if verified != nil {
		subject = verified.Subject
	}
	switch lost := errors.Is(err, ErrNotFound); {
	case !lost && !errors.Is(err, ErrIntegrity):
		return err
	case lost && verified != nil: // a person has taken it for lost
		return nil
	case !wanted(subject):
		return nil
	case lost:
		err = fmt.Errorf("room %s: %w: the store lists it, and has no log of it", subject, ErrIntegrity)
		return remedy.With(err, remedy.Remedy{Kind: remedy.LookAtStore})
	case verified == nil:
		return unverified(subject, err)
	}
	return err
}

// unverified adds to the ErrIntegrity of a log of which nothing was verified the subject that a store gives the room; that of a
// subject which means another room has it.
func unverified(subject string, err error) error {
	if !errors.Is(err, ErrIntegrity) || remedy.Of(err).Kind == remedy.ConfirmSubject {
		return err
	}
	return fmt.Errorf("room %s: %w", subject, err)
}

// anyRoom is for whoever wants all.
func anyRoom(string) bool { return true }

// mine are those that this client is a member of and whose subjects are wanted, opened for the reader; beside ErrIntegrity,
// of those that are lost, the others.
func (o *rooms) mine(ctx context.Context, wanted func(subject string) bool) ([]*room.Room, error) {
	mine, err := o.members(ctx, wanted)
	out := make([]*room.Room, len(mine))
	for i, r := range mine {
		out[i] = r.r
	}
	return out, err
}

// byID verifies a room's log, once per client; later calls bring it up to date.
func (o *rooms) byID(ctx context.Context, id ID) (*Room, error) {
	r, err := o.pinned(ctx, id)
	if err != nil {
		return nil, err
	}
	return o.opened(ctx, r, r.r.Sync(ctx))
}

// pinned is a room as open already, or as pinned, not brought up to date.
func (o *rooms) pinned(ctx context.Context, id ID) (*Room, error) {
	if r := o.known(id); r != nil {
		return r, nil
	}
	log, err := o.c.peer.Open(ctx, id, o.c.Bus())
	if err != nil {
		return nil, err
	}
	r, err := o.c.self.Open(ctx, log)
	return &Room{c: o.c, r: r, changes: room.Changes{Room: r}}, err
}

// opened remembers a room that was brought up to date, if it is one; synced is what came of that.
func (o *rooms) opened(ctx context.Context, r *Room, synced error) (*Room, error) {
	if errors.Is(synced, mirror.ErrGone) {
		over, err := isOver(ctx, o, r.r.State())
		if err != nil {
			return nil, err
		}
		if over {
			synced = ErrNotFound
		}
	}
	if of := r.r.Ledger(); errors.Is(synced, ErrNotFound) && of != nil && of.Bus != o.c.Bus() {
		return nil, fmt.Errorf("room %s: %w: it is of the bus %s", r.r.ID, ErrNotFound, of.Bus)
	}
	if errors.Is(synced, ErrNotFound) {
		return nil, remedy.With(fmt.Errorf("room %s: %w", r.r.ID, ErrNotFound), remedy.Remedy{Kind: remedy.ListRooms})
	}
	if synced != nil {
		return nil, synced
	}
	if r.r.Ledger() == nil {
		return nil, fmt.Errorf("room %s: %w: that is the id of the bus", r.r.ID, ErrInvalid)
	}
	if err := o.lost.set(ctx, r.r.ID, ""); err != nil { // if it is lost again, that is another loss
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if open := o.open[r.r.ID]; open != nil {
		return open, nil
	}
	o.open[r.r.ID] = r
	return r, nil
}

// isOver reports whether a room that was verified, and of which the store has nothing, is none that is missing: a person has taken it
// for lost, or this client may be told nothing of it any more.
func isOver(ctx context.Context, o *rooms, s *ledger.State) (bool, error) {
	me := o.c.self.Allowlist().User(o.c.Key())
	if s.Room != nil && s.Room.Role(o.c.Key()) == "" && (me == nil || me.Role != RoleAdmin) {
		return true, nil
	}
	return o.lost.has(ctx, s)
}

// end is where the store says that a log ends, and how far it was verified when the store was asked.
type end struct{ verified, said ledger.Head }

// ends asks the store once where logs end.
func ends(ctx context.Context, l *link, rooms []*Room) (map[ID]end, error) {
	if len(rooms) == 0 {
		return nil, nil
	}
	ids := make([]ID, len(rooms))
	at := make(map[ID]end, len(rooms))
	for i, r := range rooms {
		ids[i] = r.r.ID
		at[ids[i]] = end{verified: r.r.State().Head}
	}
	heads, err := l.store.Heads(ctx, ids...)
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		at[id] = end{at[id].verified, heads[i]}
	}
	return at, nil
}

// byIDs opens rooms, asking the store once where all of their logs end, and for entries only of those that
// have grown.
func (o *rooms) byIDs(ctx context.Context, ids []ID) ([]*Room, error) {
	return o.byEnds(ctx, ids, nil, func(_ *Room, err error) error { return err })
}

// byEnds is byIDs for whoever was told already where some of the logs end, and knows more of a room that cannot be opened.
// Beside an error are the rooms that could be opened, if all that is pinned could be read.
func (o *rooms) byEnds(ctx context.Context, ids []ID, told map[ID]end, explain func(*Room, error) error) ([]*Room, error) {
	rooms := make([]*Room, len(ids))
	err := tasks.ForEach(ctx, syncAtOnce, len(ids), func(i int) (err error) {
		rooms[i], err = o.pinned(ctx, ids[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	untold := slices.DeleteFunc(slices.Clone(rooms), func(r *Room) bool { _, ok := told[r.r.ID]; return ok })
	more, err := ends(ctx, o.c.link, untold)
	damaged := errors.Is(err, ErrIntegrity) // the log of one of them, it is not said which: each is asked for by itself
	if err != nil && !damaged {
		return nil, err
	}
	err = tasks.ForEach(ctx, syncAtOnce, len(ids), func(i int) (err error) {
		r := rooms[i]
		e, ok := told[ids[i]]
		if !ok && damaged {
			rooms[i], err = o.opened(ctx, r, r.r.Sync(ctx))
		} else {
			e = cmp.Or(e, more[ids[i]])
			rooms[i], err = o.opened(ctx, r, r.r.Log.SyncTo(ctx, e.verified, e.said))
		}
		if err != nil {
			err = explain(r, err)
		}
		return err
	})
	return slices.DeleteFunc(rooms, func(r *Room) bool { return r == nil }), err
}

// members are the rooms of MyRooms whose subjects are wanted; of others it does not matter that they are lost.
func (o *rooms) members(ctx context.Context, wanted func(subject string) bool) ([]*Room, error) {
	listed, rooms, err := o.of(ctx, o.c.Key(), wanted)
	rooms, err = withUnlisted(ctx, o, rooms, listed, wanted, err)
	return slices.DeleteFunc(rooms, func(r *Room) bool {
		return r.r.Ledger().Role(o.c.Key()) == "" || !wanted(r.Subject())
	}), err
}

// of opens the rooms that the store lists for a user, by room id: listed are all of these. Beside an error are those that could
// be opened; what is wrong with one whose subject is not wanted is not told.
func (o *rooms) of(ctx context.Context, key PublicKey, wanted func(subject string) bool) (listed []ID, rooms []*Room, err error) {
	var told map[ID]end
	var silent error
	var beside tasks.Group
	if key == o.c.Key() { // then those that are open are likely to be among them
		beside.Go(func() { told, silent = ends(ctx, o.c.link, o.all()) })
	}
	refs, err := o.c.link.store.ListRoomsForEndpoint(ctx, key)
	beside.Wait()
	if errors.Is(silent, ErrIntegrity) { // then each is asked for below, and the error is of those that it concerns
		told, silent = nil, nil
	}
	if err = cmp.Or(err, silent); err != nil {
		return nil, nil, err
	}
	listed = make([]ID, len(refs))
	subjects := make(map[ID]string, len(refs))
	for i, ref := range refs {
		listed[i], subjects[ref.ID] = ref.ID, ref.Subject
	}
	rooms, err = o.byEnds(ctx, listed, told, func(r *Room, err error) error {
		return explainListed(r, subjects[r.r.ID], wanted, err)
	})
	var invented []error
	rooms = slices.DeleteFunc(rooms, func(r *Room) bool {
		log, subject := r.r.Ledger(), subjects[r.r.ID]
		wrong := !log.Known(key) || log.Subject != subject
		if wrong && (wanted(subject) || wanted(log.Subject)) {
			invented = append(invented, fmt.Errorf("room %s: %w: the store lists it for %s, its log does not", subject, ErrIntegrity, key))
		}
		return wrong
	})
	return listed, rooms, errlist.Join(append(invented, err)...)
}
