package main

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
)

// Lines name their series and their place in it, which counts from 0. A series is what one run of pub is given.

// series is how much of one there is.
type series struct {
	sent  int // given to pub
	acked int // of them, the first so many were acknowledged
}

// room is one that lines are written into.
type room struct {
	subject string
	trimmed bool       // lines go by and by
	turn    sync.Mutex // held by whoever changes its policy or members

	mu       sync.Mutex
	series   map[string]series
	archived bool
}

func newRoom(subject string, trimmed bool) *room {
	return &room{subject: subject, trimmed: trimmed, series: map[string]series{}}
}

// line is the nth of a series, filled up to a length.
func line(name string, n, length int) string {
	s := fmt.Sprintf("%s %d ", name, n)
	return s + strings.Repeat("x", max(0, length-len(s)-1)) + "\n"
}

func (r *room) sent(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.series[name]
	s.sent++
	r.series[name] = s
}

func (r *room) acknowledged(name string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.series[name]
	s.acked = n
	r.series[name] = s
}

// snapshot is what has been acknowledged by now.
func (r *room) snapshot() map[string]series {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.series)
}

// total is how many lines were sent.
func (r *room) total() (n int) {
	for _, s := range r.snapshot() {
		n += s.sent
	}
	return n
}

// emptied forgets all lines: what was stored is gone.
func (r *room) emptied() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.series)
}

// reading is what was read of series.
type reading map[string]progress

// progress is how far a series was read: its last line, and how many lines came without one missing from the first on.
type progress struct{ last, whole int }

// take reads lines, which have to come in the order of their series. Lines read twice by two readings are no error if
// again is set.
func (l reading) take(text string, again bool) (n int, err error) {
	fresh := reading{}
	for each := range strings.Lines(text) {
		name, rest, _ := strings.Cut(each, " ")
		number, _, _ := strings.Cut(rest, " ")
		at, nerr := strconv.Atoi(number)
		if nerr != nil {
			return n, fmt.Errorf("a line that nobody wrote: %q", each)
		}
		was, known := fresh[name]
		if !known && !again {
			was, known = l[name]
		}
		if known && at <= was.last {
			return n, fmt.Errorf("line %d of %s after line %d", at, name, was.last)
		}
		if was.last = at; at == was.whole {
			was.whole++
		}
		fresh[name] = was
		n++
	}
	maps.Copy(l, fresh)
	return n, nil
}

// complete checks that what was acknowledged was read, in a room that keeps its lines.
func (l reading) complete(before map[string]series) error {
	for name, s := range before {
		if got := l[name]; got.whole < s.acked {
			return fmt.Errorf("LOST: line %d of %s, of which %d were acknowledged; the last that was read is %d", got.whole, name, s.acked, got.last)
		}
	}
	return nil
}
