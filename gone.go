package unibus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
)

// A store that has lost a room, as one that was restored from before it was made, has nothing by which anybody would come
// upon it: neither a listing nor a log. So what is pinned is asked for, too, until a person takes the room for lost.

// pinnedLogs yields the rooms of this bus that are pinned, as they were verified last, but for those to skip.
func (o *rooms) pinnedLogs(ctx context.Context, skip func(ID) bool, yield func(s *ledger.State) error) error {
	pinned, err := o.c.pins.Logs.IDs(ctx)
	if err != nil {
		return err
	}
	for _, id := range pinned {
		if skip(id) {
			continue
		}
		s, err := o.c.pins.Logs.State(ctx, id)
		if err != nil {
			return err
		}
		if s.Room == nil || s.Room.Bus != o.c.Bus() {
			continue
		}
		if err := yield(s); err != nil {
			return err
		}
	}
	return nil
}

// subjectsPinned begins the name of the setting that says of a bus that the subjects of all rooms which are pinned are.
const subjectsPinned = "subjects pinned "

// meaning is the room that a subject means by what was verified; zero for none.
func meaning(ctx context.Context, o *rooms, subject string) (ID, error) {
	id, err := o.c.pins.Subjects.Room(ctx, o.c.Bus(), subject)
	if err != nil || !id.IsZero() {
		return id, err
	}
	setting := subjectsPinned + o.c.Bus().String()
	if done, err := o.c.pins.Settings.Get(ctx, setting); err != nil || done != "" {
		return ID{}, err
	}
	var rooms []*ledger.State // which an earlier build may have pinned without
	err = o.pinnedLogs(ctx, func(id ID) bool { return id == o.c.Bus() }, func(s *ledger.State) error {
		gone, err := o.lost.has(ctx, s)
		if err == nil && !gone {
			rooms = append(rooms, s)
		}
		return err
	})
	if err == nil {
		err = o.c.pins.Logs.PinSubjects(ctx, rooms)
	}
	if err == nil {
		err = o.c.pins.Settings.Set(ctx, setting, "1")
	}
	if err != nil {
		return ID{}, err
	}
	return o.c.pins.Subjects.Room(ctx, o.c.Bus(), subject)
}

// unlisted are the rooms of this client that were verified, and that are not among those that the store lists, if their
// subjects are wanted. The error is of each that the store has lost.
func (o *rooms) unlisted(ctx context.Context, listed []ID, wanted func(subject string) bool) ([]*Room, error) {
	there := make(map[ID]bool, len(listed))
	for _, id := range listed {
		there[id] = true
	}
	var missing []ID
	for _, r := range o.all() {
		if !there[r.r.ID] && r.r.Ledger().Role(o.c.Key()) != "" && wanted(r.Subject()) {
			missing = append(missing, r.r.ID)
		}
	}
	// What earlier processes have verified is looked through once: then it is open, if it is there.
	if o.recalled.Load() {
		return o.byIDs(ctx, missing)
	}
	whole := true
	open := func(id ID) bool { return id == o.c.Bus() || there[id] || o.known(id) != nil }
	err := o.pinnedLogs(ctx, open, func(s *ledger.State) error {
		if s.Room.Role(o.c.Key()) == "" { // who was taken out, or has left, is not listed for that
			return nil
		}
		if !wanted(s.Room.Subject) {
			whole = false
			return nil
		}
		gone, err := o.lost.has(ctx, s)
		if err == nil && !gone {
			missing = append(missing, s.ID)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	rooms, err := o.byIDs(ctx, missing)
	o.recalled.Store(err == nil && whole)
	return rooms, err
}

// withUnlisted adds to the rooms that came of a listing those of one's own that it lacks, by id, and to its error those that are
// lost: they are told of wherever rooms are listed.
func withUnlisted(ctx context.Context, o *rooms, rooms []*Room, listed []ID, wanted func(subject string) bool, err error) ([]*Room, error) {
	if !onlyLost(err) {
		return nil, err
	}
	unlisted, lost := o.unlisted(ctx, listed, wanted)
	if len(unlisted) > 0 {
		rooms = append(rooms, unlisted...)
		slices.SortFunc(rooms, func(a, b *Room) int { return a.r.ID.Compare(b.r.ID) })
	}
	if !onlyLost(lost) {
		return nil, lost
	}
	return rooms, errlist.Join(err, lost)
}

// onlyLost reports whether an error, if it is one, says nothing but that rooms are lost: the others are known then.
func onlyLost(err error) bool {
	return err == nil || errors.Is(err, ErrIntegrity) && !errors.Is(err, ErrUnavailable) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// losses are the rooms that a person has taken for lost, each as it was when it was verified last. They are read once, since
// nearly always there are none.
type losses struct {
	c *Client

	mu     sync.Mutex
	read   bool
	places map[string]string // of heads, by the name under which they are kept
}

// lossPrefix begins the names of settings that remember a loss.
const lossPrefix = "lost room "

// all reads what is remembered. The lock is held.
func (l *losses) all(ctx context.Context) (map[string]string, error) {
	if l.read {
		return l.places, nil
	}
	places, err := l.c.pins.Settings.All(ctx, lossPrefix)
	l.places, l.read = places, err == nil
	return places, err
}

// has reports whether a room is taken for lost, as it is.
func (l *losses) has(ctx context.Context, s *ledger.State) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	places, err := l.all(ctx)
	return err == nil && places[lossPrefix+s.ID.String()] == fmt.Sprintf("%x", s.Head.Hash[:]), err
}

// set takes a room for lost, or, with nothing, not any more.
func (l *losses) set(ctx context.Context, room ID, head string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	places, err := l.all(ctx)
	name := lossPrefix + room.String()
	if err != nil || places[name] == head {
		return err
	}
	if err := l.c.pins.Settings.Set(ctx, name, head); err != nil {
		return err
	}
	places[name] = head
	return nil
}

// freeSubject lets the subject of a lost room mean another, if it still means that one.
func freeSubject(ctx context.Context, c *Client, s *ledger.State) error {
	means, err := c.pins.Subjects.Room(ctx, c.Bus(), s.Room.Subject)
	if err != nil || means != s.ID {
		return err
	}
	return c.pins.Subjects.Replace(ctx, c.Bus(), s.Room.Subject, ID{})
}

// AcceptLoss takes a room, by id or by the subject that it had, for lost: the store has nothing of what this client had
// verified of it, and that was meant. From then on it is not found, until the store has it again. ErrInvalid when it is
// there, ErrNotFound when nothing was verified of a room of that name.
func (c *Client) AcceptLoss(ctx context.Context, name string) error {
	found, lost := 0, 0
	id, _ := crypto.ParseID(name) // else it is the subject, which another room may have by now
	none := func(ID) bool { return false }
	err := c.rooms.pinnedLogs(ctx, none, func(s *ledger.State) error {
		if s.ID != id && s.Room.Subject != name {
			return nil
		}
		found++
		_, err := c.rooms.byID(ctx, s.ID)
		switch {
		case errors.Is(err, mirror.ErrGone):
			lost++
			if err := c.rooms.lost.set(ctx, s.ID, fmt.Sprintf("%x", s.Head.Hash[:])); err != nil {
				return err
			}
			return freeSubject(ctx, c, s)
		case errors.Is(err, ErrNotFound): // it was taken for lost before
			lost++
			return nil
		}
		return err
	})
	switch {
	case err != nil || lost > 0:
		return err
	case found > 0:
		return fmt.Errorf("room %s: %w: the store has it", name, ErrInvalid)
	}
	return fmt.Errorf("room %s: %w: nothing was verified of it here", name, ErrNotFound)
}
