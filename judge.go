package unibus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

var (
	errRevoked = errors.New("its sender's access to the bus was revoked")
	errStale   = errors.New("it was sealed more than ten minutes from now: old news shown as new, or a clock that is off")
)

// judge asks the ledger, fetching the log up to the frame's place and the key of its epoch where it must. What
// cannot be had is tried again within the client's timeout.
func (f *feed) judge(ctx context.Context, frame []byte, sender PublicKey, live bool) (*ledger.Verdict, error) {
	began, synced := time.Now(), false
	for wait := firstPause; ; wait = min(2*wait, maxPause) {
		v, err := f.r.judge(frame, sender, live)
		var need *needKey
		switch {
		case errors.As(err, &need):
			if err = f.r.keys.fetch(ctx, need); err == nil {
				continue
			}
		case errors.Is(err, ledger.ErrWithheld) && !synced && time.Since(f.useless) >= time.Second:
			serr := f.r.sync(ctx)
			if synced = serr == nil; synced {
				continue
			}
			if errors.Is(serr, ErrIntegrity) || errors.Is(serr, ErrUnavailable) || ctx.Err() != nil {
				err = serr
			} else {
				err = fmt.Errorf("%w (%v)", err, serr)
			}
		}
		if errors.Is(err, ledger.ErrWithheld) {
			f.useless = time.Now() // a liar who names far places does not make us ask all the time
		}
		if !errors.Is(err, ErrUnavailable) || time.Since(began) > f.s.c.o.Timeout {
			return v, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// judge asks the ledger with what is at hand. *needKey when that is not enough.
func (r *Room) judge(frame []byte, sender PublicKey, live bool) (v *ledger.Verdict, err error) {
	r.read(func(s *ledger.State) {
		v, err = s.Judge(frame, sender, func(epoch uint32) (*crypto.FrameKey, error) {
			if key := r.keys.cached(epoch); key != nil {
				return key, nil
			}
			return nil, &needKey{s.Room.Epochs, epoch}
		}, live)
	})
	return v, err
}

// refuse deals with a frame that is not accepted. Only a proven fork, or a store or key that
// cannot be had, ends the feed. What was interrupted says nothing about the frame.
func (f *feed) refuse(ctx context.Context, rcv received, frame store.Frame, why error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	h, _ := crypto.ParseHeader(frame.Data) // as far as it goes: it is for telling people
	rcv.Verdict = &ledger.Verdict{Header: h}
	note := func(kind NoticeKind, finding bool) error {
		if !rcv.context {
			f.q.note(kind, finding, rcv, h.Counter, h.Counter, why.Error())
		}
		return nil
	}
	switch {
	case errors.Is(why, ledger.ErrForkProven):
		err := fmt.Errorf("room %s: %w: %w (%s); the room is frozen until a person decides", f.r.Subject(), ErrIntegrity, why, f.s.c.nameOf(rcv.sender))
		f.r.freeze(err)
		return err
	case errors.Is(why, ledger.ErrForkClaimed):
		f.r.alarm(rcv.sender)
		return note(NoticeFork, true)
	case errors.Is(why, ledger.ErrWithheld):
		return note(NoticeWithheld, true)
	case errors.Is(why, errNoKey):
		f.unread++
		f.q.forget(rcv.sender, h)
		return nil
	case errors.Is(why, errRevoked), errors.Is(why, errStale), errors.Is(why, ledger.ErrNotWriter) && (!f.stored || frame.Seq >= f.fresh):
		f.q.forget(rcv.sender, h)
		return note(NoticeRefused, false)
	case errors.Is(why, ledger.ErrNotWriter), errors.Is(why, ledger.ErrEpoch), errors.Is(why, ledger.ErrEnded), errors.Is(why, ledger.ErrSuite):
		return note(NoticeRefused, true)
	case errors.Is(why, ErrUnavailable), errors.Is(why, ErrIntegrity), errors.Is(why, ErrDenied):
		return fmt.Errorf("room %s: %w", f.r.Subject(), why)
	}
	// In a stored room a writer, the server or a disk did this; to the readers of others the servers take
	// rubbish from anyone.
	return note(NoticeForged, f.stored)
}

// freeze stops the room: two histories of it are proven.
func (r *Room) freeze(err error) {
	r.smu.Lock()
	r.frozen = err
	r.smu.Unlock()
	r.end(err)
}

// isFrozen returns why the room is frozen; nil when it is not.
func (r *Room) isFrozen() error {
	r.smu.Lock()
	defer r.smu.Unlock()
	return r.frozen
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
