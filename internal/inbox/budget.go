package inbox

import (
	"container/list"
	"sync/atomic"
)

// budget accounts for what the streams of an inbox hold: frames ahead, and messages that are not whole. All inboxes that
// share a Budget count together; which stream gives up something when there is too much, each says for its own.
type budget struct {
	used    *atomic.Int64 // bytes, of all that share it
	shed    *atomic.Int64 // messages given up that came to be whole after that
	waiting *list.List    // of *stream, those that hold something, the first to have begun to first
}

// account is what a stream holds, as the budget knows it.
type account struct {
	held  int           // bytes
	waits *list.Element // nil while it holds nothing
}

// newBudget makes one; without what others share it is its own.
func newBudget(used, shed *atomic.Int64) *budget {
	if used == nil {
		used = new(atomic.Int64)
	}
	if shed == nil {
		shed = new(atomic.Int64)
	}
	return &budget{used, shed, list.New()}
}

// settle accounts for what a stream holds now.
func (b *budget) settle(s *stream) {
	now := s.kept + s.pieces.cost()
	b.used.Add(int64(now - s.held))
	s.held = now
	switch holds := len(s.ahead) > 0 || s.pieces.partial != nil; {
	case holds && s.waits == nil:
		s.waits = b.waiting.PushBack(s)
	case !holds && s.waits != nil:
		b.waiting.Remove(s.waits)
		s.waits = nil
	}
}

// exceeded reports whether more is held than may be.
func (b *budget) exceeded() bool { return b.used.Load() > Budget }

// missed takes note that a message which was given up would be whole by now.
func (b *budget) missed() { b.shed.Add(1) }

// longest is the stream that has held something longest; nil for none.
func (b *budget) longest() *stream {
	e := b.waiting.Front()
	if e == nil {
		return nil
	}
	return e.Value.(*stream)
}

// holders are the streams that hold something, which may cease to meanwhile.
func (b *budget) holders(yield func(*stream) bool) {
	var next *list.Element
	for e := b.waiting.Front(); e != nil; e = next {
		next = e.Next()
		if !yield(e.Value.(*stream)) {
			return
		}
	}
}

// close accounts for nothing any more.
func (b *budget) close() {
	for s := range b.holders {
		b.used.Add(-int64(s.held))
	}
	b.waiting.Init()
}
