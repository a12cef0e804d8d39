package reader

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
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

var (
	errRevoked = errors.New("its sender's access to the bus was revoked")
	errAlarmed = errors.New("nothing of its sender's is read any more: it has named an entry of the room's log that is another here")
	errBygone  = errors.New("it is of before the room began anew, and of a log that was given up")
	errStale   = errors.New("it was sealed more than ten minutes from now: old news shown as new, or a clock that is off")
)

// maxSealOffset is how far a frame's seal time may be from when it came.
const maxSealOffset = 10 * time.Minute

// judging decides what to believe of a feed's frames: the ledger says whether a frame is authentic and its sender was
// allowed to make it (SPEC.md §6), after the log and the key that it needs were fetched; judging adds what only a reader
// can know, such as when it came. What is authentic goes to the inbox; of anything else people are told, and only what
// nobody honest does is a finding.
type judging struct {
	f              *feed
	metSinceAnew   bool                 // a frame was read that is of after the room began anew
	lastBeforeAnew bool                 // the last one that was read is of before that
	unread         uint64               // frames without a key
	keyAskedAt     map[uint32]time.Time // epochs whose key is withheld, and when it was last asked for
	told           map[once]bool        // what is told but once
	forgedFrames   forgedFrames         // of what does not authenticate
}

// take judges a frame, and gives it to the inbox if it is authentic. Only a proven fork, and what keeps the client from
// judging at all, is an error, which ends the feed.
func (j *judging) take(ctx context.Context, frame store.Frame) error {
	if frame.Sender == (crypto.PublicKey{}) {
		if !j.reread(frame) {
			j.forged(frame, errors.New("its subject names no sender"))
		}
		return nil
	}
	if j.f.r.Alarms.Has(frame.Sender) {
		h, _ := crypto.ParseHeader(frame.Data)
		j.noteOnce(frame.Sender, inbox.Notice{Kind: Fork, Finding: true}, frame, h, errAlarmed)
		return nil
	}
	live := !j.f.stored || frame.Seq >= j.f.liveFrom
	v, err := j.judge(ctx, frame, live)
	if unproven(err) && ctx.Err() == nil && j.reread(frame) {
		return nil
	}
	if err := j.compare(frame); err != nil {
		return err
	}
	switch {
	case j.ofFormerLog(frame, v, err):
		h, _ := crypto.ParseHeader(frame.Data)
		j.note(inbox.Notice{Kind: Refused}, frame, h, errBygone)
		return nil
	case errors.Is(err, ledger.ErrAhead), errors.Is(err, ledger.ErrWithheld):
		j.f.waiting.park(frame, v)
		return nil
	case err != nil:
		return j.refuse(ctx, frame, err)
	}
	return j.accept(ctx, frame, v, live)
}

// accept gives an authentic frame to the inbox. One that is not to be delivered goes there, too: it belongs to its stream,
// and would be missed otherwise.
func (j *judging) accept(ctx context.Context, frame store.Frame, v *ledger.Verdict, live bool) error {
	j.lastBeforeAnew = j.f.facts.BeforeAnew(v.Header.At)
	j.metSinceAnew = j.metSinceAnew || j.f.facts.SinceAnew(v.Header.At)
	if err := j.f.looking.lookBack(ctx, frame, v.Header); err != nil {
		return err
	}
	now := time.Now()
	why := v.Refused
	sealed := time.UnixMicro(int64(min(v.Content.Time, 1<<62)))
	age := now.Sub(sealed)
	switch {
	case why != nil:
	case live && !j.f.r.Active(frame.Sender):
		why = errRevoked
	case !j.f.stored && (age > maxSealOffset || age < -maxSealOffset):
		why = errStale
	}
	accepted := inbox.Frame{
		Sender: frame.Sender, Header: v.Header, Content: v.Content, Size: len(frame.Data), Sum: maphash.Bytes(j.f.seed, frame.Data),
		Place: frame.Seq, Stored: frame.Time, Former: v.Former, Late: j.f.stored && (live && age > maxSealOffset || frame.Time.Sub(sealed) > maxSealOffset),
		Refused: why != nil, Context: j.f.stored && (frame.Seq < j.f.from || slices.Contains(j.f.o.resume.passed, frame.Seq)),
	}
	if why != nil && !accepted.Context {
		innocent := errors.Is(why, errRevoked) || errors.Is(why, errStale) || live && errors.Is(why, ledger.ErrNotWriter)
		j.note(inbox.Notice{Kind: Refused, Finding: !innocent}, frame, v.Header, why)
	}
	j.f.in.Take(accepted, now)
	if !j.f.stored || j.f.reach == nil {
		return nil
	}
	return j.f.reach.Met(j.f.ctx, frame.Seq, frame.Data)
}

