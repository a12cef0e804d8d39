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
	"github.com/unibus/unibus/internal/tasks"
)

// This file reads what rooms have stored. A look into the past (pastRead) goes in steps: the leader is asked how far the
// room reaches, a replica for what comes next, and all of them about a place that one lacks, until everything is there
// that is wanted, or fits.

// Limits of one look into the past.
const (
	pastBatch  = 1000                    // messages asked for at once
	pastBytes  = 896 << 10               // bytes asked for at once
	pastWait   = 2500 * time.Millisecond // for everything there is, before it is ErrUnavailable
	noneTries  = 8                       // answers without any, before the leader is asked for one
	allAsked   = 24                      // requests that ask all replicas: each goes to one of them by chance, and none may be left out
	maxProbes  = 4096                    // requests for a single place, in one look
	lowestWait = time.Second             // for all answers to those
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
// lost a block, does not give is asked of others, and ErrUnavailable when nobody has it in time. Nor is one
// replica believed about where the room begins, even if it leads. A hole that has messages after it is given
// as a hole once all replicas are there to be asked, and all lack it; one at the end as Lost.
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
	if n := len(r.past.Frames); r.low > 0 && (n == 0 || r.past.Frames[n-1].Seq < r.low) {
		r.past.Lost = r.low - 1
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
	none   int    // answers in a row that held nothing
	told   uint64 // where the leader says that the room begins, for which start was found
	start  uint64 // the first place that is wanted and that any replica holds
	low    uint64 // the first place behind what no replica has
	lacked uint64 // a place that the replica asked last does not have, though it has later ones
}

// errEnough ends an answer: no more fits, or what comes is not what has to come next.
var errEnough = errors.New("enough")

// run goes on step by step until there is nothing more to come. After a step without a frame it waits before the next, longer
// each time, so that a replica that lags has time to catch up.
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
		if r.lacked > 0 { // another replica may have it at once
			wait = againAfter
		}
		if tasks.Pause(ctx, wait) != nil {
			return fmt.Errorf("%w: the replicas that answer give nothing from place %d on, and there are %d", store.ErrUnavailable, r.from(), r.past.Last)
		}
		wait = min(2*wait, againLimit)
	}
}

// step asks the leader how far there is to go, and a replica for the next frames.
func (r *pastRead) step(ctx context.Context) (done bool, err error) {
	info, err := r.p.Stream(ctx, r.room)
	if err != nil {
		return false, temporary(ctx, err)
	}
	r.past.First, r.past.Last = max(info.First, 1), info.Last
	if !r.q.Since.IsZero() && info.LastTime.Before(r.q.Since) {
		return true, nil
	}
	if err := r.begin(ctx, info); err != nil || r.done() {
		return err == nil, temporary(ctx, err)
	}
	r.lacked = 0
	err = r.ask(ctx)
	switch {
	case r.lacked > 0:
		r.none, err = 0, r.hole(ctx, info)
	case !errors.Is(err, direct.ErrNone):
		r.none = 0
	default:
		if r.none++; r.none >= noneTries {
			err = r.one(ctx, info)
		}
	}
	return r.done(), temporary(ctx, err)
}

// one asks the leader for the next message, of which no replica that was asked had anything: they lag, or
// cannot read it. If the leader cannot either, nor any other, it is lost, and reading goes on behind it.
func (r *pastRead) one(ctx context.Context, info direct.Info) error {
	m, err := direct.One(ctx, r.p.nc, StreamName(r.room), r.from())
	if errors.Is(err, direct.ErrNone) {
		return r.unreadable(ctx, info)
	}
	if err != nil {
		return err
	}
	r.none = 0
	return r.add(store.Frame{Seq: m.Seq, Time: m.Time, Sender: r.sender(m.Subject), Data: m.Data})
}

// unreadable passes over the places that the leader cannot read, if all replicas can be asked and none can. An answer
// breaks off at a place that cannot be read, so each is asked for by itself. Behind the last one there is nothing. Where
// they are too many the answer says so of the first of them.
func (r *pastRead) unreadable(ctx context.Context, info direct.Info) error {
	r.none = 0
	probes := maxProbes
	if info.Replicas > 1 {
		probes /= allAsked
	}
	begin := r.from()
	for place := begin; place <= info.Last; place++ {
		if probes--; probes < 0 {
			r.full = true
			break
		}
		low, err := r.lowest(ctx, direct.Request{Seq: place}, info)
		switch {
		case err != nil:
			return err
		case low >= place:
			return nil
		case !info.Whole:
			return fmt.Errorf("%w: place %d cannot be read, and not all replicas are there", store.ErrUnavailable, place)
		}
		r.low = place + 1
	}
	_, err := r.trimmed(ctx, begin, info)
	return err
}

