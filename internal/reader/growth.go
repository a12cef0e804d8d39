package reader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
)

// listOverlap is how far before the last look at the list of rooms a room found later is read, for
// clocks that differ.
const listOverlap = 5 * time.Second

// growth adds to a reading with patterns the rooms that these come to mean. Whoever hears that this client may be in other
// rooms calls lookForRooms; run, in a goroutine of its own, then lists its rooms again and begins to read the new ones.
type growth struct {
	s        *Reading
	patterns []string
	arrivals chan struct{} // there may be another room that the patterns mean
	lost     error         // of rooms that they mean; the reading's lock is held
}

// IsPattern reports whether a name has wildcards.
func IsPattern(name string) bool { return strings.ContainsAny(name, "*>") }

// ValidPattern checks a NATS subject pattern, which some subject of a room has to match.
func ValidPattern(pattern string) error {
	tokens := strings.Split(pattern, ".")
	for i, t := range tokens {
		if t == "" || t != "*" && t != ">" && strings.ContainsAny(t, "*>") || t == ">" && i < len(tokens)-1 {
			return fmt.Errorf("pattern %q: %w: * is a whole token, and > the last one", pattern, store.ErrInvalid)
		}
	}
	if err := ledger.ValidSubject(strings.NewReplacer("*", "x", ">", "x").Replace(pattern)); err != nil {
		return fmt.Errorf("pattern %q: %w: no room can be of that subject: %w", pattern, store.ErrInvalid, err)
	}
	return nil
}

// Matches reports whether a subject matches a NATS pattern.
func Matches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, t := range p {
		if t == ">" {
			return len(s) > i
		}
		if i >= len(s) || t != "*" && t != s[i] {
			return false
		}
	}
	return len(p) == len(s)
}

// begin lists the rooms that the patterns mean now, and tells of patterns that mean none. When the reading ends with what
// is stored there is nothing to wait for: ErrNotFound, as for a room's name.
func (g *growth) begin(ctx context.Context) ([]*room.Room, error) {
	if len(g.patterns) == 0 {
		return nil, nil
	}
	rooms, err := g.matching(ctx)
	if err != nil && !g.readsOthers(rooms, err) {
		return nil, err
	}
	for _, pattern := range g.patterns {
		switch {
		case slices.ContainsFunc(rooms, func(r *room.Room) bool { return Matches(pattern, r.Subject()) }):
		case g.s.o.End:
			err := fmt.Errorf("subscribe to %s: %w: it matches none of your rooms", pattern, store.ErrNotFound)
			return nil, remedy.With(err, remedy.Remedy{Kind: remedy.ListRooms})
		default:
			g.s.rd.Tell("%s matches none of your rooms yet", pattern)
		}
	}
	return rooms, nil
}

// readsOthers reports whether the reading goes on without rooms that are lost, as the error of a listing says: it does while there
// are others. It tells of them, and they are the reading's error when it ends.
func (g *growth) readsOthers(others []*room.Room, err error) bool {
	if len(others) == 0 || !errors.Is(err, store.ErrIntegrity) || errors.Is(err, store.ErrUnavailable) {
		return false
	}
	g.s.mu.Lock()
	lost, known := except(err, g.s.wrong), g.lost
	g.lost = lost
	g.s.mu.Unlock()
	g.tell(except(lost, known))
	return true
}

// tell tells of rooms that are lost.
func (g *growth) tell(lost error) {
	for _, one := range errlist.Split(lost) {
		g.s.rd.Tell("%v; the other rooms are read", one)
	}
}

// except is a list of errors without those that another says, too.
func except(list, other error) error {
	told := errlist.Split(other)
	left := slices.DeleteFunc(slices.Clone(errlist.Split(list)), func(one error) bool {
		return slices.ContainsFunc(told, func(err error) bool { return err.Error() == one.Error() })
	})
	return errlist.Join(left...)
}

// matching lists the caller's rooms that the patterns mean; beside an error that some of them are lost, the others.
func (g *growth) matching(ctx context.Context) ([]*room.Room, error) {
	return g.s.rd.Mine(ctx, func(subject string) bool {
		return slices.ContainsFunc(g.patterns, func(p string) bool { return Matches(p, subject) })
	})
}

// run adds rooms that the caller is invited to later, once the past of those that are read has been given: what comes
// by them comes after that.
func (g *growth) run() {
	s, looked := g.s, time.Now()
	select {
	case <-s.finishing.Done():
		return
	case <-s.pastGiven:
	}
	for {
		select {
		case <-s.finishing.Done():
			return
		case <-g.arrivals:
		}
		since := looked.Add(-listOverlap)
		looked = time.Now()
		rooms, err := g.matching(s.ctx)
		switch {
		case errors.Is(err, store.ErrUnavailable), s.ctx.Err() != nil:
			continue // the next notice or reconnection asks again
		case err == nil:
			s.mu.Lock()
			g.lost = nil // if any were, they are there again
			s.mu.Unlock()
		case !g.readsOthers(rooms, err):
			if errors.Is(err, store.ErrIntegrity) {
				s.stop(err)
			}
			continue
		}
		s.mu.Lock()
		rooms = slices.DeleteFunc(rooms, func(r *room.Room) bool { return s.feeds[r.ID] != nil })
		s.mu.Unlock()
		g.join(rooms, since)
	}
}

// join begins to read rooms that were found later, and goes on in those that it was in before.
func (g *growth) join(rooms []*room.Room, since time.Time) {
	s, o := g.s, g.s.o
	o.Last, o.All, o.Since = 0, false, since
	for _, r := range rooms {
		s.mu.Lock()
		o.resume = s.left[r.ID]
		s.mu.Unlock()
		err := s.add(s.ctx, []*room.Room{r}, o)
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil:
			s.rd.Tell("cannot read %s yet: %s", r.Subject(), without(r.Subject(), err))
		default:
			s.rd.Tell("now reading %s too", r.Subject())
		}
	}
}

// lookForRooms has the client's rooms listed again, for others that the patterns mean. It does not wait for that.
func (s *Reading) lookForRooms() {
	select {
	case s.growth.arrivals <- struct{}{}:
	default: // it will be
	}
}

// hasLeft reports whether a room was read, and is not any more.
func (s *Reading) hasLeft(room crypto.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, left := s.left[room]
	return left
}
