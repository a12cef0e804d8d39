package writer

import (
	"cmp"
	"context"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/room"
)

// send makes frames of what waits in the outbox until the stream ends, the last with the mark that it does. It is one of the
// stream's two goroutines; what it sends goes on to collect, the other.
func (p *Stream) send() {
	defer close(p.inFlight)
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for p.busy || p.failed == nil && p.out.Waiting() == 0 && !p.closing {
			p.wake.Wait()
		}
		if p.failed != nil {
			return
		}
		var flags byte
		if p.closing {
			flags = crypto.FlagFinal
			if p.out.Waiting() == 0 && p.seal.counter == 0 {
				return // nothing was ever sent: there is no stream to end
			}
		}
		if err := p.sendFrame(flags); err != nil || flags != 0 {
			return
		}
	}
}

// sendFrame seals and sends what waits as one frame. p.mu is held, but not while it works; busy keeps
// others from sending meanwhile.
func (p *Stream) sendFrame(flags byte) error {
	content, messages := p.out.Take()
	if flags&crypto.FlagMore != 0 {
		messages-- // it is whole with its last piece
	}
	p.sent += uint64(messages)
	p.busy = true
	p.wake.Broadcast()
	for p.resending && p.failed == nil { // what is stored out of its order looks lost for a while
		p.wake.Wait()
	}
	p.mu.Unlock()
	f, err := p.seal.frame(p.ctx, content, flags, messages)
	if err == nil {
		err = f.transmit(p)
	}
	if err == nil {
		select {
		case p.inFlight <- f:
		case <-p.ctx.Done():
			err = p.ctx.Err()
		}
	}
	p.mu.Lock()
	p.out.SetMost(messagesPerFrame(&p.r.Ledger().Policy)) // the policy may have changed
	p.busy = false
	if err != nil && p.failed == nil {
		p.failed = err // collect ends the rest, when it has the acknowledgements of what is on its way
	}
	p.wake.Broadcast()
	return err
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
		case f, ok := <-p.inFlight:
			if !ok {
				failed := p.failure()
				err := reach.End(context.WithoutCancel(p.ctx), failed == nil)
				if err = cmp.Or(failed, err); err != nil {
					p.end(err)
				}
				return
			}
			place, err := f.await(p)
			if err == nil && place > 0 {
				err = reach.Acknowledged(p.ctx, &f.Sent, place)
			}
			p.mu.Lock()
			p.countAcked(&f, err)
			p.wake.Broadcast()
			p.mu.Unlock()
		case <-write.C:
			if err := reach.Write(p.ctx); err != nil {
				p.end(err)
			}
		}
	}
}

// countAcked counts a frame's messages if it was acknowledged and every one before it was: whoever goes on behind the
// first so many messages leaves none out. p.mu is held.
func (p *Stream) countAcked(f *flight, err error) {
	if err != nil {
		p.missed = true
		p.fail(err)
		return
	}
	p.stored = f.stored // which may have changed since it was sealed
	if !p.missed {
		p.acked += uint64(f.messages)
	}
	p.resending = p.resending && len(p.inFlight) > 0
}

// fail ends the publisher with its first error; p.mu is held.
func (p *Stream) fail(err error) {
	if p.failed == nil {
		p.failed = err
	}
	p.cancel()
}
