package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/direct"
	"github.com/unibus/unibus/internal/store"
)

// Limits of one look into the past.
const (
	pastBatch  = 1000                    // messages asked for at once
	pastBytes  = 896 << 10               // bytes asked for at once
	pastWait   = 2500 * time.Millisecond // for everything there is, before it is ErrUnavailable
	holeTries  = 4                       // answers that lack the same messages, before they are taken for lost
	noneTries  = 8                       // answers without any, before the leader is asked for one
	againAfter = 20 * time.Millisecond   // before a replica that lags is asked again; doubled each time
	againLimit = 160 * time.Millisecond  // but no more than this
)

// Past reads what rooms have stored. Its connection may use the streams.
type Past struct {
	nc     *nats.Conn
	direct *direct.Client
}

// NewPast reads over a connection that may use JetStream. Close ends it.
func NewPast(nc *nats.Conn) (*Past, error) {
	c, err := direct.New(nc)
	if err != nil {
		return nil, fmt.Errorf("read rooms: %w", failure(err))
	}
	return &Past{nc, c}, nil
}

// Close ends what is under way.
func (p *Past) Close() { p.direct.Close() }

// Stream is how far a room's stream reaches, by the word of its leader. ErrNotFound without a stream.
func (p *Past) Stream(ctx context.Context, room crypto.ID) (direct.Info, error) {
	return direct.Leader(ctx, p.nc, StreamName(room))
}

// Frames returns a part of a room's past that takes at most limit bytes on the wire, though one frame at
// least. It ends before the room's last place only for want of space: what a replica that lags, or has
// lost a block, does not give is asked of others, and ErrUnavailable when nobody has it in time. A hole
// that has messages after it is given as a hole once several answers have lacked it.
func (p *Past) Frames(ctx context.Context, room crypto.ID, q store.FramesQuery, limit int) (store.Past, error) {
	ctx, cancel := context.WithTimeout(ctx, pastWait)
	defer cancel()
	if q.Bytes > 0 {
		limit = min(limit, q.Bytes)
	}
	r := &pastRead{p: p, room: room, q: q, limit: limit}
	if err := r.run(ctx); err != nil {
		return store.Past{}, fmt.Errorf("the past of room %s: %w", room, failure(err))
	}
	return r.past, nil
}

// pastRead is one look into the past.
type pastRead struct {
	p      *Past
	room   crypto.ID
	q      store.FramesQuery
	limit  int
	past   store.Past
	size   int // of past.Frames on the wire
	full   bool
	lacked int    // answers in a row that began behind the place wanted
	none   int    // answers in a row that held nothing
	lost   uint64 // the last place that not even the leader can read
}

// errEnough ends an answer: no more fits, or what comes is not what has to come next.
var errEnough = errors.New("enough")

func (r *pastRead) run(ctx context.Context) error {
	for wait := againAfter; ; {
		before := len(r.past.Frames)
		done, err := r.step(ctx)
		if done || err != nil {
			return err
		}
		if len(r.past.Frames) > before {
			wait = againAfter
			continue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: the replicas that answer give nothing from place %d on, and there are %d", store.ErrUnavailable, r.from(), r.past.Last)
		case <-time.After(wait):
			wait = min(2*wait, againLimit)
		}
	}
}

// step asks the leader how far there is to go, and a replica for the next frames.
func (r *pastRead) step(ctx context.Context) (done bool, err error) {
	info, err := r.p.Stream(ctx, r.room)
	if err != nil {
		return false, temporary(ctx, err)
	}
	r.past.First, r.past.Last = max(info.First, 1), info.Last
	late := !r.q.Since.IsZero() && info.LastTime.Before(r.q.Since)
	if late || r.done() {
		return true, nil
	}
	err = r.ask(ctx)
	if !errors.Is(err, direct.ErrNone) {
		r.none = 0
	} else if r.none++; r.none >= noneTries {
		err = r.one(ctx)
	}
	return r.done(), temporary(ctx, err)
}

// one asks the leader for the next message, of which no replica that was asked had anything: they lag, or
// cannot read it. If the leader cannot either it is lost, and reading goes on behind it.
func (r *pastRead) one(ctx context.Context) error {
	m, err := direct.One(ctx, r.p.nc, StreamName(r.room), r.from())
	if errors.Is(err, direct.ErrNone) {
		r.lost, r.none = r.from(), noneTries-1 // one more answer decides about the next
		return nil
	}
	if err != nil {
		return err
	}
	r.none = 0
	return r.add(store.Frame{Seq: m.Seq, Time: m.Time, Sender: r.sender(m.Subject), Data: m.Data})
}

// temporary drops an error after which another replica, or the same one a little later, may answer
// otherwise.
func temporary(ctx context.Context, err error) error {
	passes := errors.Is(err, direct.ErrNone) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, store.ErrUnavailable)
	if errors.Is(err, errEnough) || passes && ctx.Err() == nil {
		return nil
	}
	return err
}

func (r *pastRead) done() bool { return r.q.None || r.full || r.from() > r.past.Last }

// from is the next place that is wanted.
func (r *pastRead) from() uint64 {
	if n := len(r.past.Frames); n > 0 {
		return max(r.past.Frames[n-1].Seq, r.lost) + 1
	}
	next := max(r.q.After+1, r.past.First, r.lost+1)
	if r.q.Last > 0 && r.past.Last >= r.q.Last {
		next = max(next, r.past.Last-r.q.Last+1)
	}
	return next
}

// ask reads on from one replica.
func (r *pastRead) ask(ctx context.Context) error {
	request := direct.Request{Seq: r.from(), Batch: pastBatch, MaxBytes: min(pastBytes, max(r.limit-r.size, 1))}
	if !r.q.Since.IsZero() && len(r.past.Frames) == 0 {
		request.Seq, request.StartTime = 0, r.q.Since.UTC().Format(time.RFC3339Nano)
	}
	err := r.p.direct.Get(ctx, StreamName(r.room), request, func(m *nats.Msg) error { return r.take(m, request.StartTime != "") })
	r.full = r.full || r.size > r.limit/2 // the rest would be a small answer of its own
	return err
}

// take adds a message, if it is the one that comes next.
func (r *pastRead) take(m *nats.Msg, anywhere bool) error {
	f := store.Frame{Seq: direct.Seq(m), Data: m.Data}
	if f.Seq > r.past.Last {
		return errEnough // stored since the leader was asked; it is not known to be there to stay
	}
	if want := r.from(); f.Seq > want && !(anywhere && len(r.past.Frames) == 0) {
		if r.lacked++; r.lacked < holeTries {
			return errEnough
		}
	}
	r.lacked = 0
	f.Sender = r.sender(direct.Last(m, "Nats-Subject"))
	stored, err := time.Parse(time.RFC3339Nano, direct.Last(m, "Nats-Time-Stamp"))
	if err != nil {
		return fmt.Errorf("%w: a server's answer is not understood: %v", store.ErrUnavailable, err)
	}
	f.Time = stored
	return r.add(f)
}

// add adds a frame, if there is space for it.
func (r *pastRead) add(f store.Frame) error {
	if len(r.past.Frames) > 0 && r.size+f.Size() > r.limit {
		r.full = true
		return errEnough
	}
	r.size += f.Size()
	r.past.Frames = append(r.past.Frames, f)
	return nil
}

// sender is who the subject of a message says has sent it; zero when that is not a sender of the room.
func (r *pastRead) sender(subject string) crypto.PublicKey {
	if sender := senderOf(subject); subject == StoredSubject(r.room, sender) {
		return sender
	}
	return crypto.PublicKey{}
}
