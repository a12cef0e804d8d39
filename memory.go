package unibus

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/pins"
)

// rememberEvery is how often what was acknowledged, or read, is written down while more comes. What is lost with
// the process costs only the check that it is for.
const rememberEvery = time.Second

// recordEvery is how long what is remembered of one's own stream may be left as it is while frames are sent behind
// others that have no acknowledgement. It is well below what the pins take for a stream under way.
const recordEvery = 15 * time.Second

// maxRecent is how many places are remembered of those that were acknowledged. A frame is stored behind what was
// acknowledged when it was sent, so only what is on its way beside it can have its place.
const maxRecent = 4 * inFlight

// memory is how far a stored room is known to reach, and how much of one's own stream was acknowledged, on its way
// to the pins (SPEC.md §6). It is for one goroutine, but for sending.
type memory struct {
	r        *Room
	known    pins.Place // what was known before
	pinned   uint64     // the place up to which there was something then
	accepted uint64     // up to here a person takes the room for what it is
	disputed uint64     // here was another frame before, when it was read last; 0: nowhere
	recent   []uint64   // the last places that were acknowledged
	place    uint64     // the highest since, and the frame there
	frame    []byte
	own      bool // they were acknowledged, not read
	dirty    bool
	written  time.Time

	mu       sync.Mutex     // for what follows
	reached  uint64         // the highest place that was acknowledged
	stream   crypto.Follows // what was acknowledged of one's own
	ended    bool           // with that
	recorded [16]byte       // the stream that was last recorded, and when
	when     time.Time      //
}

// anew is the entry with which what the room stores begins.
func (r *Room) anew() (seq uint64) { return r.room().Anew }

// remember reads what is known of a room; before anything is sent there or read, since what other processes do
// meanwhile is known to them alone.
func (r *Room) remember(ctx context.Context) (*memory, error) {
	at, err := r.c.pins.Place(ctx, r.id)
	if err != nil {
		return nil, err
	}
	m := &memory{r: r}
	if at.Anew == r.anew() {
		m.known, m.pinned, m.accepted, m.disputed = at, max(at.Seq, at.Own), at.Accepted, at.Disputed
	}
	return m, nil
}

// acknowledged takes note of a frame that was stored at a place. ErrIntegrity when the room reached further before.
func (m *memory) acknowledged(ctx context.Context, f flight, place uint64) error {
	if reached := max(m.pinned, f.after); place <= reached || slices.Contains(m.recent, place) {
		return m.r.rolledBack(place, "this message was stored at place %d, and the room reached to place %d before", place, max(reached, place))
	}
	if len(m.recent) == maxRecent {
		m.recent = slices.Delete(m.recent, 0, maxRecent/2)
	}
	m.recent = append(m.recent, place)
	if len(f.told) > 0 {
		if err := m.r.c.pins.Told(ctx, m.r.id, f.told, m.r.c.now()); err != nil {
			return err
		}
	}
	if place > m.place {
		m.place, m.frame, m.own = place, f.frame, true
	}
	m.dirty = true
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reached = max(m.reached, place)
	m.stream = f.mark
	m.stream.Place = place
	return nil
}

// sending takes note of a frame before it goes out. When others of its stream are on their way, they may be lost and
// it stored, if a leader changes; and nobody will send them again, if this process ends. So that the next one can say
// that they were never acknowledged, there has to be a record of the stream by now, though of no frame.
func (m *memory) sending(ctx context.Context, f *flight) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !f.sent {
		f.sent, f.after = true, m.reached
	}
	known := crypto.Follows{Stream: f.mark.Stream}
	if m.stream.Stream == f.mark.Stream {
		known = m.stream
	}
	if f.mark.Frames == known.Frames+1 || m.recorded == f.mark.Stream && time.Since(m.when) < recordEvery {
		return nil
	}
	return m.record(ctx, known)
}

// record remembers how much of a stream was acknowledged; m.mu is held.
func (m *memory) record(ctx context.Context, stream crypto.Follows) error {
	m.recorded, m.when = stream.Stream, time.Now()
	return m.r.c.pins.Stored(ctx, m.r.id, stream, m.ended, m.r.c.now())
}

// end writes what it knows at last; whole says that everything that was sent was acknowledged.
func (m *memory) end(ctx context.Context, whole bool) error {
	m.mu.Lock()
	m.ended = whole && m.stream.Frames > 0
	m.dirty = m.dirty || m.ended
	m.mu.Unlock()
	return m.write(ctx)
}

// met takes note of an authentic frame that was read.
func (m *memory) met(ctx context.Context, place uint64, frame []byte) error {
	if place <= max(m.pinned, m.place) {
		return nil
	}
	m.place, m.frame, m.dirty = place, frame, true
	if time.Since(m.written) < rememberEvery {
		return nil
	}
	return m.write(ctx)
}

// last is the last place that was known before, and not taken since for what it is; 0: none.
func (m *memory) last() uint64 {
	if m == nil || m.pinned <= m.accepted {
		return 0
	}
	return m.pinned
}

// another reports whether a frame is another one than was known to be at its place.
func (m *memory) another(place uint64, frame []byte) bool {
	at := &m.known
	return place > 0 && (place == at.Seq && sha256.Sum256(frame) != at.Hash || place == at.Own && sha256.Sum256(frame) != at.OwnHash)
}

func anotherFrame(place uint64) string {
	return fmt.Sprintf("there was another frame at place %d of the room's stream before", place)
}

// write remembers what it knows.
func (m *memory) write(ctx context.Context) error {
	if !m.dirty {
		return nil
	}
	m.dirty, m.written = false, time.Now()
	if err := m.acked(ctx); err != nil {
		return err
	}
	if m.frame == nil {
		return nil // since the last time
	}
	hash := sha256.Sum256(m.frame)
	m.frame = nil
	at := pins.Place{Anew: m.r.anew()}
	if m.own {
		at.Own, at.OwnHash = m.place, hash
	} else {
		at.Seq, at.Hash = m.place, hash
	}
	return m.r.c.pins.Reached(ctx, m.r.id, at)
}

// acked records how much of one's own stream was acknowledged.
func (m *memory) acked(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stream.Frames == 0 {
		return nil
	}
	return m.record(ctx, m.stream)
}
