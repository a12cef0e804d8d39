package writer

import (
	"errors"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/tasks"
)

// flight is a frame on its way. send transmits it for the first time; collect awaits its acknowledgement, and transmits it
// again until there is one, the client may not write any more, or patience.GiveUp is over.
type flight struct {
	room.Sent
	stored   bool   // by the room's stream, which acknowledges it
	id       string // under which a stream stores the frame once, however often it is sent
	messages int    // that end in it
	ack      bus.Ack
}

// transmit sends a frame, for the first time or again.
func (f *flight) transmit(p *Stream) error {
	if !f.stored {
		f.ack = p.w.Conn.Publish(p.r.ID, f.Frame)
		return nil
	}
	if err := p.reach.Sending(p.ctx, &f.Sent); err != nil {
		return err
	}
	f.ack = p.w.Conn.Store(p.r.ID, f.id, f.Frame)
	return nil
}

// await gets the frame acknowledged, and returns its place in the room's stream, 0 where there is none. In a stored room
// the same frame may be sent any number of times: its id keeps the stream from storing it twice. That the stream knows the
// id of a frame that was sent only once says that somebody else has used it: the frame is not stored, and goes out under
// another.
func (f *flight) await(p *Stream) (place uint64, err error) {
	sent := 1
	deadline := time.Now().Add(max(patience.GiveUp, p.w.Timeout))
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		place, err = f.ack.Wait(p.ctx)
		switch {
		case err == nil, errors.Is(err, bus.ErrDuplicate) && sent > 1:
			return place, nil
		case p.ctx.Err() != nil:
			return 0, p.ctx.Err()
		case p.w.Refused() != nil:
			return 0, p.w.Refused()
		case p.failure() != nil:
			return 0, err
		}
		p.mu.Lock()
		p.unacked, p.resending = err, true
		p.mu.Unlock()
		if time.Now().After(deadline) {
			return 0, givenUp(p.r.Subject(), err)
		}
		if refused := p.w.Conn.Refused(p.r.ID); refused != nil { // by a server that knows of a change before us
			if err := p.r.Sync(p.ctx); err != nil {
				return 0, err
			}
			if _, _, err := p.r.Writing(p.ctx); err != nil {
				return 0, err
			}
			f.stored = p.r.Ledger().Policy.Stored() // the right to publish follows the room's policy
		}
		if err := tasks.Pause(p.ctx, wait); err != nil {
			return 0, err
		}
		if sent++; errors.Is(err, bus.ErrDuplicate) {
			f.id, sent = newMessageID(), 1
		}
		if err := f.transmit(p); err != nil {
			return 0, err
		}
	}
}

// givenUp is the error of a frame that is not sent again, after the last one.
func givenUp(subject string, last error) error {
	err := fmt.Errorf("publish to %s: %w", subject, last)
	if errors.Is(err, bus.ErrNoStream) {
		err = remedy.With(err, remedy.Remedy{Kind: remedy.LookAtStream})
	}
	return err
}
