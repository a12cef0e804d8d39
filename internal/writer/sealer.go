package writer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync/atomic"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/outbox"
	"github.com/unibus/unibus/internal/room"
)

// sealer makes the frames of a stream, one at a time: it asks the room's log what a frame has to say and under which key,
// and signs it. Where readers could not check the frames as one stream it goes on with another, under a new id.
type sealer struct {
	w   *Writer
	r   *room.Room
	out *outbox.Outbox

	stream   atomic.Pointer[[16]byte] // read by anybody
	counter  uint64                   // of the next frame
	stored   bool                     // the room stores the stream's frames
	sealed   uint64                   // when the last frame was, in Unix µs
	looked   [2]*ledger.State         // the logs of the bus and of the room when it was last seen whether the key is stale
	expiry   time.Time                // when one of the members is no longer to have the key, as these logs say; zero: never
	begun    time.Time                // when the logs were asked for, before there was anything to send
	followed bool                     // the logs are followed since they were asked for last
}

// maxIdle is how long after a stream began its first frame believes what the logs said then: who publishes one message, at
// once, asks no more than once.
const maxIdle = time.Second

// frame makes a frame of content, in which so many messages end, after a look at the log.
func (s *sealer) frame(ctx context.Context, content []byte, flags byte, messages int) (flight, error) {
	if s.counter > 0 || s.followed || time.Since(s.begun) > maxIdle {
		if err := s.confirm(ctx); err != nil {
			return flight{}, err
		}
	}
	h, key, err := s.r.Writing(ctx)
	if err != nil {
		return flight{}, err
	}
	now := uint64(s.r.Now().UnixMicro())
	if stored := s.r.Ledger().Policy.Stored(); stored != s.stored || now+uint64(clockBack.Microseconds()) < s.sealed {
		s.begin(stored)
	}
	s.sealed = max(s.sealed, now)
	var follows []crypto.Follows
	if s.counter == 0 && s.stored {
		if follows, err = s.r.Pins.Streams.Untold(ctx, s.r.ID, *s.stream.Load()); err != nil {
			return flight{}, err
		}
	}
	content, told := s.out.Finish(content, s.sealed, follows)
	if told > 0 {
		flags |= crypto.FlagFollows
	}
	h.Stream, h.Counter, h.Flags = *s.stream.Load(), s.counter, flags
	frame := make([]byte, 0, len(content)+crypto.FrameOverhead)
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	frame, err = s.r.Identity.SealFrame(frame, s.r.ID, key, h, content, seed)
	if err != nil {
		return flight{}, err
	}
	s.r.Used.Add(h.Epoch, messages)
	mark := crypto.Follows{Stream: h.Stream, Frames: s.counter + 1, At: h.At, Sealed: s.sealed}
	s.counter++
	return flight{Sent: room.Sent{Frame: frame, Mark: mark, Told: follows[:told]}, stored: s.stored, id: newMessageID(), messages: messages}, nil
}

// begin goes on with a stream of its own in a room that has begun, or has ceased, to store messages, since readers
// check the two differently, and with a clock that was set back.
func (s *sealer) begin(stored bool) {
	if s.counter > 0 {
		s.stream.Store(newID())
		s.counter = 0
	}
	s.stored, s.sealed = stored, 0
}

// confirm confirms the heads of the logs when they have not been for a while, or were not followed so far, and renews the key
// if that became stale: also when the bus log alone says so.
func (s *sealer) confirm(ctx context.Context) error {
	if err := s.w.Follow(ctx); err != nil {
		return err
	}
	if !s.followed || !s.r.Log.Confirmed() {
		if err := errors.Join(s.r.Bus.Sync(ctx), s.r.Sync(ctx)); err != nil {
			return err
		}
		s.followed = true
	} else if s.looked == s.logs() && (s.expiry.IsZero() || time.Now().Before(s.expiry)) { // nothing is known that was not then
		return room.Changes{Room: s.r}.Renew(ctx)
	}
	looked, now := s.logs(), time.Now()
	err := renewKey(ctx, s.r)
	if err == nil {
		s.looked, s.expiry = looked, ledger.NextExpiry(s.r.Ledger(), s.r.Allowlist(), now)
	}
	return err
}

// logs are the logs as they are known now.
func (s *sealer) logs() [2]*ledger.State { return [2]*ledger.State{s.r.Bus.State(), s.r.State()} }

// newMessageID makes an id that nobody can use up beforehand: ids are a stream's, not a sender's.
func newMessageID() string {
	id := newID()
	return hex.EncodeToString(id[:])
}

// newID makes an id of a stream.
func newID() *[16]byte {
	var id [16]byte
	_, _ = rand.Read(id[:]) // it never fails: it ends the process instead
	return &id
}
