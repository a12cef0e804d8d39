package unibus

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/outbox"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/tasks"
)

const (
	// MaxMessage is the most bytes a message may have, headers included.
	MaxMessage = 64 << 20

	maxHeaders  = 64 << 10           // bytes of a message's headers
	inFlight    = inbox.InFlight - 2 // frames sent that wait for their acknowledgement behind the first; one more is being sent
	payloadRoom = 512                // of NATS's max_payload, for NATS headers
	clockBack   = time.Minute        // that a clock may be behind the last seal time within a stream
)

// ErrClosed says that a publisher was used after Close.
var ErrClosed = errors.New("publisher is closed")

// Publisher sends one stream of messages to a room, in order. Messages that are waiting go into
// one frame; a lone one goes at once. It is safe for concurrent use, and holds at most 32 frames.
type Publisher struct {
	r      *Room
	stream [16]byte
	stored bool
	sealed uint64 // when the last frame was, in Unix µs
	most   int    // bytes of a message
	memory *memory

	mu      sync.Mutex
	wake    sync.Cond // room in the outbox, something in it, or an end
	out     *outbox.Outbox
	closing bool
	failed  error
	unacked error  // why the last try to have a frame stored failed
	sent    uint64 // messages in frames made so far
	acked   uint64 // messages acknowledged
	counter uint64
	busy    bool // a frame is being made or sent
	again   bool // frames are being sent again, which those behind them wait for
	split   bool // a message is being sent in pieces, which nothing may come between

	flying chan flight
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// flight is a frame on its way.
type flight struct {
	stored   bool   // by the room's stream, which acknowledges it
	id       string // under which a stream stores the frame once, however often it is sent
	frame    []byte
	messages int              // that end in it
	mark     crypto.Follows   // its stream, up to it; the place comes with the acknowledgement
	told     []crypto.Follows // of other streams, in it
	ack      bus.Ack
	sent     bool // before; and how far the room was known to reach then
	after    uint64
}

// Publisher begins a stream in the room. It fails with ErrDenied when this client may not write.
// A stale room is rekeyed first if the client may. Close ends it.
func (r *Room) Publisher(ctx context.Context) (*Publisher, error) {
	c := r.c
	if c.conn == nil {
		return nil, withHint(fmt.Errorf("publish: %w: messages need a server", ErrInvalid), "leave out --store")
	}
	// What the first frame needs is fetched side by side: the bus log, the key, the connection.
	var ready sync.WaitGroup
	var synced error
	ready.Go(func() { synced = c.bus.confirm(ctx) })
	ready.Go(func() { _, _, _ = r.sealing(ctx) }) // into the keyring; a failure is met again below
	granted := c.conn.Grant(ctx, r.id)
	ready.Wait()
	if err := errors.Join(synced, granted); err != nil {
		return nil, err
	}
	_, err := r.Freshen(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.aging(ctx); err != nil {
		return nil, err
	}
	if _, _, err := r.sealing(ctx); err != nil {
		return nil, err
	}
	policy := r.Info().Policy
	p := &Publisher{
		r: r, stream: [16]byte(random[[16]byte]()), stored: policy.Stored(), flying: make(chan flight, inFlight),
		most: mostOf(policy),
		out:  outbox.New(min(crypto.MaxFrame, c.conn.MaxPayload()-payloadRoom, mostOf(policy)), policy.Pad),
	}
	if p.out.Limit() < outbox.MinLimit {
		return nil, fmt.Errorf("publish: %w: a frame does not fit into what the server takes (max_payload, %d bytes), or into half of what the room keeps (--max-bytes)", ErrInvalid, c.conn.MaxPayload())
	}
	p.out.SetMost(r.together())
	if p.memory, err = r.remember(ctx); err != nil {
		return nil, err
	}
	p.wake.L = &p.mu
	p.ctx, p.cancel = context.WithCancel(c.ctx)
	p.wait.Go(p.send)
	p.wait.Go(p.collect)
	context.AfterFunc(p.ctx, func() { p.end(ErrClosed) })
	if !c.wait.Go(p.wait.Wait) { // Close waits for the publisher too
		p.cancel()
		return nil, fmt.Errorf("publish: %w", ErrClosed)
	}
	r.smu.Lock()
	r.pubs[p] = true
	r.smu.Unlock()
	return p, nil
}

// mostOf is how many bytes a message, and a frame, may have in a room. One that keeps no more than so many bytes has
// always half of them when something has expired, which tells that from a loss (SPEC.md §6): nothing is larger than
// that half.
func mostOf(p Policy) int {
	if !p.Stored() || p.Retain.Bytes == 0 {
		return MaxMessage
	}
	return int(min(p.Retain.Bytes/2, MaxMessage))
}

// end stops the publisher for a reason.
func (p *Publisher) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail(err)
	p.wake.Broadcast()
}

// aging rekeys a room whose epoch has outlived its policy, if this client may; if not it warns, once an epoch, and
// refuses past a quarter more (SPEC.md §6).
func (r *Room) aging(ctx context.Context) error {
	room := r.room()
	epoch := room.Epoch().Number
	age, manages := room.Ageing(r.c.now(), r.used.of(epoch)), room.Role(r.c.id.Key()).Manages()
	switch {
	case age == ledger.Fresh:
		return nil
	case manages:
		return r.Rekey(ctx)
	case age == ledger.Overdue:
		return withHint(fmt.Errorf("room %s: %w: its key is older, or was used more, than the room's policy allows", r.Subject(), ErrDenied),
			"an owner or admin renews it: unibus rekey %s", r.Subject())
	case r.used.warn(epoch):
		r.c.say("the key of %s is due to be renewed by an owner or admin: unibus rekey %s", r.Subject(), r.Subject())
	}
	return nil
}

// together is how many messages go into a frame at most, 0 for as many as fit: the age of a key is looked at once a
// frame, and where it is told in messages a frame is to be a small part of it.
func (r *Room) together() (messages int) {
	policy := &r.room().Policy
	if after := policy.RekeyAfter.Messages; after > 0 && policy.Encrypted() {
		return int(max(after/8, 1))
	}
	return 0
}

// usage counts the messages of a room's newest epoch that this process has sent or read.
type usage struct {
	mu       sync.Mutex
	epoch    uint32
	messages uint64
	warned   uint32
}

// add counts messages of an epoch.
func (u *usage) add(epoch uint32, messages int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if epoch > u.epoch {
		u.epoch, u.messages = epoch, 0
	}
	if epoch == u.epoch {
		u.messages += uint64(messages)
	}
}

// of returns how many there were of an epoch.
func (u *usage) of(epoch uint32) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if epoch != u.epoch {
		return 0
	}
	return u.messages
}

