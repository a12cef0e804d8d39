package writer

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/tasks"
)

// flight is a frame on its way.
type flight struct {
	room.Sent
	stored   bool   // by the room's stream, which acknowledges it
	id       string // under which a stream stores the frame once, however often it is sent
	messages int    // that end in it
	ack      bus.Ack
}

// send makes frames of what waits until the end.
func (p *Stream) send() {
	defer close(p.flying)
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for p.busy || p.failed == nil && (p.split || p.out.Waiting() == 0 && !p.closing) {
			p.wake.Wait()
		}
		if p.failed != nil {
			return
		}
		var flags byte
		if p.closing {
			flags = crypto.FlagFinal
			if p.out.Waiting() == 0 && p.counter == 0 {
				return // nothing was ever sent: there is no stream to end
			}
		}
		if err := p.launch(flags); err != nil || flags != 0 {
			return
		}
	}
}

// launch seals and sends what waits as one frame. p.mu is held, but not while it works; busy keeps
// others from launching meanwhile.
func (p *Stream) launch(flags byte) error {
	counter := p.counter
	content, messages := p.out.Take()
	if flags&crypto.FlagMore != 0 {
		messages-- // it is whole with its last piece
	}
	p.sent += uint64(messages)
	p.counter++
	p.busy = true
	p.wake.Broadcast()
	for p.again && p.failed == nil { // what is stored out of its order looks lost for a while
		p.wake.Wait()
	}
	p.mu.Unlock()
	f, err := p.seal(content, flags, counter, messages)
	if err == nil {
		f.messages = messages
		f.ack, err = p.transmit(&f)
	}
	if err == nil {
		select {
		case p.flying <- f:
		case <-p.ctx.Done():
			err = p.ctx.Err()
		}
	}
	p.mu.Lock()
	p.out.SetMost(together(&p.r.Ledger().Policy)) // the policy may have changed
	p.busy = false
	if err != nil && p.failed == nil {
		p.failed = err // collect ends the rest, when it has the acknowledgements of what is on its way
	}
	p.wake.Broadcast()
	return err
}

// seal makes a frame, after a look at the log.
func (p *Stream) seal(content []byte, flags byte, counter uint64, messages int) (flight, error) {
	if counter > 0 {
		if err := p.prepare(); err != nil {
			return flight{}, err
		}
	}
	h, key, err := p.r.Writing(p.ctx)
	if err != nil {
		return flight{}, err
	}
	now := uint64(p.r.Now().UnixMicro())
	if stored := p.r.Ledger().Policy.Stored(); stored != p.stored || now+uint64(clockBack.Microseconds()) < p.sealed {
		counter = p.begin(stored)
		p.sealed = 0
	}
	p.sealed = max(p.sealed, now)
	var follows []crypto.Follows
	if counter == 0 && p.stored {
		if follows, err = p.r.Pins.Streams.Untold(p.ctx, p.r.ID, p.stream); err != nil {
			return flight{}, err
		}
	}
	content, told := p.out.Finish(content, p.sealed, follows)
	if told > 0 {
		flags |= crypto.FlagFollows
	}
	h.Stream, h.Counter, h.Flags = p.stream, counter, flags
	frame := make([]byte, 0, len(content)+crypto.FrameOverhead)
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	frame, err = p.r.Identity.SealFrame(frame, p.r.ID, key, h, content, seed)
	if err != nil {
		return flight{}, err
	}
	p.r.Used.Add(h.Epoch, messages)
	mark := crypto.Follows{Stream: p.stream, Frames: counter + 1, At: h.At, Sealed: p.sealed}
	return flight{Sent: room.Sent{Frame: frame, Mark: mark, Told: follows[:told]}, stored: p.stored, id: newMessageID()}, nil
}

// begin goes on with a stream of its own in a room that has begun, or has ceased, to store messages, since readers
// check the two differently, and with a clock that was set back. Only whoever has made p busy calls it.
func (p *Stream) begin(stored bool) (counter uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counter > 1 { // the frame at hand is not the first
		p.stream = newID()
		p.counter = 1
	}
	p.stored = stored
	return p.counter - 1
}

// newMessageID makes an id that nobody can use up beforehand: ids are a stream's, not a sender's.
func newMessageID() string {
	id := newID()
	return hex.EncodeToString(id[:])
}

func newID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // it never fails: it ends the process instead
	return id
}

// transmit sends a frame, for the first time or again.
func (p *Stream) transmit(f *flight) (bus.Ack, error) {
	if !f.stored {
		return p.w.Conn.Publish(p.r.ID, f.Frame), nil
	}
	if err := p.reach.Sending(p.ctx, &f.Sent); err != nil {
		return bus.Ack{}, err
	}
	return p.w.Conn.Store(p.r.ID, f.id, f.Frame), nil
}

// prepare confirms the head of the log when it has not been for a while.
func (p *Stream) prepare() error {
	if err := p.w.Follow(p.ctx); err != nil {
		return err
	}
	if p.r.Log.Confirmed() {
		return room.Changes{Room: p.r}.Renew(p.ctx)
	}
	if err := errors.Join(p.r.Bus.Sync(p.ctx), p.r.Sync(p.ctx)); err != nil {
		return err
	}
	return fresh(p.ctx, p.r)
}

// failure is why no more frames are made; nil while they are.
func (p *Stream) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// collect waits for the acknowledgements, in order, and sends again what got none: not any more once it is known that
// the publisher fails, but what is on its way then is waited for, so that it can say how far it came.
func (p *Stream) collect() {
	reach := p.reach
	write := time.NewTicker(room.RememberEvery)
	defer write.Stop()
	for {
		select {
		case f, ok := <-p.flying:
			if !ok {
				failed := p.failure()
				err := reach.End(context.WithoutCancel(p.ctx), failed == nil)
				if err = cmp.Or(failed, err); err != nil {
					p.end(err)
				}
				return
			}
			place, err := p.awaitAck(f)
			if err == nil && place > 0 {
				err = reach.Acknowledged(p.ctx, &f.Sent, place)
			}
			p.mu.Lock()
			p.account(&f, err)
			p.wake.Broadcast()
			p.mu.Unlock()
		case <-write.C:
			if err := reach.Write(p.ctx); err != nil {
				p.end(err)
			}
		}
	}
}

// account counts a frame's messages if it was acknowledged and every one before it was: whoever goes on behind the
// first so many messages leaves none out. p.mu is held.
func (p *Stream) account(f *flight, err error) {
	if err != nil {
		p.missed = true
		p.fail(err)
		return
	}
	if !p.missed {
		p.acked += uint64(f.messages)
	}
	p.again = p.again && len(p.flying) > 0
}

// awaitAck gets one frame acknowledged. In a stored room the same frame may be sent any number of
// times: its id keeps the stream from storing it twice. That the stream knows the id of a frame that was
// sent once says that somebody else has used it: the frame is not stored, and goes out under another.
func (p *Stream) awaitAck(f flight) (place uint64, err error) {
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
		p.unacked, p.again = err, true
		p.mu.Unlock()
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("publish to %s: %w", p.r.Subject(), err)
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
		if f.ack, err = p.transmit(&f); err != nil {
			return 0, err
		}
	}
}

// fail ends the publisher with its first error; p.mu is held.
func (p *Stream) fail(err error) {
	if p.failed == nil {
		p.failed = err
	}
	p.cancel()
}