// begin finds out where to begin, if that is not where the caller says. A leader that has lost its first
// messages says that the room begins after them, and a replica that has lost some from a time on, that
// those after them are the first from then. Others may still have them.
func (r *pastRead) begin(ctx context.Context, info direct.Info) error {
	since := !r.q.Since.IsZero()
	first, request := r.past.First, direct.Request{Seq: r.wanted()}
	if since {
		request = direct.Request{StartTime: r.q.Since.UTC().Format(time.RFC3339Nano)}
	} else if info.Replicas <= 1 || r.wanted() >= first {
		return nil
	}
	if r.told != first {
		low, err := r.lowest(ctx, request, info)
		if err != nil {
			return err
		}
		if low == 0 && first <= info.Last {
			return fmt.Errorf("%w: the replicas that answer hold nothing, and there are messages up to place %d", store.ErrUnavailable, info.Last)
		}
		r.told, r.start = first, low
	}
	switch {
	case r.start == 0: // there is nothing at all
	case since:
		r.past.First = min(first, r.start)
	default:
		r.past.First = r.start
	}
	return nil
}

// hole looks at a place that a replica lacks. It is lost only if no replica has it, and all can be asked:
// else one that has it may come back.
func (r *pastRead) hole(ctx context.Context, info direct.Info) error {
	low, err := r.lowest(ctx, direct.Request{Seq: r.lacked}, info)
	if err != nil || low <= r.lacked { // it is there, or all lag
		return err
	}
	if info, err = r.trimmed(ctx, r.lacked, info); err != nil {
		return err
	}
	switch {
	case !info.Whole && info.First <= r.lacked: // nor has it been trimmed
		return fmt.Errorf("%w: place %d is not there, and not all replicas are", store.ErrUnavailable, r.lacked)
	}
	if r.low = low; info.First > r.lacked { // the last replica that still had it has trimmed it, too, as the leader had
		r.start = max(r.start, min(low, info.First))
	}
	return nil
}

// trimmed is how far the room's stream reaches, asked again if it may have been trimmed beyond a place since it was asked.
func (r *pastRead) trimmed(ctx context.Context, place uint64, info direct.Info) (direct.Info, error) {
	if info.First > place {
		return info, nil
	}
	info, err := r.p.Stream(ctx, r.room)
	if err == nil && info.First > place {
		r.past.First = info.First
	}
	return info, err
}

// lowest is the first place that any replica holds from the one asked for on; 0 when none holds one. Nobody
// can choose which replica answers, so many requests are made at once.
func (r *pastRead) lowest(ctx context.Context, request direct.Request, info direct.Info) (uint64, error) {
	request.Batch, request.MaxBytes = 1, 1
	times := 1
	if info.Replicas > 1 {
		times = allAsked
	}
	ctx, cancel := context.WithTimeout(ctx, lowestWait)
	defer cancel()
	return r.p.direct.Lowest(ctx, StreamName(r.room), request, times)
}

// temporary drops an error after which another replica, or the same one a little later, may answer
// otherwise.
func temporary(ctx context.Context, err error) error {
	passes := errors.Is(err, direct.ErrNone) || errors.Is(err, direct.ErrLost) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, store.ErrUnavailable)
	if errors.Is(err, errEnough) || passes && ctx.Err() == nil {
		return nil
	}
	return err
}

// done reports whether nothing more is wanted, fits, or is there.
func (r *pastRead) done() bool { return r.q.None || r.full || r.from() > r.past.Last }

// from is the next place that is wanted.
func (r *pastRead) from() uint64 {
	if n := len(r.past.Frames); n > 0 {
		return max(r.past.Frames[n-1].Seq+1, r.low)
	}
	return max(r.wanted(), r.past.First, r.start, r.low)
}

// wanted is the first place that is asked for, whether there is something or not.
func (r *pastRead) wanted() uint64 {
	next := r.q.After + 1
	if r.q.Last > 0 && r.past.Last >= r.q.Last {
		next = max(next, r.past.Last-r.q.Last+1)
	}
	return next
}

// ask reads on from one replica.
func (r *pastRead) ask(ctx context.Context) error {
	request := direct.Request{Seq: r.from(), Batch: pastBatch, MaxBytes: min(pastBytes, max(r.limit-r.size, 1))}
	_, err := r.p.direct.Get(ctx, StreamName(r.room), request, r.take)
	r.full = r.full || r.size > r.limit/2 // the rest would be a small answer of its own
	return err
}

// take adds a message, if it is the one that comes next.
func (r *pastRead) take(m *nats.Msg) error {
	f := store.Frame{Seq: direct.Seq(m), Data: m.Data}
	if f.Seq > r.past.Last {
		return errEnough // stored since the leader was asked; it is not known to be there to stay
	}
	if want := r.from(); f.Seq > want {
		r.lacked = want
		return errEnough
	}
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
