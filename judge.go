package unibus

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

var (
	errRevoked = errors.New("its sender's access to the bus was revoked")
	errAlarmed = errors.New("nothing of its sender's is read any more: it has named an entry of the room's log that is another here")
	errBygone  = errors.New("it is of before the room began anew, and of a log that was given up")
	errStale   = errors.New("it was sealed more than ten minutes from now: old news shown as new, or a clock that is off")
)

// freshWithin is how far a frame's seal time may be from when it came.
const freshWithin = 10 * time.Minute

// facts answers an inbox from a room's log.
type facts struct{ r *Room }

func (l facts) Owes(epoch uint32) bool { return l.r.room().Owes(l.r.c.id.Key(), epoch) }

func (l facts) OwesAt(at uint64) bool {
	room := l.r.room()
	return room.Owes(l.r.c.id.Key(), room.EpochAt(at).Number)
}

func (l facts) StoredSince(at uint64) bool {
	s := l.r.state()
	return s.Room.StoredSince(at, s.Head.Seq)
}

func (l facts) Kept(since uint64) ledger.Kept { return l.r.room().Kept(since) }

func (l facts) Archived() bool { return l.r.room().Archived != 0 }

func (l facts) Created() time.Time { return l.r.room().EpochAt(1).Time }

func (l facts) Began() (at uint64, when time.Time) {
	room := l.r.room()
	if at, when = room.Anew, room.AnewTime; when.IsZero() {
		when = room.EpochAt(at).Time
	}
	return at, when
}

func (l facts) Joined(sender PublicKey) (at uint64, when time.Time) { return l.r.room().Joined(sender) }

// known reports whether somebody is or was a member, by the room's log.
func (r *Room) known(key PublicKey) bool { return r.room().Known(key) }

// bygone reports whether what was sealed, or stored, at a time is of before an owner said that what the room had stored
// is gone: of what is left of it nothing need fit the log.
func (r *Room) bygone(t time.Time) bool { return !t.IsZero() && t.Before(r.room().AnewTime) }

// sinceAnew reports whether an entry is that with which the room began anew, or is behind it.
func (r *Room) sinceAnew(at uint64) bool {
	anew := r.room().Anew
	return anew > 1 && at >= anew
}

// beforeAnew reports whether an entry is before that with which the room began anew.
func (r *Room) beforeAnew(at uint64) bool { return at < r.room().Anew }

// take judges a frame, and gives it to the inbox if it is authentic. An error ends the feed.
func (f *feed) take(ctx context.Context, frame store.Frame) error {
	if frame.Sender == (PublicKey{}) {
		if !f.again(frame) {
			f.forged(frame, errors.New("its subject names no sender"))
		}
		return nil
	}
	if f.r.alarmed(frame.Sender) {
		h, _ := crypto.ParseHeader(frame.Data)
		f.noteOnce(frame.Sender, NoticeFork, true, frame, h, errAlarmed)
		return nil
	}
	live := !f.stored || frame.Seq >= f.fresh
	v, err := f.judge(ctx, frame, live)
	switch {
	case unproven(err) && ctx.Err() == nil && f.again(frame):
		return nil
	}
	if err := f.compare(frame); err != nil {
		return err
	}
	switch {
	case f.leftover(frame, v, err):
		h, _ := crypto.ParseHeader(frame.Data)
		f.note(NoticeRefused, false, frame, h, errBygone)
		return nil
	case errors.Is(err, ledger.ErrAhead), errors.Is(err, ledger.ErrWithheld):
		f.park(frame, v)
		return nil
	case err != nil:
		return f.refuse(ctx, frame, err)
	}
	f.bygones = f.r.beforeAnew(v.Header.At)
	f.renewed = f.renewed || f.r.sinceAnew(v.Header.At)
	if err := f.lookBack(ctx, frame, v.Header); err != nil {
		return err
	}
	now := time.Now()
	why := v.Refused
	sealed := time.UnixMicro(int64(min(v.Content.Time, 1<<62)))
	age := now.Sub(sealed)
	switch {
	case why != nil:
	case live && !f.s.c.active(frame.Sender):
		why = errRevoked
	case !f.stored && (age > freshWithin || age < -freshWithin):
		why = errStale
	}
	accepted := inbox.Frame{
		Sender: frame.Sender, Header: v.Header, Content: v.Content, Size: len(frame.Data), Sum: maphash.Bytes(f.seed, frame.Data),
		Place: frame.Seq, Former: v.Former, Late: f.stored && (live && age > freshWithin || frame.Time.Sub(sealed) > freshWithin),
		Refused: why != nil, Context: f.stored && (frame.Seq < f.from || slices.Contains(f.o.goOn.passed, frame.Seq)),
	}
	if why != nil && !accepted.Context {
		innocent := errors.Is(why, errRevoked) || errors.Is(why, errStale) || live && errors.Is(why, ledger.ErrNotWriter)
		f.note(NoticeRefused, !innocent, frame, v.Header, why)
	}
	f.in.Take(accepted, now)
	if !f.stored || f.memory == nil {
		return nil
	}
	return f.memory.met(f.ctx, frame.Seq, frame.Data)
}