// warn reports whether an epoch's age is to be told: once.
func (u *usage) warn(epoch uint32) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	first := u.warned != epoch
	u.warned = epoch
	return first
}

// sealing returns what a frame made now must say of the log, and the key to seal it with, after
// making sure that this client may write.
func (r *Room) sealing(ctx context.Context) (crypto.Header, *crypto.FrameKey, error) {
	me, s := r.c.id.Key(), r.state()
	h := crypto.Header{Epoch: s.Room.Epoch().Number, At: s.Head.Seq, Head: [16]byte(s.Head.Hash[:16])}
	role := s.Room.Role(me)
	frozen := r.isFrozen()
	switch {
	case frozen != nil:
		return h, nil, frozen
	case role == "":
		return h, nil, r.readable()
	case !role.Writes():
		return h, nil, withHint(fmt.Errorf("room %s: %w: you are a reader", r.Subject(), ErrDenied),
			"an owner can change that: unibus role %s %s member", r.Subject(), r.c.nameOf(me))
	case s.Room.Archived != 0:
		return h, nil, fmt.Errorf("room %s: %w: it is archived", r.Subject(), ErrDenied)
	case !r.c.active(me):
		return h, nil, r.c.explain(ErrDenied)
	case !s.Room.Policy.Encrypted():
		return h, nil, nil
	}
	key, err := r.keys.frameKey(ctx, s.Room.Epochs, h.Epoch)
	if errors.Is(err, errNoKey) {
		err = withHint(fmt.Errorf("room %s: %w", r.Subject(), err), "an owner or admin hands out a new one: unibus rekey %s", r.Subject())
	}
	return h, key, err
}

