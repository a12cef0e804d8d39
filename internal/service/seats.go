package service

import (
	"sync"
	"time"
)

// Seats are for a limit on connections whose end somebody else tells of, perhaps late, or not at all: each seat is free again
// at a time, whatever happens.

// connID is a connection: the id that its server gave it.
type connID struct {
	server string
	id     uint64
}

// seats counts connections by whom or where they are of, each from when it is granted until it has gone.
// A grant of which no connection comes ends by itself, and so does one whose end nobody tells of. Times
// are given to it.
type seats[K comparable] struct {
	limit    int // of one K
	queue    int // logins of one K that wait for a seat
	allQueue int // of all

	mu      sync.Mutex
	taken   map[connID]seat[K]
	count   map[K]int
	waiting map[K][]waiter
	waits   int
}

// seat is whose a connection is, and until when it counts if nobody tells of its end.
type seat[K comparable] struct {
	of    K
	until time.Time
}

// waiter is a login that goes on once there is a seat.
type waiter struct {
	conn  connID
	until time.Time // after that nobody waits for its answer
	hold  time.Duration
	goOn  func()
}

// newSeats has all seats free.
func newSeats[K comparable](limit, queue, allQueue int) *seats[K] {
	return &seats[K]{
		limit: limit, queue: queue, allQueue: allQueue,
		taken: map[connID]seat[K]{}, count: map[K]int{}, waiting: map[K][]waiter{},
	}
}

// take takes a seat for a while; false when there is none.
func (s *seats[K]) take(of K, conn connID, now time.Time, hold time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.occupyIfFree(of, conn, now.Add(hold))
}

// takeOrWait calls goOn with a seat taken: at once, or when one is free, unless that takes too long.
func (s *seats[K]) takeOrWait(of K, conn connID, now time.Time, hold, wait time.Duration, goOn func()) bool {
	s.mu.Lock()
	queued := len(s.waiting[of])
	switch {
	case queued == 0 && s.occupyIfFree(of, conn, now.Add(hold)):
		s.mu.Unlock()
		goOn()
		return true
	case queued >= s.queue || s.waits >= s.allQueue:
		s.mu.Unlock()
		return false
	}
	s.waiting[of] = append(s.waiting[of], waiter{conn, now.Add(wait), hold, goOn})
	s.waits++
	s.mu.Unlock()
	return true
}

// occupyIfFree is take for whoever holds the lock.
func (s *seats[K]) occupyIfFree(of K, conn connID, until time.Time) bool {
	if s.count[of] >= s.limit {
		return false
	}
	s.occupy(of, conn, until)
	return true
}

// occupy gives a seat, though there may be none: the servers let connections in whatever is counted here.
func (s *seats[K]) occupy(of K, conn connID, until time.Time) {
	if old, again := s.taken[conn]; again {
		s.uncount(old.of)
	}
	s.taken[conn] = seat[K]{of, until}
	s.count[of]++
}

// uncount takes one connection from those of somebody.
func (s *seats[K]) uncount(of K) {
	if s.count[of]--; s.count[of] == 0 {
		delete(s.count, of)
	}
}

// appeared notes a connection that stands, whoever granted it.
func (s *seats[K]) appeared(of K, conn connID, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.occupy(of, conn, until)
}

// has reports whether a connection has a seat.
func (s *seats[K]) has(conn connID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.taken[conn]
	return ok
}

// sizeWithout is how many seats are taken, but for those of some.
func (s *seats[K]) sizeWithout(some ...K) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.taken)
	for _, of := range some {
		n -= s.count[of]
	}
	return n
}

// left frees the seat of a connection that has gone.
func (s *seats[K]) left(conn connID, now time.Time) {
	s.free(now, func(connID, seat[K]) bool { return true }, conn)
}

// sweep frees the seats whose time is over, and forgets logins that waited too long.
func (s *seats[K]) sweep(now time.Time) {
	s.free(now, func(_ connID, t seat[K]) bool { return now.After(t.until) }, s.all()...)
}

// serverLeft frees the seats of a server that has stopped.
func (s *seats[K]) serverLeft(server string, now time.Time) {
	s.free(now, func(c connID, _ seat[K]) bool { return c.server == server }, s.all()...)
}

// all are the connections that have a seat now.
func (s *seats[K]) all() []connID {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]connID, 0, len(s.taken))
	for c := range s.taken {
		conns = append(conns, c)
	}
	return conns
}

// free frees those of the seats that have ended, and lets logins that wait for them go on.
func (s *seats[K]) free(now time.Time, ended func(connID, seat[K]) bool, conns ...connID) {
	var goOn []func()
	s.mu.Lock()
	for _, conn := range conns {
		if t, ok := s.taken[conn]; ok && ended(conn, t) {
			delete(s.taken, conn)
			s.uncount(t.of)
		}
	}
	for of := range s.waiting {
		goOn = append(goOn, s.promote(of, now)...)
	}
	s.mu.Unlock()
	for _, f := range goOn {
		f()
	}
}

// promote gives free seats to those who wait for them, the longest waiting first.
func (s *seats[K]) promote(of K, now time.Time) (goOn []func()) {
	queue := s.waiting[of]
	for len(queue) > 0 {
		if w := queue[0]; now.Before(w.until) {
			if !s.occupyIfFree(of, w.conn, now.Add(w.hold)) {
				break
			}
			goOn = append(goOn, w.goOn)
		}
		queue = queue[1:]
		s.waits--
	}
	if s.waiting[of] = queue; len(queue) == 0 {
		delete(s.waiting, of)
	}
	return goOn
}
