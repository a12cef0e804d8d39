package chat

import (
	"slices"

	"github.com/fvbommel/sortorder"

	"github.com/unibus/unibus"
)

// shelf is the rooms of a chat, by their subjects, and which of them is on the screen.
type shelf struct {
	rooms []*room
	on    *room // nil: none yet
}

// room finds a room; nil for one that was not listed yet.
func (s *shelf) room(id unibus.ID) *room {
	n := slices.IndexFunc(s.rooms, func(r *room) bool { return r.ID() == id })
	if n < 0 {
		return nil
	}
	return s.rooms[n]
}

// put adds the rooms that are not there yet.
func (s *shelf) put(rooms []*unibus.Room) {
	for _, r := range rooms {
		if s.room(r.ID()) == nil {
			s.rooms = append(s.rooms, newRoom(r))
		}
	}
	slices.SortStableFunc(s.rooms, func(a, b *room) int { return sortorder.NaturalCompare(a.Subject(), b.Subject()) })
}

// at is the place of the room that is on the screen.
func (s *shelf) at() int { return max(slices.Index(s.rooms, s.on), 0) }

// step is the room so many places further down, round and round; there is one.
func (s *shelf) step(by int) *room { return s.rooms[(s.at()+by+len(s.rooms))%len(s.rooms)] }

// news is the next room further down, round and round, in which something is new; nil for none.
func (s *shelf) news() *room {
	for by := 1; by < len(s.rooms); by++ {
		if r := s.step(by); r.news > 0 || r.alarm {
			return r
		}
	}
	return nil
}

// trim keeps the memory bounded: see maxKept.
func (s *shelf) trim() {
	all := 0
	for _, r := range s.rooms {
		all += r.bytes
	}
	if all > maxKept {
		slices.MaxFunc(s.rooms, func(a, b *room) int { return a.bytes - b.bytes }).trim()
	}
}
