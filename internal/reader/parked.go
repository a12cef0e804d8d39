package reader

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/inbox"
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

// parked is a frame that names an entry of the room's log that this client cannot get yet. Its writer may be ahead of this
// client, or has made the entry up. Where the frame could be verified by what is known already, a member has seen that
// entry, and not to be given it means that the store withholds it.
type parked struct {
	frame    store.Frame
	verified bool
	until    time.Time
}

// waiting holds a feed's parked frames, in the order in which they came. The log is asked for now and then; when it has
// grown they are judged again, and those that have waited for patience.Log are given up and told of.
type waiting struct {
	f       *feed
	frames  []parked
	bytes   int
	head    uint64                      // of the log, when they were looked at
	next    time.Time                   // when the log is asked for again
	askers  map[asker]time.Time         // when the log was asked for because of a frame
	synced  time.Time                   // when the log was had last
	dropped map[crypto.PublicKey]inVain // frames that waited in vain and may have been anything
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
	sender   crypto.PublicKey
	verified bool
}

// mayAsk reports whether a frame that is ahead may have the log's head asked for. A liar who names far places does
// not make us ask all the time, and does not keep others' frames from it.
func (w *waiting) mayAsk(sender crypto.PublicKey, verified bool) bool {
	if !w.f.facts.Known(sender) {
		sender = crypto.PublicKey{}
	}
	now := time.Now()
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
func (w *waiting) park(frame store.Frame, v *ledger.Verdict) {
	w.frames = append(w.frames, parked{frame, v != nil, time.Now().Add(patience.Log)})
	w.bytes += len(frame.Data)
	for w.bytes > parkedBytes {
		w.giveUpParked(w.frames[0])
		w.frames = slices.Delete(w.frames, 0, 1)
	}
	w.head = w.f.r.State().Head.Seq
	if w.next.IsZero() {
		w.next = time.Now().Add(askEvery)
	}
}

// unpark looks at the parked frames again when the log has grown, has the log asked for now and then, and gives
// up on those that have waited in vain. It says when to look again; zero for never.
func (w *waiting) unpark() (again time.Time, err error) {
	now := time.Now()
	if len(w.frames) == 0 {
		return time.Time{}, nil
	}
	if !now.Before(w.next) {
		w.next = now.Add(askEvery)
		switch err := w.f.r.Sync(w.f.ctx); {
		case err == nil:
			w.synced = now
		case !errors.Is(err, store.ErrUnavailable):
			return time.Time{}, err
		}
	}
	if head := w.f.r.State().Head.Seq; head != w.head {
		w.head = head
		again := w.frames
		w.frames, w.bytes = nil, 0
		for i, p := range again {
			n := len(w.frames)
			if err := w.f.judging.take(w.f.ctx, p.frame); err != nil {
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
			w.giveUpParked(p)
		}
	}
	clear(w.frames[len(kept):])
	if w.frames = kept; len(kept) == 0 {
		w.next = time.Time{}
	}
	w.tellDropped()
	return w.next, nil
}

// giveUpAllParked waits no longer.
func (w *waiting) giveUpAllParked() {
	for _, p := range w.frames {
		w.giveUpParked(p)
	}
	w.frames = nil
	w.tellDropped()
}

// giveUpParked drops a frame that waited in vain.
func (w *waiting) giveUpParked(p parked) {
	w.bytes -= len(p.frame.Data)
	if !p.verified {
		if w.dropped == nil {
			w.dropped = map[crypto.PublicKey]inVain{}
		}
		if len(w.dropped) < maxAskers {
			d := w.dropped[p.frame.Sender]
			waited := w.synced.After(p.until.Add(-patience.Log))
			w.dropped[p.frame.Sender] = inVain{d.frames + 1, max(d.place, p.frame.Seq), d.finding || w.f.stored && w.f.facts.Known(p.frame.Sender) && waited}
		}
		return
	}
	h, _ := crypto.ParseHeader(p.frame.Data)
	w.f.judging.note(inbox.Notice{Kind: Withheld, Finding: true}, p.frame, h, fmt.Errorf("%w: it is at entry %d, the log here ends at %d", ledger.ErrWithheld, h.At, w.f.r.State().Head.Seq))
}

// tellDropped tells of frames that may have been anything. In a stored room nobody but a member, the server or a damaged
// disk puts them under that member's subject: they are rubbish, or the log is withheld.
func (w *waiting) tellDropped() {
	for sender, d := range w.dropped {
		w.f.tell(inbox.Notice{
			Kind: Ahead, Finding: d.finding, Sender: sender, From: 1, To: d.frames, Place: d.place,
			Why: "named entries of the room's log that are not to be had, withheld or never made; dropped, since nobody can tell what they were",
		})
	}
	clear(w.dropped)
}
