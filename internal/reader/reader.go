// Package reader reads messages from rooms: it finds where to begin, follows, judges each frame by the room's log, and
// gives what is authentic to the inbox, which puts it in order and tells what is missing (SPEC.md §6).
//
// A Reading is of one room or of several. Each has a feed, in a goroutine of its own, whose source is what comes by the
// subscription and what is stored, as the past is asked; what the feeds read of the past is merged in the order in which
// it was stored.
//
// What it promises: only messages that a member could have made, where it says so, are delivered, each once and those of
// a stream in its order; what is missing, refused or not as it was is told of, never passed over. Nothing that is not
// authentic changes what is believed of anybody. It leaves to others: which rooms there are and who is in them (package
// room), the order within a stream (inbox), what may be believed (ledger), and who writes.
package reader

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// Past reads what stored rooms hold: the service's API, or the streams themselves straight at a store.
type Past interface {
	// Frames asks for a part of a room's past.
	Frames(ctx context.Context, room crypto.ID, q store.FramesQuery) (store.Past, error)
}

// Reader is what all readings of a client have in common.
type Reader struct {
	Conn    *bus.Conn
	Past    Past
	Timeout time.Duration                                                                   // for each exchange with a server
	Context context.Context                                                                 // ends with the client
	Tasks   *tasks.Group                                                                    // waited for by the client
	Tell    func(format string, args ...any)                                                // people
	Refused func() error                                                                    // why the bus ended the connection for good; nil while it has not
	Follow  func(ctx context.Context) error                                                 // has logs followed from now on
	Rooms   func() int                                                                      // how many are open
	Mine    func(_ context.Context, wanted func(subject string) bool) ([]*room.Room, error) // those this client is a member of; beside an error that some are lost, the others

	once     sync.Once
	fetching chan struct{} // slots for requests for the past

	mu       sync.Mutex
	readings map[*Reading]bool
}

// fetchAtOnce is how many requests for the past are under way, of all rooms of a client: enough to hide how long one takes,
// and few enough that one client does not take the service from others.
const fetchAtOnce = 8

// Frames asks for a part of a room's past, when it is this request's turn. An answer that cannot be is none:
// store.ErrUnavailable, as when ctx ends before its turn.
func (rd *Reader) Frames(ctx context.Context, room crypto.ID, q store.FramesQuery) (store.Past, error) {
	rd.once.Do(func() { rd.fetching = make(chan struct{}, fetchAtOnce) })
	select {
	case rd.fetching <- struct{}{}:
	case <-ctx.Done():
		return store.Past{}, fmt.Errorf("%w: other parts of the past are being read: %w", store.ErrUnavailable, ctx.Err())
	}
	defer func() { <-rd.fetching }()
	past, err := rd.Past.Frames(ctx, room, q)
	end := max(past.Last, past.End())
	switch {
	case err != nil:
		return past, err
	case end > crypto.MaxNumber: // behind the last there would be no place
		return store.Past{}, fmt.Errorf("%w: the room is said to reach to place %d", store.ErrUnavailable, end)
	case past.First == 0, past.First > end+1:
		return store.Past{}, fmt.Errorf("%w: the room is said to reach from place %d to %d", store.ErrUnavailable, past.First, end)
	}
	return past, nil
}

// tailEvery is how often a room in which nothing happens is looked at.
func (rd *Reader) tailEvery() time.Duration {
	return tailEvery + time.Duration(rd.Rooms())*tailPerRoom
}

// register remembers a reading until it ends.
func (rd *Reader) register(s *Reading) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if rd.readings == nil {
		rd.readings = map[*Reading]bool{}
	}
	rd.readings[s] = true
	context.AfterFunc(s.ctx, func() {
		rd.mu.Lock()
		defer rd.mu.Unlock()
		delete(rd.readings, s)
	})
}

// all lists the readings that have not ended.
func (rd *Reader) all() []*Reading {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	return slices.Collect(maps.Keys(rd.readings))
}

// End ends all readings for a reason.
func (rd *Reader) End(why error) {
	for _, s := range rd.all() {
		s.stop(why)
	}
}

// LookForRooms has readings with patterns look whether there are other rooms that these mean.
func (rd *Reader) LookForRooms() {
	for _, s := range rd.all() {
		s.lookForRooms()
	}
}

// ChangedRoom has readings that have left a room look whether they may be in it again.
func (rd *Reader) ChangedRoom(room crypto.ID) {
	for _, s := range rd.all() {
		if s.hasLeft(room) {
			s.lookForRooms()
		}
	}
}
