package room

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

// RememberEvery is how often what was acknowledged, or read, is written down while more comes. What is lost with
// the process costs only the check that it is for.
const RememberEvery = time.Second

// recordEvery is how long what is remembered of one's own stream may be left as it is while frames are sent behind
// others that have no acknowledgement. It is well below what the pins take for a stream under way.
const recordEvery = 15 * time.Second

// maxRecent is how many places are remembered of those that were acknowledged. A frame is stored behind what was
// acknowledged when it was sent, so only what is on its way beside it can have its place.
const maxRecent = 64

// Reach is how far a stored room is known to reach, and how much of one's own stream was acknowledged, on its way
// to the pins (SPEC.md §6). It is for one goroutine, but for sending.
type Reach struct {
	r        *Room
	Known    pins.Place // what was known before
	Pinned   uint64     // the place up to which there was something then
	Accepted uint64     // up to here a person takes the room for what it is
	Disputed uint64     // here was another frame before, when it was read last; 0: nowhere
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
	recorded [16]byte       // the stream that was last recorded
	when     time.Time      // that was
}

// Accepts reports whether a person takes the room for what it is at a place; 0: nowhere in what it stores. Of nil it is nowhere.
func (m *Reach) Accepts(place uint64) bool { return m != nil && place > 0 && place <= m.Accepted }

// Sent is a frame on its way to a stored room.
type Sent struct {
	Frame []byte
	Mark  crypto.Follows   // its stream, up to it; the place comes with the acknowledgement
	Told  []crypto.Follows // of other streams, in it

	resent bool   // it was sent before
	after  uint64 // how far the room was known to reach then
}

// Remember reads what is known of a room; before anything is sent there or read, since what other processes do
// meanwhile is known to them alone.
func (r *Room) Remember(ctx context.Context) (*Reach, error) {
	at, err := r.Pins.Places.Of(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	m := &Reach{r: r}
	if at.Anew == r.Ledger().Anew {
		m.Known, m.Pinned, m.Accepted, m.Disputed = at, max(at.Seq, at.Own), at.Accepted, at.Disputed
	}
	return m, nil
}

// Acknowledged takes note of a frame that was stored at a place. ErrIntegrity when the room reached further before.
func (m *Reach) Acknowledged(ctx context.Context, f *Sent, place uint64) error {
	if reached := max(m.Pinned, f.after); place <= reached || slices.Contains(m.recent, place) {
		return m.r.RolledBack(place, "this message was stored at place %d, and the room reached to place %d before", place, max(reached, place))
	}
	if len(m.recent) == maxRecent {
		m.recent = slices.Delete(m.recent, 0, maxRecent/2)
	}
	m.recent = append(m.recent, place)
	if len(f.Told) > 0 {
		if err := m.r.Pins.Streams.Told(ctx, m.r.ID, f.Told, m.r.Now()); err != nil {
			return err
		}
	}
	if place > m.place {
		m.place, m.frame, m.own = place, f.Frame, true
	}
	m.dirty = true
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reached = max(m.reached, place)
	m.stream = f.Mark
	m.stream.Place = place
	return nil
}

// Sending takes note of a frame before it goes out. When others of its stream are on their way, they may be lost and
// it stored, if a leader changes; and nobody will send them again, if this process ends. So that the next one can say
// that they were never acknowledged, there has to be a record of the stream by now, though of no frame.
func (m *Reach) Sending(ctx context.Context, f *Sent) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !f.resent {
		f.resent, f.after = true, m.reached
	}
	known := crypto.Follows{Stream: f.Mark.Stream}
	if m.stream.Stream == f.Mark.Stream {
		known = m.stream
	}
	if f.Mark.Frames == known.Frames+1 || m.recorded == f.Mark.Stream && time.Since(m.when) < recordEvery {
		return nil
	}
	return m.record(ctx, known)
}

// record remembers how much of a stream was acknowledged; m.mu is held.
func (m *Reach) record(ctx context.Context, stream crypto.Follows) error {
	m.recorded, m.when = stream.Stream, time.Now()
	return m.r.Pins.Streams.Stored(ctx, m.r.ID, stream, m.ended, m.r.Now())
}

// End writes what it knows at last; whole says that everything that was sent was acknowledged.
func (m *Reach) End(ctx context.Context, whole bool) error {
	m.mu.Lock()
	m.ended = whole
	m.dirty = m.dirty || whole
	m.mu.Unlock()
	return m.Write(ctx)
}

// Met takes note of an authentic frame that was read.
func (m *Reach) Met(ctx context.Context, place uint64, frame []byte) error {
	if place <= max(m.Pinned, m.place) {
		return nil
	}
	m.place, m.frame, m.dirty = place, frame, true
	if time.Since(m.written) < RememberEvery {
		return nil
	}
	return m.Write(ctx)
}

// Last is the last place that was known before, and not taken since for what it is; 0: none.
func (m *Reach) Last() uint64 {
	if m == nil || m.Pinned <= m.Accepted {
		return 0
	}
	return m.Pinned
}

// Another reports whether a frame is another one than was known to be at its place.
func (m *Reach) Another(place uint64, frame []byte) bool {
	at := &m.Known
	return place > 0 && (place == at.Seq && sha256.Sum256(frame) != at.Hash || place == at.Own && sha256.Sum256(frame) != at.OwnHash)
}

// AnotherFrame says that a place holds another frame than before.
func AnotherFrame(place uint64) string {
	return fmt.Sprintf("there was another frame at place %d of the room's stream before", place)
}

// Write remembers what it knows.
func (m *Reach) Write(ctx context.Context) error {
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
	at := pins.Place{Anew: m.r.Ledger().Anew}
	if m.own {
		at.Own, at.OwnHash = m.place, hash
	} else {
		at.Seq, at.Hash = m.place, hash
	}
	return m.r.Pins.Places.Reached(ctx, m.r.ID, at)
}

// acked records how much of one's own stream was acknowledged, so that a later process can say so in its first frame.
func (m *Reach) acked(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stream.Frames == 0 {
		return nil
	}
	return m.record(ctx, m.stream)
}