// Publish hands a message over; it is on its way when Publish returns, and waits only while the
// frames under way are as many as may be. Body and headers may be reused afterwards. An error of
// an earlier message is returned by every later call.
func (p *Publisher) Publish(body []byte, headers ...Header) error {
	if err := check(body, headers); err != nil {
		return err
	}
	if len(body) > p.most {
		return fmt.Errorf("publish: %w: %d bytes are too many for this room: of what it keeps (--max-bytes) one message takes at most half, %d bytes", ErrInvalid, len(body), p.most)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.out.Fits(headers, body) {
		return p.pieces(body, headers)
	}
	for p.failed == nil && !p.closing && (p.split || !p.out.Takes(headers, body)) {
		p.wake.Wait()
	}
	if err := p.usable(); err != nil {
		return err
	}
	p.out.Add(headers, body)
	p.wake.Broadcast()
	return nil
}

// check refuses a message that no reader would take.
func check(body []byte, headers []Header) error {
	size := crypto.RecordSize(headers, 0)
	if size > maxHeaders {
		return fmt.Errorf("publish: %w: headers of more than %d bytes", ErrInvalid, maxHeaders)
	}
	if size+len(body) > MaxMessage {
		return fmt.Errorf("publish: %w: a message has at most %d bytes", ErrInvalid, MaxMessage)
	}
	for _, h := range headers {
		if !utf8.ValidString(h.Key) || !utf8.ValidString(h.Value) {
			return fmt.Errorf("publish: %w: headers are UTF-8", ErrInvalid)
		}
	}
	return nil
}

func (p *Publisher) usable() error {
	if p.failed != nil {
		return p.failed
	}
	if p.closing {
		return ErrClosed
	}
	return nil
}

// pieces sends a message that no frame holds as several, each but the last to be continued.
func (p *Publisher) pieces(body []byte, headers []Header) error {
	for p.failed == nil && !p.closing && (p.split || p.out.Waiting() > 0 || p.busy) {
		p.wake.Wait()
	}
	if err := p.usable(); err != nil {
		return err
	}
	p.split = true
	defer func() {
		p.split = false
		p.wake.Broadcast()
	}()
	for more := true; more; more = len(body) > 0 {
		rest, ok := p.out.AddPiece(headers, body)
		if !ok { // headers stay in one frame
			return fmt.Errorf("publish: %w: headers of more than %d bytes do not go through this server (max_payload)", ErrInvalid, p.out.MaxHeaders())
		}
		flags := byte(crypto.FlagMore)
		if len(rest) == 0 {
			flags = 0
		}
		if err := p.launch(flags); err != nil {
			return err
		}
		body, headers = rest, nil
	}
	return nil
}

// send makes frames of what waits until the end.
func (p *Publisher) send() {
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
func (p *Publisher) launch(flags byte) error {
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
	p.out.SetMost(p.r.together()) // the policy may have changed
	p.busy = false
	if err != nil && p.failed == nil {
		p.failed = err // collect ends the rest, when it has the acknowledgements of what is on its way
	}
	p.wake.Broadcast()
	return err
}

// seal makes a frame, after a look at the log.
func (p *Publisher) seal(content []byte, flags byte, counter uint64, messages int) (flight, error) {
	if counter > 0 {
		if err := p.prepare(); err != nil {
			return flight{}, err
		}
	}
	h, key, err := p.r.sealing(p.ctx)
	if err != nil {
		return flight{}, err
	}
	now := uint64(p.r.c.now().UnixMicro())
	if stored := p.r.stores(); stored != p.stored || now+uint64(clockBack.Microseconds()) < p.sealed {
		counter = p.begin(stored)
		p.sealed = 0
	}
	p.sealed = max(p.sealed, now)
	var follows []crypto.Follows
	if counter == 0 && p.stored {
		if follows, err = p.r.c.pins.Streams(p.ctx, p.r.id, p.stream); err != nil {
			return flight{}, err
		}
	}
	content, told := p.out.Finish(content, p.sealed, follows)
	if told > 0 {
		flags |= crypto.FlagFollows
	}
	h.Stream, h.Counter, h.Flags = p.stream, counter, flags
	frame := make([]byte, 0, len(content)+crypto.FrameOverhead)
	frame, err = p.r.c.id.SealFrame(frame, p.r.id, key, h, content, [32]byte(random[[32]byte]()))
	if err != nil {
		return flight{}, err
	}
	p.r.used.add(h.Epoch, messages)
	mark := crypto.Follows{Stream: p.stream, Frames: counter + 1, At: h.At, Sealed: p.sealed}
	return flight{stored: p.stored, id: newMessageID(), frame: frame, mark: mark, told: follows[:told]}, nil
}

// stores reports whether the room stores messages, by its log.
func (r *Room) stores() bool { return r.room().Policy.Stored() }

// begin goes on with a stream of its own in a room that has begun, or has ceased, to store messages, since readers
// check the two differently, and with a clock that was set back. Only whoever has made p busy calls it.
func (p *Publisher) begin(stored bool) (counter uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counter > 1 { // the frame at hand is not the first
		p.stream = [16]byte(random[[16]byte]())
		p.counter = 1
	}
	p.stored = stored
	return p.counter - 1
}

// newMessageID makes an id that nobody can use up beforehand: ids are a stream's, not a sender's.
func newMessageID() string { return hex.EncodeToString(random[[16]byte]()) }

// transmit sends a frame, for the first time or again.
func (p *Publisher) transmit(f *flight) (bus.Ack, error) {
	if !f.stored {
		return p.r.c.conn.Publish(p.r.id, f.frame), nil
	}
	if err := p.memory.sending(p.ctx, f); err != nil {
		return bus.Ack{}, err
	}
	return p.r.c.conn.Store(p.r.id, f.id, f.frame), nil
}

// prepare confirms the head of the log when it has not been for a while.
func (p *Publisher) prepare() error {
	c := p.r.c
	if err := c.watch(p.ctx); err != nil {
		return err
	}
	if p.r.log.Confirmed() {
		return p.r.aging(p.ctx)
	}
	if err := errors.Join(c.bus.sync(p.ctx), p.r.sync(p.ctx)); err != nil {
		return err
	}
	if _, err := p.r.Freshen(p.ctx); err != nil {
		return err
	}
	return p.r.aging(p.ctx)
}

// failure is why no more frames are made; nil while they are.
func (p *Publisher) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// collect waits for the acknowledgements, in order, and sends again what got none: not any more once it is known that
// the publisher fails, but what is on its way then is waited for, so that it can say how far it came.
func (p *Publisher) collect() {
	m := p.memory
	write := time.NewTicker(rememberEvery)
	defer write.Stop()
	for {
		select {
		case f, ok := <-p.flying:
			if !ok {
				failed := p.failure()
				err := m.end(context.WithoutCancel(p.ctx), failed == nil)
				if err = cmp.Or(failed, err); err != nil {
					p.end(err)
				}
				return
			}
			place, err := p.awaitAck(f)
			if err == nil && place > 0 {
				err = m.acknowledged(p.ctx, f, place)
			}
			p.mu.Lock()
			if err != nil {
				p.fail(err)
			} else {
				p.acked += uint64(f.messages)
				p.again = p.again && len(p.flying) > 0
			}
			p.wake.Broadcast()
			p.mu.Unlock()
		case <-write.C:
			if err := m.write(p.ctx); err != nil {
				p.end(err)
			}
		}
	}
}

// awaitAck gets one frame acknowledged. In a stored room the same frame may be sent any number of
// times: its id keeps the stream from storing it twice. That the stream knows the id of a frame that was
// sent once says that somebody else has used it: the frame is not stored, and goes out under another.
func (p *Publisher) awaitAck(f flight) (place uint64, err error) {
	c, room, sent := p.r.c, p.r.id, 1
	deadline := time.Now().Add(max(patience.GiveUp, c.o.Timeout))
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		place, err = f.ack.Wait(p.ctx)
		switch {
		case err == nil, errors.Is(err, bus.ErrDuplicate) && sent > 1:
			return place, nil
		case p.ctx.Err() != nil:
			return 0, p.ctx.Err()
		case c.refused() != nil:
			return 0, c.refused()
		case p.failure() != nil:
			return 0, err
		}
		p.mu.Lock()
		p.unacked, p.again = err, true
		p.mu.Unlock()
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("publish to %s: %w", p.r.Subject(), err)
		}
		if refused := c.conn.Refused(room); refused != nil { // by a server that knows of a change before us
			if err := p.r.sync(p.ctx); err != nil {
				return 0, err
			}
			if _, _, err := p.r.sealing(p.ctx); err != nil {
				return 0, err
			}
			f.stored = p.r.stores() // the right to publish follows the room's policy
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
func (p *Publisher) fail(err error) {
	if p.failed == nil {
		p.failed = err
	}
	p.cancel()
}

// Done is closed when the publisher can send no more: it failed, or was closed.
func (p *Publisher) Done() <-chan struct{} { return p.ctx.Done() }

// Acked is how many messages the server has acknowledged so far.
func (p *Publisher) Acked() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

// Close sends what waits, marks the stream as ended, and waits until everything is acknowledged or
// ctx ends. It returns the first error of the stream.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closing = true
	p.wake.Broadcast()
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { p.end(p.late(ctx.Err())) })
	defer stop()
	p.wait.Wait()
	p.mu.Lock()
	err := p.failed
	p.fail(ErrClosed)
	p.mu.Unlock()
	p.r.smu.Lock()
	delete(p.r.pubs, p)
	p.r.smu.Unlock()
	return p.settled(ctx, err)
}

// late is the error of whoever waits for acknowledgements no longer.
func (p *Publisher) late(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unacked != nil && errors.Is(err, context.DeadlineExceeded) {
		err = p.unacked
	}
	return fmt.Errorf("publish to %s: %w", p.r.Subject(), err)
}

// settled ends a wait for acknowledgements; a live room has none, but a server that took everything.
func (p *Publisher) settled(ctx context.Context, err error) error {
	if err == nil {
		err = ctx.Err()
	}
	p.mu.Lock()
	stored := p.stored
	p.mu.Unlock()
	if err == nil && !stored {
		err = p.r.c.conn.Flush(ctx, p.r.id)
	}
	return err
}

// Flush waits until everything handed over so far is acknowledged.
func (p *Publisher) Flush(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.wake.Broadcast()
	})
	defer stop()
	p.mu.Lock()
	for p.failed == nil && ctx.Err() == nil && (p.out.Waiting() > 0 || p.busy || p.sent > p.acked) {
		p.wake.Wait()
	}
	err := p.failed
	p.mu.Unlock()
	return p.settled(ctx, err)
}

