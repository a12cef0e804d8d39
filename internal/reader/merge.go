package reader

import (
	"container/heap"
	"time"
)

// Each of several feeds sends what it reads of the past as parts, in its own order; merge takes the earliest of the next
// ones until all have read what was stored when they began. After that feeds give their messages to the receiver directly.
// A feed waits with each part until it is taken, so merge keeps one of each: a frame's messages, or what waited for that
// frame. The last N messages of a room are in memory all together, whether or not they are merged, until they are given.

// part are messages that a feed has read, of which others may have been stored before and after, but none between them; and
// when the last of them and of the parts before it was stored.
type part struct {
	stored time.Time
	batch  batch
	from   <-chan part
}

// partHeap is the next part of each feed, the one stored first on top.
type partHeap []part

// Len is part of heap.Interface.
func (h partHeap) Len() int { return len(h) }

// Less is part of heap.Interface: what was stored first comes first.
func (h partHeap) Less(i, j int) bool { return h[i].stored.Before(h[j].stored) }

// Swap is part of heap.Interface.
func (h partHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is part of heap.Interface.
func (h *partHeap) Push(x any) { *h = append(*h, x.(part)) }

// Pop is part of heap.Interface.
func (h *partHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// merge hands on what feeds read of the past in the order in which it was stored: the next part to hand on
// is known when every feed that has more has said what comes next there. It ends when all have read what was
// stored when they began, or with the subscription.
func (s *Reading) merge(feeds []chan part) {
	defer s.endPast()
	var next partHeap
	for _, f := range feeds {
		if p, ok := s.nextPart(f); ok {
			heap.Push(&next, p)
		}
	}
	for len(next) > 0 {
		p := next[0]
		if s.give(s.ctx, p.batch) != nil {
			return
		}
		if following, ok := s.nextPart(p.from); ok {
			next[0] = following
			heap.Fix(&next, 0)
		} else {
			heap.Pop(&next)
		}
	}
}

// nextPart waits for what a feed reads next of the past; false when it has read all of it.
func (s *Reading) nextPart(from <-chan part) (part, bool) {
	select {
	case p, ok := <-from:
		return p, ok
	case <-s.ctx.Done():
		return part{}, false
	}
}
