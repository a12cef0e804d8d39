// Package writer sends messages into rooms: what waits becomes frames, sealed and signed, each sent until it is
// acknowledged (SPEC.md §6).
//
// What it promises: messages of a stream are stored in the order in which they were handed over, each once, and none is
// counted as acknowledged unless all before it are. A frame is made under the log and the key as they are then, and none
// when this client may not write any more. It leaves to others how messages are put into frames (package outbox), and
// knows nothing of who reads them.
//
// A Stream has two goroutines: one makes frames of what waits and sends them, the other takes the acknowledgements in
// order and sends again what got none.
package writer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/outbox"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

const (
	maxHeaders  = 64 << 10               // bytes of a message's headers
	maxInFlight = crypto.MaxInFlight - 2 // frames sent, and behind the one whose acknowledgement is waited for; one more is on its way
	payloadRoom = 512                    // of NATS's max_payload, for NATS headers
	clockBack   = time.Minute            // that a clock may be behind the last seal time within a stream
)

// ErrClosed says that a stream was used after Close.
var ErrClosed = errors.New("publisher is closed")

// Writer is what all streams of a client have in common.
type Writer struct {
	Conn    *bus.Conn
	Timeout time.Duration                   // for an acknowledgement, if it is longer than patience.GiveUp
	Context context.Context                 // ends with the client
	Tasks   *tasks.Group                    // waited for by the client
	Refused func() error                    // why the bus ended the connection for good; nil while it has not
	Follow  func(ctx context.Context) error // has logs followed from now on
}

// Stream is one stream of messages to a room, in order. Messages that are waiting go into one frame; a lone one goes at
// once. It is safe for concurrent use, and holds at most 19 frames: one that fills, one on its way, one whose acknowledgement is
// waited for, and maxInFlight behind that.
type Stream struct {
	w          *Writer
	r          *room.Room
	maxMessage int // bytes of a message
	reach      *room.Reach
	seal       sealer // used by whoever has made the stream busy

	mu        sync.Mutex
	wake      sync.Cond // room in the outbox, something in it, or an end
	out       *outbox.Outbox
	closing   bool
	failed    error
	unacked   error  // why the last try to have a frame stored failed
	sent      uint64 // messages in frames made so far
	acked     uint64 // messages acknowledged, from the first on
	missed    bool   // a frame was not acknowledged: what was after it does not count
	stored    bool   // the room has stored what was acknowledged last
	busy      bool   // a frame is being made or sent
	resending bool   // frames are being sent again, which those behind them wait for
	split     bool   // a message is being sent in pieces, which nothing may come between

	inFlight chan flight
	ctx      context.Context
	cancel   context.CancelFunc
	wait     sync.WaitGroup
	detach   func()
}

// ID names the stream, as its frames do. It is another where readers could not check the frames as one stream.
func (p *Stream) ID() [16]byte { return *p.seal.stream.Load() }

// Begin begins a stream in a room. It fails with ErrDenied when this client may not write. A stale room is rekeyed first
// if the client may. Close ends it.
func (w *Writer) Begin(ctx context.Context, r *room.Room) (*Stream, error) {
	// What the first frame needs is fetched side by side: the bus log, the key, the connection.
	var ready sync.WaitGroup
	var synced error
	ready.Go(func() { synced = r.Bus.Confirm(ctx) })
	ready.Go(func() { _, _, _ = r.Writing(ctx) }) // for the key; a failure is met again below
	granted := w.Conn.Grant(ctx, r.ID)
	ready.Wait()
	if err := errors.Join(synced, granted); err != nil {
		return nil, cmp.Or(w.Refused(), err)
	}
	if err := renewKey(ctx, r); err != nil {
		return nil, err
	}
	if _, _, err := r.Writing(ctx); err != nil {
		return nil, err
	}
	policy := r.Ledger().Policy
	most := maxMessage(policy)
	p := &Stream{
		w: w, r: r, stored: policy.Stored(), inFlight: make(chan flight, maxInFlight), maxMessage: most,
		out: outbox.New(min(crypto.MaxFrame, w.Conn.MaxPayload()-payloadRoom, most), policy.Pad),
	}
	p.seal.w, p.seal.r, p.seal.out, p.seal.stored = w, r, p.out, p.stored
	p.seal.stream.Store(newID())
	p.seal.begun = time.Now()
	if p.out.Limit() < outbox.MinLimit {
		return nil, fmt.Errorf("publish: %w: a frame does not fit into what the server takes (max_payload, %d bytes), or into half of what the room keeps", store.ErrInvalid, w.Conn.MaxPayload())
	}
	p.out.SetMost(messagesPerFrame(&policy))
	var err error
	if p.reach, err = r.Remember(ctx); err != nil {
		return nil, err
	}
	return p, p.start()
}

// start has the stream's goroutines run, for which the client waits.
func (p *Stream) start() error {
	p.wake.L = &p.mu
	p.ctx, p.cancel = context.WithCancel(p.w.Context)
	p.wait.Go(p.send)
	p.wait.Go(p.collect)
	context.AfterFunc(p.ctx, func() { p.end(ErrClosed) })
	if !p.w.Tasks.Go(p.wait.Wait) {
		p.cancel()
		return fmt.Errorf("publish: %w", ErrClosed)
	}
	p.detach = p.r.Attach(p.end)
	return nil
}