// Publish sends one message on the client's lasting stream in the room and waits until it is
// acknowledged. For many messages, Publisher is much faster.
func (r *Room) Publish(ctx context.Context, body []byte, headers ...Header) error {
	p, err := r.lasting(ctx)
	if err != nil {
		return err
	}
	if err := p.Publish(body, headers...); err != nil {
		return err
	}
	return p.Flush(ctx)
}

// lasting is the publisher behind Publish, made anew after a failure.
func (r *Room) lasting(ctx context.Context) (*Publisher, error) {
	r.smu.Lock()
	p := r.pub
	r.smu.Unlock()
	if p != nil {
		p.mu.Lock()
		usable := p.usable()
		p.mu.Unlock()
		if usable == nil {
			return p, nil
		}
	}
	fresh, err := r.Publisher(ctx)
	if err != nil {
		return nil, err
	}
	r.smu.Lock()
	defer r.smu.Unlock()
	if r.pub != p { // someone else was quicker
		fresh.cancel()
		return r.pub, nil
	}
	r.pub = fresh
	return fresh, nil
}

// PublishOnce sends one message as a stream of its own, in a single frame if it fits, and waits
// until it is acknowledged: what a command that sends one message and ends needs.
func (r *Room) PublishOnce(ctx context.Context, body []byte, headers ...Header) error {
	p, err := r.Publisher(ctx)
	if err != nil {
		return err
	}
	if err := check(body, headers); err != nil {
		return errors.Join(err, p.Close(ctx))
	}
	if p.out.Fits(headers, body) {
		p.mu.Lock()
		p.out.Add(headers, body)
		p.closing = true // in one step: the frame is known to be the last
		p.mu.Unlock()
		return p.Close(ctx)
	}
	err = p.Publish(body, headers...)
	return errors.Join(err, p.Close(ctx))
}