// compare tells of a frame at a place where another one was before, whatever it is, and whether or not it is wanted.
func (f *feed) compare(frame store.Frame) error {
	if !f.stored || f.memory == nil || frame.Seq == f.memory.disputed || !f.memory.another(frame.Seq, frame.Data) {
		return nil
	}
	f.tell(Notice{Kind: NoticeRolledBack, Finding: true, From: frame.Seq, To: frame.Seq, Seq: frame.Seq, Why: anotherFrame(frame.Seq)})
	return f.r.c.pins.Dispute(f.ctx, f.r.id, frame.Seq)
}

// leftover reports whether a frame that does not fit the log is of before the room began anew: by its sender's word, if
// it is authentic, else by the server's.
func (f *feed) leftover(frame store.Frame, v *ledger.Verdict, err error) bool {
	switch {
	case err == nil || !f.stored:
		return false
	case v != nil:
		return f.r.bygone(crypto.Micros(v.Content.Time))
	}
	return errors.Is(err, ledger.ErrAhead) && f.bygone(frame)
}

// bygone reports whether a frame that is not authentic may be of before the room began anew, as the server says by the
// time that it gives. Behind a frame of after that there is none of before it, whatever the server says.
func (f *feed) bygone(frame store.Frame) bool { return !f.renewed && f.r.bygone(frame.Time) }

// unproven reports whether a frame may be anybody's: it did not open, or not verify.
func unproven(err error) bool {
	return err != nil && !errors.Is(err, ledger.ErrForkProven) && !errors.Is(err, ledger.ErrForkClaimed) && !errors.Is(err, ErrUnavailable)
}

// again has a frame read from the past, if it came by the subscription to a stored room just now: what comes by that is
// no evidence of anything (SPEC.md §6).
func (f *feed) again(frame store.Frame) bool {
	if !f.stored || !f.past.takeBack(frame.Seq) {
		return false
	}
	f.next = f.past.next
	return true
}

