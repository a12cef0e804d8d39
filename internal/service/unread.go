package service

import (
	"context"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/crypto"
)

// Answers that nobody reads have to be kept by somebody: over NATS by the servers, over HTTP by the service. Both are bounded
// for each caller, by not answering it until it has read.

const (
	maxUnread  = 16 << 20               // bytes of answers to one caller that its servers may still hold
	unreadWait = 250 * time.Millisecond // for the servers to say what they hold, and between two times that they are asked in vain
)

// unread bounds the answers that servers hold for a caller who asks and does not read. What one connection
// does not read is the servers' to bound, but one user may have many. After each maxUnread bytes the servers
// are asked how much of them is still there.
type unread struct {
	held    func(ctx context.Context, user crypto.PublicKey) (bytes int, err error)
	callers *recent[crypto.PublicKey, *handed]
	now     func() time.Time
}

// handed is what one caller was answered since the servers held nothing, or little, of it.
type handed struct {
	mu    sync.Mutex
	bytes int
	full  time.Time // until then it is not asked again
}

// newUnread asks the servers by held, which says how many bytes they hold for a user.
func newUnread(held func(context.Context, crypto.PublicKey) (int, error), now func() time.Time) *unread {
	return &unread{held: held, callers: newRecent[crypto.PublicKey, *handed](maxRefused), now: now}
}

// of is what a caller was answered, made if it was nothing yet.
func (u *unread) of(caller crypto.PublicKey) *handed {
	return u.callers.getOrMake(caller, func() *handed { return new(handed) })
}

// full reports whether a caller has to read before it is answered again. Servers that do not say are taken to
// hold nothing.
func (u *unread) full(ctx context.Context, caller crypto.PublicKey) bool {
	h := u.of(caller)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bytes < maxUnread {
		return false
	}
	if u.now().Before(h.full) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, unreadWait)
	defer cancel()
	held, err := u.held(ctx, caller)
	if err == nil && held >= maxUnread {
		h.full = u.now().Add(unreadWait)
		return true
	}
	if err == nil {
		h.bytes = held
	}
	return false
}

// add notes an answer.
func (u *unread) add(caller crypto.PublicKey, bytes int) {
	h := u.of(caller)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bytes += bytes
}

// writing bounds the answers over HTTP that are being written to one caller: who asks over many connections and
// reads slowly has the service hold no more than maxUnread bytes for it, or one answer.
type writing struct {
	mu    sync.Mutex
	bytes map[crypto.PublicKey]int
}

// begin notes an answer that is about to be written; false when there is no room for it. end has to follow.
func (w *writing) begin(caller crypto.PublicKey, bytes int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if held := w.bytes[caller]; held > 0 && held+bytes > maxUnread {
		return false
	}
	if w.bytes == nil {
		w.bytes = map[crypto.PublicKey]int{}
	}
	w.bytes[caller] += bytes
	return true
}

// end notes that an answer was written, or that nobody reads it any more.
func (w *writing) end(caller crypto.PublicKey, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bytes[caller] -= bytes; w.bytes[caller] <= 0 {
		delete(w.bytes, caller)
	}
}