// compare tells of a frame at a place where another one was before, whether or not it is authentic and wanted, and has
// that remembered until a person accepts it.
func (j *judging) compare(frame store.Frame) error {
	if !j.f.stored || j.f.reach == nil || frame.Seq == j.f.reach.Disputed || !j.f.reach.Another(frame.Seq, frame.Data) {
		return nil
	}
	j.f.tell(inbox.Notice{Kind: RolledBack, Finding: true, From: frame.Seq, To: frame.Seq, Place: frame.Seq, Why: room.AnotherFrame(frame.Seq)})
	return j.f.r.Pins.Places.Dispute(j.f.ctx, j.f.r.ID, frame.Seq)
}

// ofFormerLog reports whether a frame that does not fit the log is of before the room began anew: by its sender's word, if
// it is authentic, else by the server's.
func (j *judging) ofFormerLog(frame store.Frame, v *ledger.Verdict, err error) bool {
	switch {
	case err == nil || !j.f.stored:
		return false
	case v != nil:
		return j.f.facts.Bygone(crypto.Micros(v.Content.Time))
	}
	return errors.Is(err, ledger.ErrAhead) && j.bygone(frame)
}

// bygone reports whether a frame that is not authentic may be of before the room began anew, as the server says by the
// time that it gives. Behind a frame of after that there is none of before it, whatever the server says.
func (j *judging) bygone(frame store.Frame) bool {
	return !j.metSinceAnew && j.f.facts.Bygone(frame.Time)
}

// unproven reports whether a frame may be anybody's: it did not open, or not verify.
func unproven(err error) bool {
	return err != nil && !errors.Is(err, ledger.ErrForkProven) && !errors.Is(err, ledger.ErrForkClaimed) && !errors.Is(err, store.ErrUnavailable)
}

// reread has a frame read from the past, if it came by the subscription to a stored room just now: what comes by that is
// no evidence of anything (SPEC.md §6).
func (j *judging) reread(frame store.Frame) bool {
	if !j.f.stored || !j.f.past.takeBack(frame.Seq) {
		return false
	}
	j.f.next = j.f.past.next
	return true
}

