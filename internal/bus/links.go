package bus

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/unibus/unibus/internal/crypto"
)

// links are the connections of a Conn, and which of them is each room's. Rooms are given to one that can name more
// of them, which then connects anew, or to a new one.
type links struct {
	dial    func(ctx context.Context, rooms []crypto.ID) (*link, error)
	placing chan struct{} // held by whoever finds connections for rooms, so that each room has one

	mu     sync.Mutex
	list   []*link
	byRoom map[crypto.ID]*link
}

func newLinks(dial func(ctx context.Context, rooms []crypto.ID) (*link, error)) *links {
	return &links{dial: dial, placing: make(chan struct{}, 1), byRoom: map[crypto.ID]*link{}}
}

// assign makes a connection that of rooms.
func (s *links) assign(l *link, rooms []crypto.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.list, l) {
		s.list = append(s.list, l)
	}
	for _, room := range rooms {
		s.byRoom[room] = l
	}
}

// all are the connections there are.
func (s *links) all() []*link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// of is the connection of a room; nil when it has none.
func (s *links) of(room crypto.ID) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byRoom[room]
}

// release takes a room from its connection.
func (s *links) release(room crypto.ID) {
	s.mu.Lock()
	l := s.byRoom[room]
	delete(s.byRoom, room)
	s.mu.Unlock()
	if l != nil {
		l.release(room)
	}
}

// place finds or makes a connection for each of the rooms that has none. One that was there is connecting anew for them
// when place returns.
func (s *links) place(ctx context.Context, rooms []crypto.ID) error {
	select {
	case s.placing <- struct{}{}:
		defer func() { <-s.placing }()
	case <-ctx.Done():
		return fmt.Errorf("connect for rooms: %w", failure(ctx.Err()))
	}
	missing := slices.DeleteFunc(slices.Clone(rooms), func(room crypto.ID) bool { return s.of(room) != nil })
	for chunk := range slices.Chunk(missing, roomsPerLink) {
		all := s.all()
		if i := slices.IndexFunc(all, func(l *link) bool { return l.free() >= len(chunk) }); i >= 0 {
			if err := all[i].extend(chunk); err != nil {
				return err
			}
			s.assign(all[i], chunk)
			continue
		}
		l, err := s.dial(ctx, chunk)
		if err != nil {
			return err
		}
		s.assign(l, chunk)
	}
	return nil
}

// close closes all of them.
func (s *links) close() {
	for _, l := range s.all() {
		l.nc.Close()
	}
}
