//go:build unix

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
	// parted: its writer uses several streams (PROTOCOL.md §6), as when its clock steps back or the room ceases to store
	// messages. Their order is kept in each, and not between them.
	parted bool
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

// part says of a series that its writer may use several streams.
func (r *room) part(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.series[name]
	s.parted = true
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
type reading map[string]*progress

// progress is how far a series was read.
type progress struct {
	last  int // the line that came last
	lines map[int]bool
}

// take reads lines, each of which has to come once, and in the order of its series if that is in one stream.
func (l reading) take(text string, written map[string]series) (n int, err error) {
	for each := range strings.Lines(text) {
		name, rest, _ := strings.Cut(each, " ")
		number, _, _ := strings.Cut(rest, " ")
		at, nerr := strconv.Atoi(number)
		of, known := written[name]
		if nerr != nil || known && at >= of.sent {
			return n, fmt.Errorf("a line that nobody wrote: %q", each)
		}
		was := l[name]
		switch {
		case was == nil:
			was = &progress{lines: map[int]bool{}}
			l[name] = was
		case was.lines[at]:
			return n, fmt.Errorf("line %d of %s twice", at, name)
		case at < was.last && known && !of.parted:
			return n, fmt.Errorf("line %d of %s after line %d", at, name, was.last)
		}
		was.last = at
		was.lines[at] = true
		n++
	}
	return n, nil
}

// complete checks that what was acknowledged was read, in a room that keeps its lines.
func (l reading) complete(before map[string]series) error {
	for name, s := range before {
		for at := range s.acked {
			if l[name] == nil || !l[name].lines[at] {
				return fmt.Errorf("LOST: line %d of %s, of which %d were acknowledged", at, name, s.acked)
			}
		}
	}
	return nil
}