// judge asks the ledger, fetching the log up to the frame's place and the key of its epoch where it must. What
// cannot be had is tried again within the client's timeout.
func (f *feed) judge(ctx context.Context, frame store.Frame, live bool) (*ledger.Verdict, error) {
	began, synced := time.Now(), false
	for wait := firstPause; ; wait = min(2*wait, maxPause) {
		v, err := f.r.judge(frame.Data, frame.Sender, live)
		var need *needKey
		ahead := errors.Is(err, ledger.ErrWithheld) || errors.Is(err, ledger.ErrAhead)
		switch {
		case errors.As(err, &need) && !f.mayFetch(need.epoch):
			err = errNoKey
		case errors.As(err, &need):
			if err = f.r.keys.fetch(ctx, need); err == nil {
				continue
			}
			if errors.Is(err, ErrIntegrity) {
				err = &badKey{need.epoch, err}
			}
		case ahead && !synced && f.mayAsk(frame.Sender, v != nil):
			synced = true
			if serr := f.r.sync(ctx); serr == nil {
				continue
			} else if !errors.Is(serr, ErrUnavailable) || ctx.Err() != nil {
				return nil, serr
			}
		}
		if !errors.Is(err, ErrUnavailable) || time.Since(began) > f.s.c.o.Timeout {
			return v, err
		}
		if err := tasks.Pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// judge asks the ledger with what is at hand. *needKey when that is not enough.
func (r *Room) judge(frame []byte, sender PublicKey, live bool) (v *ledger.Verdict, err error) {
	s := r.state()
	return s.Judge(frame, sender, func(epoch uint32) (*crypto.FrameKey, error) {
		if key := r.keys.cached(epoch); key != nil {
			return key, nil
		}
		return nil, &needKey{s.Room.Epochs, epoch}
	}, live)
}

// refuse deals with a frame that is not authentic, or that is proof of something. Only a proven fork, or a store
// or key that cannot be had, ends the feed. What was interrupted says nothing about the frame.
func (f *feed) refuse(ctx context.Context, frame store.Frame, why error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	h, _ := crypto.ParseHeader(frame.Data) // as far as it goes: it is for telling people
	var bad *badKey
	switch {
	case errors.Is(why, ledger.ErrForkProven):
		settled, err := f.r.forked(context.WithoutCancel(ctx), pins.Fork{Sender: frame.Sender, At: h.At, Head: h.Head})
		if settled {
			f.note(NoticeFork, false, frame, h, why)
		}
		return err
	case errors.Is(why, ledger.ErrForkClaimed):
		if !f.overWith(frame, h) {
			f.r.alarm(frame.Sender)
		}
		f.noteOnce(frame.Sender, NoticeFork, true, frame, h, why)
	case errors.Is(why, errNoKey):
		f.unopened(frame, h)
	case errors.As(why, &bad):
		f.keyless[bad.epoch] = time.Now()
		f.noteOnce(bad.epoch, NoticeKey, true, frame, h, bad.error)
	case errors.Is(why, ErrUnavailable), errors.Is(why, ErrIntegrity), errors.Is(why, ErrDenied):
		return fmt.Errorf("room %s: %w", f.r.Subject(), why)
	default:
		f.forged(frame, why)
	}
	return nil
}

// overWith reports whether what a sender says of another history is of the past: a person takes the room for what it is
// up to there, or the sender was removed since and is back.
func (f *feed) overWith(frame store.Frame, h crypto.Header) bool {
	return f.r.room().OutSince(frame.Sender, h.At) || f.memory != nil && frame.Seq > 0 && frame.Seq <= f.memory.accepted
}

// unopened counts a frame of an epoch whose key this client does not have. A key that the log owes it is being
// withheld, unless it may have been left out when its access to the bus had ended.
func (f *feed) unopened(frame store.Frame, h crypto.Header) {
	if !(facts{f.r}).Owes(h.Epoch) {
		f.unread++
		return
	}
	f.noteOnce(h.Epoch, NoticeKey, !f.s.c.wasOut(f.s.c.Key()), frame, h, fmt.Errorf("the key of epoch %d, which this room's log says is for you, is not to be had", h.Epoch))
	if f.mayFetch(h.Epoch) {
		f.keyless[h.Epoch] = time.Now()
	}
}

// badKey is an epoch's key that is not what the log says it is. It ends nothing: other epochs can be read.
type badKey struct {
	epoch uint32
	error
}

func (b *badKey) Unwrap() error { return b.error }

// mayFetch reports whether an epoch's key is to be asked for: it is for this client, and was not just asked for.
func (f *feed) mayFetch(epoch uint32) bool {
	return (facts{f.r}).Owes(epoch) && time.Since(f.keyless[epoch]) >= askEvery
}

// note tells of a frame.
func (f *feed) note(kind NoticeKind, finding bool, frame store.Frame, h crypto.Header, why error) {
	if f.stored && frame.Seq < f.from {
		return // it is only read to know what comes after it
	}
	f.tell(Notice{
		Kind: kind, Finding: finding, Sender: f.s.c.nameOf(frame.Sender), Stream: h.Stream, From: h.Counter, To: h.Counter, Seq: frame.Seq, Why: why.Error(),
	})
}

// once is what a feed tells but once: that a sender's frames are refused, or an epoch's key cannot be had. Whatever a
// person has settled says nothing of what came later.
type once struct {
	about   any
	settled bool
}

// noteOnce tells of the first frame that something makes unreadable, of those that are wanted.
func (f *feed) noteOnce(about any, kind NoticeKind, finding bool, frame store.Frame, h crypto.Header, why error) {
	o := once{about, f.memory != nil && frame.Seq <= f.memory.accepted}
	if f.told[o] || f.stored && frame.Seq < f.from {
		return
	}
	f.told[o] = true
	f.note(kind, finding, frame, h, why)
}

// alarm refuses a sender's frames from now on.
func (r *Room) alarm(sender crypto.PublicKey) {
	r.smu.Lock()
	defer r.smu.Unlock()
	r.alarms[sender] = true
}

func (r *Room) alarmed(sender crypto.PublicKey) bool {
	r.smu.Lock()
	defer r.smu.Unlock()
	return r.alarms[sender]
}
