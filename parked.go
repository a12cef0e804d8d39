package unibus

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/store"
)

// Limits of what waits for the room's log.
const (
	parkedBytes = 16 << 20
	askEvery    = time.Second // that the log's head is asked for because of one sender's frames
	maxAskers   = 256         // senders whose last asking is remembered
)

// parked are frames that name entries of the room's log that this client cannot get. An honest writer may be
// ahead; what is verified already is one, and its log is withheld.
type parked struct {
	frame    store.Frame
	verified bool
	until    time.Time
}

// waitingRoom holds a feed's parked frames, in the order in which they came.
type waitingRoom struct {
	frames  []parked
	bytes   int
	head    uint64               // of the log, when they were looked at
	next    time.Time            // when the log is asked for again
	askers  map[asker]time.Time  // when the log was asked for because of a frame
	synced  time.Time            // when the log was had last
	dropped map[PublicKey]inVain // frames that waited in vain and may have been anything
}

// inVain are frames of a sender that waited in vain.
type inVain struct {
	frames  uint64
	place   uint64 // of the last
	finding bool   // it was known meanwhile that the log does not reach so far
}

// asker is a sender at the reader's head, or all others together; those of frames that verified apart from those
// that may be anybody's.
type asker struct {
	sender   PublicKey
	verified bool
}

// mayAsk reports whether a frame that is ahead may have the log's head asked for. A liar who names far places does
// not make us ask all the time, and does not keep others' frames from it.
func (f *feed) mayAsk(sender PublicKey, verified bool) bool {
	if !f.r.known(sender) {
		sender = PublicKey{}
	}
	w, now := &f.waiting, time.Now()
	if now.Sub(w.askers[asker{sender, verified}]) < askEvery {
		return false
	}
	if len(w.askers) >= maxAskers || w.askers == nil {
		w.askers = map[asker]time.Time{}
	}
	w.askers[asker{sender, verified}] = now
	return true
}

// park keeps a frame until the log reaches it, or for a while.
func (f *feed) park(frame store.Frame, v *ledger.Verdict) {
	w := &f.waiting
	w.frames = append(w.frames, parked{frame, v != nil, time.Now().Add(patience.Log)})
	w.bytes += len(frame.Data)
	for w.bytes > parkedBytes {
		f.giveUpParked(w.frames[0])
		w.frames = slices.Delete(w.frames, 0, 1)
	}
	w.head = f.r.head().Seq
	if w.next.IsZero() {
		w.next = time.Now().Add(askEvery)
	}
}

// unpark looks at the parked frames again when the log has grown, has the log asked for now and then, and gives
// up on those that have waited in vain. It says when to look again; zero for never.
func (f *feed) unpark() (again time.Time, err error) {
	w, now := &f.waiting, time.Now()
	if len(w.frames) == 0 {
		return time.Time{}, nil
	}
	if !now.Before(w.next) {
		w.next = now.Add(askEvery)
		switch err := f.r.sync(f.ctx); {
		case err == nil:
			w.synced = now
		case !errors.Is(err, ErrUnavailable):
			return time.Time{}, err
		}
	}
	if head := f.r.head().Seq; head != w.head {
		w.head = head
		again := w.frames
		w.frames, w.bytes = nil, 0
		for i, p := range again {
			n := len(w.frames)
			if err := f.take(f.ctx, p.frame); err != nil {
				for _, p := range again[i:] {
					w.frames = append(w.frames, p)
					w.bytes += len(p.frame.Data)
				}
				return time.Time{}, err
			}
			if len(w.frames) > n { // it waits on, and no longer for that
				w.frames[n].until = p.until
			}
		}
	}
	kept := w.frames[:0]
	for _, p := range w.frames {
		if now.Before(p.until) {
			kept = append(kept, p)
		} else {
			f.giveUpParked(p)
		}
	}
	clear(w.frames[len(kept):])
	if w.frames = kept; len(kept) == 0 {
		w.next = time.Time{}
	}
	f.tellDropped()
	return w.next, nil
}

// giveUpAllParked waits no longer.
func (f *feed) giveUpAllParked() {
	for _, p := range f.waiting.frames {
		f.giveUpParked(p)
	}
	f.waiting.frames = nil
	f.tellDropped()
}

// giveUpParked drops a frame that waited in vain.
func (f *feed) giveUpParked(p parked) {
	w := &f.waiting
	w.bytes -= len(p.frame.Data)
	if !p.verified {
		if w.dropped == nil {
			w.dropped = map[PublicKey]inVain{}
		}
		if len(w.dropped) < maxAskers {
			d := w.dropped[p.frame.Sender]
			waited := w.synced.After(p.until.Add(-patience.Log))
			w.dropped[p.frame.Sender] = inVain{d.frames + 1, max(d.place, p.frame.Seq), d.finding || f.stored && f.r.known(p.frame.Sender) && waited}
		}
		return
	}
	h, _ := crypto.ParseHeader(p.frame.Data)
	f.note(NoticeWithheld, true, p.frame, h, fmt.Errorf("%w: it is at entry %d, the log here ends at %d", ledger.ErrWithheld, h.At, f.r.head().Seq))
}

// tellDropped tells of frames that may have been anything. In a stored room nobody but a member, the server or a damaged
// disk puts them under that member's subject: they are rubbish, or the log is withheld.
func (f *feed) tellDropped() {
	for sender, d := range f.waiting.dropped {
		f.tell(Notice{
			Kind: NoticeAhead, Finding: d.finding, Sender: f.s.c.nameOf(sender), From: 1, To: d.frames, Seq: d.place,
			Why: "named entries of the room's log that are not to be had, withheld or never made; dropped, since nobody can tell what they were",
		})
	}
	clear(f.waiting.dropped)
}
