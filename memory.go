package unibus

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// rememberEvery is how often what was acknowledged, or read, is written down while more comes. What is lost with
// the process costs only the check that it is for.
const rememberEvery = time.Second

// memory is how far a stored room is known to reach, and how much of one's own stream was acknowledged, on its way
// to the pins (SPEC.md §6). It is for one goroutine.
type memory struct {
	r      *Room
	pinned uint64 // the place that was known to be there before
	place  uint64 // the highest since, and the frame there
	frame  []byte
	stream crypto.Follows
	dirty  bool
}

// anew is the entry with which what the room stores begins.
func (r *Room) anew() (seq uint64) {
	r.read(func(s *ledger.State) { seq = s.Room.Anew })
	return seq
}

// remember reads what is known of a room; before anything is sent there or read, since what other processes do
// meanwhile is known to them alone.
func (r *Room) remember(ctx context.Context) (*memory, error) {
	at, err := r.c.pins.Place(ctx, r.id)
	if err != nil {
		return nil, err
	}
	m := &memory{r: r}
	if at.Anew == r.anew() {
		m.pinned = at.Seq
	}
	return m, nil
}

// acknowledged takes note of a frame that was stored at a place. ErrIntegrity when the room reached further before.
func (m *memory) acknowledged(ctx context.Context, f flight, place uint64) error {
	if place <= m.pinned {
		return fmt.Errorf("room %s: %w: %w: this message was stored at place %d, and the room reached to place %d before", m.r.Subject(), ErrIntegrity, ErrMessagesRolledBack, place, m.pinned)
	}
	if len(f.told) > 0 {
		if err := m.r.c.pins.Told(ctx, m.r.id, f.told); err != nil {
			return err
		}
	}
	if place > m.place {
		m.place, m.frame = place, f.frame
	}
	m.stream = f.mark
	m.stream.Place = place
	m.dirty = true
	return nil
}

// write remembers what it knows.
func (m *memory) write(ctx context.Context) error {
	if !m.dirty {
		return nil
	}
	m.dirty = false
	if m.stream.Frames > 0 {
		if err := m.r.c.pins.Stored(ctx, m.r.id, m.stream); err != nil {
			return err
		}
	}
	return m.r.c.pins.Reached(ctx, m.r.id, m.r.anew(), m.place, sha256.Sum256(m.frame))
}