// judge asks the ledger, fetching the log up to the frame's place and the key of its epoch where it must. What
// cannot be had is tried again within the client's timeout.
func (j *judging) judge(ctx context.Context, frame store.Frame, live bool) (*ledger.Verdict, error) {
	began, synced := time.Now(), false
	for wait := firstPause; ; wait = min(2*wait, maxPause) {
		v, err := j.f.r.Judge(frame.Data, frame.Sender, live)
		var need *room.NeedKey
		ahead := errors.Is(err, ledger.ErrWithheld) || errors.Is(err, ledger.ErrAhead)
		switch {
		case errors.As(err, &need) && !j.mayFetch(need.Epoch):
			err = room.ErrNoKey
		case errors.As(err, &need):
			if err = j.f.r.Keys.Fetch(ctx, need); err == nil {
				continue
			}
			if errors.Is(err, store.ErrIntegrity) {
				err = &badKey{need.Epoch, err}
			}
		case ahead && !synced && j.f.waiting.mayAsk(frame.Sender, v != nil):
			synced = true
			if serr := j.f.r.Sync(ctx); serr == nil {
				continue
			} else if !errors.Is(serr, store.ErrUnavailable) || ctx.Err() != nil {
				return nil, serr
			}
		}
		if !errors.Is(err, store.ErrUnavailable) || time.Since(began) > j.f.s.rd.Timeout {
			return v, err
		}
		if err := tasks.Pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// refuse deals with a frame that is not authentic, or that is proof of something. Only a proven fork, or a store
// or key that cannot be had, ends the feed. What was interrupted says nothing about the frame.
func (j *judging) refuse(ctx context.Context, frame store.Frame, why error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	h, _ := crypto.ParseHeader(frame.Data) // as far as it goes: it is for telling people
	var bad *badKey
	switch {
	case errors.Is(why, ledger.ErrForkProven):
		settled, err := j.f.r.Forked(context.WithoutCancel(ctx), pins.Fork{Sender: frame.Sender, At: h.At, Head: h.Head})
		if settled {
			j.note(inbox.Notice{Kind: Fork}, frame, h, why)
		}
		return err
	case errors.Is(why, ledger.ErrForkClaimed):
		if !j.overWith(frame, h) {
			j.f.r.Alarms.Add(frame.Sender)
		}
		j.noteOnce(frame.Sender, inbox.Notice{Kind: Fork, Finding: true}, frame, h, why)
	case errors.Is(why, room.ErrNoKey):
		j.unopened(frame, h)
	case errors.As(why, &bad):
		j.keyAskedAt[bad.epoch] = time.Now()
		j.noteOnce(bad.epoch, inbox.Notice{Kind: Key, Finding: true}, frame, h, bad.error)
	case errors.Is(why, store.ErrUnavailable), errors.Is(why, store.ErrIntegrity), errors.Is(why, store.ErrDenied):
		return fmt.Errorf("room %s: %w", j.f.r.Subject(), why)
	default:
		j.forged(frame, why)
	}
	return nil
}

// overWith reports whether what a sender says of another history is of the past: a person takes the room for what it is
// up to there, or the sender was removed since and is back.
func (j *judging) overWith(frame store.Frame, h crypto.Header) bool {
	return j.f.r.Ledger().OutSince(frame.Sender, h.At) || j.f.reach.Accepts(frame.Seq)
}

// unopened counts a frame of an epoch whose key this client does not have. A key that the log owes it is being
// withheld, unless it may have been left out when its access to the bus had ended.
func (j *judging) unopened(frame store.Frame, h crypto.Header) {
	if !j.f.facts.Owes(h.Epoch) {
		j.unread++
		return
	}
	j.noteOnce(h.Epoch, inbox.Notice{Kind: Key, Finding: !j.f.r.WasOut(j.f.r.Key())}, frame, h, fmt.Errorf("the key of epoch %d, which this room's log says is for you, is not to be had", h.Epoch))
	if j.mayFetch(h.Epoch) {
		j.keyAskedAt[h.Epoch] = time.Now()
	}
}

// badKey is an epoch's key that is not what the log says it is. It ends nothing: other epochs can be read.
type badKey struct {
	epoch uint32
	error
}

// Unwrap is what is wrong with the key.
func (b *badKey) Unwrap() error { return b.error }

// mayFetch reports whether an epoch's key is to be asked for: it is for this client, and was not just asked for.
func (j *judging) mayFetch(epoch uint32) bool {
	return j.f.facts.Owes(epoch) && time.Since(j.keyAskedAt[epoch]) >= askEvery
}

// note tells of a frame, of which its header is as far as it could be read.
func (j *judging) note(n inbox.Notice, frame store.Frame, h crypto.Header, why error) {
	if frame.Seq < j.f.from {
		return // it is only read to know what comes after it
	}
	j.f.tell(n.About(frame.Sender, h, frame.Seq, why))
}

// once is what a feed tells but once: that a sender's frames are refused or wait for the log, or that an epoch's key cannot
// be had. Whatever a person has settled says nothing of what came later.
type once struct {
	about   any
	settled bool
}

// noteOnce tells of the first frame that something makes unreadable, of those that are wanted.
func (j *judging) noteOnce(about any, n inbox.Notice, frame store.Frame, h crypto.Header, why error) {
	o := once{about, j.f.reach.Accepts(frame.Seq)}
	if j.told[o] || frame.Seq < j.f.from {
		return
	}
	j.told[o] = true
	j.note(n, frame, h, why)
}
