package inbox

import (
	"cmp"
	"container/list"
	"slices"
	"time"
)

// stream is what is known of one.
type stream struct {
	key      key
	first    uint64 // the counter that reading began with
	next     uint64 // the counter that comes next
	last     mark   // of the last frame before next that was read and not refused
	sums     []uint64
	gaps     []span // given up before next, or told of beyond it, in order
	acked    uint64 // how many of its first frames its writer says were acknowledged
	told     uint64 // the place of the frame that said so; 0: none did
	final    bool   // it has ended
	unsure   bool   // the frame before next was not read: its last message may go on in next
	dropping bool   // the rest of a message that was given up comes next
	shed     bool   // because too much was unfinished
	partial  *unfinished
	ahead    []held // by counter
	held     int    // bytes in partial and ahead

	in           *list.List // that heard is in: of those that have ended, or have not
	heard, waits *list.Element
}

// held is a frame ahead of its stream, and until when those before it are waited for.
type held struct {
	Frame
	ripe time.Time
}

// unfinished is a message whose rest is to come.
type unfinished struct {
	Message
	pieces [][]byte
	size   int // of its body so far
	cost   int // of all that is kept of it, in bytes of memory
}

// mark is where a stream was at a frame.
type mark struct {
	epoch uint32
	at    uint64
	time  uint64 // Unix µs
	place uint64
	known bool // there was such a frame
}

func markOf(f Frame) mark {
	return mark{f.Header.Epoch, f.Header.At, f.Content.Time, f.Place, true}
}

// span are counters.
type span struct{ from, to uint64 }

// astray says what is wrong with a frame's place in its stream; empty for nothing.
func (s *stream) astray(f Frame) string {
	switch {
	case s.final:
		return "the stream goes on after its end"
	case f.Header.At < s.last.at:
		return "its place in the log goes back within the stream"
	case f.Content.Time < s.last.time:
		return "its seal time goes back within the stream"
	}
	return ""
}

// pass goes on to the counter after a frame's.
func (s *stream) pass(f Frame) {
	s.next = f.Header.Counter + 1
	if len(s.sums) == maxSums {
		s.sums = slices.Delete(s.sums, 0, maxSums/2)
	}
	s.sums = append(s.sums, f.Sum)
}

// miss remembers counters that were told to be missing.
func (s *stream) miss(from, to uint64) {
	if len(s.gaps) == maxGaps { // the oldest are forgotten: nobody tells of them again
		s.gaps = slices.Delete(s.gaps, 0, 1)
	}
	s.gaps = append(s.gaps, span{from, to})
}

// has reports whether a frame was read, or was told to be missing.
func (s *stream) has(counter uint64) bool {
	if counter >= s.first && counter < s.next {
		return true
	}
	return slices.ContainsFunc(s.gaps, func(g span) bool { return g.from <= counter && counter <= g.to }) ||
		slices.ContainsFunc(s.ahead, func(h held) bool { return h.Header.Counter == counter })
}

// untold is the first counter from one on that was not told to be missing.
func (s *stream) untold(from uint64) uint64 {
	for _, g := range s.gaps {
		if g.from <= from && from <= g.to {
			from = g.to + 1
		}
	}
	return from
}

// meter adds up what was read, so as to say how much of it came from a place on. It remembers the sums at some
// places, so it may say a little more.
type meter struct {
	total uint64
	marks []sum // by place
	every uint64
}

// sum is what was read up to a place, without it.
type sum struct{ place, total uint64 }

// maxSumPlaces is how many sums a meter remembers.
const maxSumPlaces = 1024

func (m *meter) add(place uint64, size int) {
	if n := len(m.marks); n == 0 || place >= m.marks[n-1].place+m.every {
		if n == maxSumPlaces { // half of them, twice as far apart
			for i := range n / 2 {
				m.marks[i] = m.marks[2*i]
			}
			m.marks = m.marks[:n/2]
			m.every = max(2*m.every, 2)
		}
		m.marks = append(m.marks, sum{place, m.total})
	}
	m.total += uint64(size)
}

// since is how many bytes were read from a place on.
func (m *meter) since(place uint64) uint64 {
	i, found := slices.BinarySearchFunc(m.marks, place, func(s sum, place uint64) int { return cmp.Compare(s.place, place) })
	if !found {
		i--
	}
	if i < 0 {
		return m.total
	}
	return m.total - m.marks[i].total
}