// renewKey renews the room's key where that is due, if this client may.
func renewKey(ctx context.Context, r *room.Room) error {
	change := room.Changes{Room: r}
	if _, err := change.Freshen(ctx); err != nil {
		return err
	}
	return change.Renew(ctx)
}

// maxMessage is how many bytes a message, and a frame, may have in a room. One that keeps no more than so many bytes has
// always half of them when something has expired, which tells that from a loss (SPEC.md §6): nothing is larger than
// that half.
func maxMessage(p ledger.Policy) int {
	if !p.Stored() || p.Retain.Bytes == 0 {
		return room.MaxMessage
	}
	return int(min(p.Retain.Bytes/2, room.MaxMessage))
}

// messagesPerFrame is how many messages go into a frame at most, 0 for as many as fit: the age of a key is looked at once a
// frame, and where it is told in messages a frame is to be a small part of it.
func messagesPerFrame(p *ledger.Policy) (messages int) {
	if after := p.RekeyAfter.Messages; after > 0 && p.Encrypted() {
		return int(max(after/8, 1))
	}
	return 0
}

// end stops the stream for a reason.
func (p *Stream) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail(err)
	p.wake.Broadcast()
}

// Publish hands a message over; it is on its way when Publish returns, and waits only while the
// frames under way are as many as may be. Body and headers may be reused afterwards. An error of
// an earlier message is returned by every later call.
func (p *Stream) Publish(body []byte, headers ...crypto.Field) error {
	if err := check(body, headers); err != nil {
		return err
	}
	if len(body) > p.maxMessage {
		return fmt.Errorf("publish: %w: %d bytes are too many for this room: of what it keeps one message takes at most half, %d bytes", store.ErrInvalid, len(body), p.maxMessage)
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
func check(body []byte, headers []crypto.Field) error {
	size := crypto.RecordSize(headers, 0)
	if size > maxHeaders {
		return fmt.Errorf("publish: %w: headers of more than %d bytes", store.ErrInvalid, maxHeaders)
	}
	if size+len(body) > room.MaxMessage {
		return fmt.Errorf("publish: %w: a message has at most %d bytes", store.ErrInvalid, room.MaxMessage)
	}
	for _, h := range headers {
		if !utf8.ValidString(h.Key) || !utf8.ValidString(h.Value) {
			return fmt.Errorf("publish: %w: headers are UTF-8", store.ErrInvalid)
		}
	}
	return nil
}

// usable says why the stream takes no more messages; nil while it does. p.mu is held.
func (p *Stream) usable() error {
	if p.failed != nil {
		return p.failed
	}
	if p.closing {
		return ErrClosed
	}
	return nil
}

// pieces sends a message that no frame holds as several, each but the last to be continued.
func (p *Stream) pieces(body []byte, headers []crypto.Field) error {
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
			return fmt.Errorf("publish: %w: headers of more than %d bytes do not go through this server (max_payload)", store.ErrInvalid, p.out.MaxHeaders())
		}
		flags := byte(crypto.FlagMore)
		if len(rest) == 0 {
			flags = 0
		}
		if err := p.sendFrame(flags); err != nil {
			return err
		}
		body, headers = rest, nil
	}
	return nil
}

// Done is closed when the publisher can send no more: it failed, or was closed.
func (p *Stream) Done() <-chan struct{} { return p.ctx.Done() }

// Acked is how many messages the server has acknowledged so far, from the first on: the first that it has not
// acknowledged ends the count, whatever became of those behind it.
func (p *Stream) Acked() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

// Close sends what waits, marks the stream as ended, and waits until everything is acknowledged or
// ctx ends. It returns the first error of the stream.
func (p *Stream) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closing = true
	p.wake.Broadcast()
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { // acknowledgements are waited for no longer
		p.mu.Lock()
		unacked := p.unacked
		p.mu.Unlock()
		p.end(fmt.Errorf("publish to %s: %w", p.r.Subject(), gaveUp(ctx.Err(), unacked)))
	})
	defer stop()
	p.wait.Wait()
	p.mu.Lock()
	err := p.failed
	p.fail(ErrClosed)
	p.mu.Unlock()
	p.detach()
	return outcome(ctx, p, err)
}

// gaveUp is why whoever gives up waiting for acknowledgements has none: their time is over, and then what kept the last frame
// from being stored, or they were called off.
func gaveUp(err, unacked error) error {
	if unacked != nil && errors.Is(err, context.DeadlineExceeded) {
		return unacked
	}
	return err
}

// outcome ends a wait for acknowledgements; a live room has none, but a server that took everything.
func outcome(ctx context.Context, p *Stream, err error) error {
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && !p.Stored() {
		err = p.w.Conn.Flush(ctx, p.r.ID)
	}
	return err
}

// Flush waits until everything handed over so far is acknowledged.
func (p *Stream) Flush(ctx context.Context) error {
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
	return outcome(ctx, p, err)
}

// Stored reports whether the room has stored what was acknowledged last; before anything was, whether it is to store it.
func (p *Stream) Stored() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stored
}

// Usable reports whether the stream takes messages still.
func (p *Stream) Usable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.usable() == nil
}

// Once sends one message as all of the stream, in a single frame if it fits, and waits until it is acknowledged.
func (p *Stream) Once(ctx context.Context, body []byte, headers ...crypto.Field) error {
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
	err := p.Publish(body, headers...)
	return errors.Join(err, p.Close(ctx))
}

// Discard ends a stream in which nothing was sent.
func (p *Stream) Discard() {
	p.detach()
	p.cancel()
}
