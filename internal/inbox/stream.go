package inbox

import (
	"cmp"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// stream is what is known of one: which counter comes next, what of it waits for frames before it, and what of it is
// missing. It knows nothing of others, and tells nobody.
type stream struct {
	key    key
	first  uint64 // the counter that reading began with
	next   uint64 // the counter that comes next
	last   mark   // of the last frame before next that was read and not refused
	sums   []uint64
	gaps   []span // given up before next, or told of beyond it, in order
	acked  uint64 // how many of its first frames its writer says were acknowledged
	told   uint64 // the place of the frame that said so; 0: none did
	final  bool   // it has ended
	unsure bool   // the frame before next was not read: its last message may go on in next
	ahead  []held // by counter
	kept   int    // bytes in ahead

	pieces assembly
	listed
	account
}

// held is a frame ahead of its stream, and until when those before it are waited for.
type held struct {
	Frame
	ripe time.Time
}

// aheadCost is what a frame ahead costs beside its bytes, in memory.
const aheadCost = 256

func (h *held) cost() int { return h.Size + aheadCost }

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

// begin begins with a counter in the middle.
func (s *stream) begin(counter uint64) { s.first, s.next, s.unsure = counter, counter, counter > 0 }

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

// contradicts reports whether a frame is another than the one under its counter, which was passed. Of the last ones that
// is known.
func (s *stream) contradicts(f Frame) bool {
	back := s.next - f.Header.Counter
	return back <= uint64(len(s.sums)) && s.sums[uint64(len(s.sums))-back] != f.Sum
}

// search is where a counter stands, or would, among the frames ahead.
func (s *stream) search(counter uint64) (i int, found bool) {
	return slices.BinarySearchFunc(s.ahead, counter, func(h held, counter uint64) int { return cmp.Compare(h.Header.Counter, counter) })
}

// insert puts a frame among those ahead.
func (s *stream) insert(i int, h held) {
	s.ahead = slices.Insert(s.ahead, i, h)
	s.kept += h.cost()
}

// take removes the first frame ahead, if it is the next.
func (s *stream) take() (f Frame, next bool) {
	if len(s.ahead) == 0 || s.ahead[0].Header.Counter != s.next {
		return Frame{}, false
	}
	h := s.ahead[0]
	s.ahead = slices.Delete(s.ahead, 0, 1)
	s.kept -= h.cost()
	return h.Frame, true
}

// jump goes on at a counter behind what is given up.
func (s *stream) jump(counter uint64) { s.sums, s.unsure, s.next = nil, true, counter }

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

// acknowledge takes note that its writer says, in a frame at a place, how many of its first frames were acknowledged by
// then. Of what is said twice the last counts.
func (s *stream) acknowledge(frames, place uint64) {
	if frames >= s.acked {
		s.acked, s.told = frames, place
	}
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

// cutOff reports whether a frame was on its way when the last one was sent that is known of a stream, which did not end.
// Of such a stream as much could be left out at its end, and nothing would say so.
func (s *stream) cutOff(counter uint64) bool {
	last := s.next
	if n := len(s.ahead); n > 0 {
		last = s.ahead[n-1].Header.Counter + 1
	}
	return !s.final && last-counter <= crypto.MaxInFlight
}
