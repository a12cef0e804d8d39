package reader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/inbox"
	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/store"
)

// A room's stream is never removed, also when nothing is stored any more. So one that is not there is missing for a moment,
// while it is being made, or all that the room had stored is gone.

// noStream is what is wrong then.
const noStream = "the servers have no stream for it: what it had stored is gone"

// errNoStream is a store.ErrUnavailable: it may be a matter of moments.
var errNoStream = fmt.Errorf("%w: %s", store.ErrUnavailable, noStream)

// query reads a part of the past. errNoStream when the servers have none, though the room's log says that it stores
// messages; store.ErrNotFound when it does not, and store.ErrUnavailable when that cannot be asked.
func (s *storedSource) query(ctx context.Context, q store.FramesQuery) (store.Past, error) {
	past, err := s.rd.Frames(ctx, s.r.ID, q)
	if !errors.Is(err, store.ErrNotFound) {
		return past, err
	}
	switch unsynced := s.r.Sync(ctx); {
	case errors.Is(unsynced, store.ErrUnavailable), unsynced != nil && ctx.Err() != nil:
		return past, unsynced
	case unsynced == nil && s.r.Readable() == nil && s.r.Ledger().Policy.Stored():
		return past, errNoStream
	}
	return past, err
}

// isGone takes note of what came of a query, and reports whether every answer has said for long enough that there is no stream.
func (s *storedSource) isGone(err error) bool {
	switch {
	case err == nil:
		s.missed, s.gone = time.Time{}, false
	case !errors.Is(err, errNoStream): // which says nothing of it
		s.missed = time.Time{}
	case s.missed.IsZero():
		s.missed = time.Now()
	default:
		return time.Since(s.missed) > patience.RolledBack
	}
	return false
}

// tellGone tells, once, that the stream is not there.
func (s *storedSource) tellGone() {
	if s.gone {
		return
	}
	s.gone = true
	pinned, why := s.reach(), noStream
	if pinned > 0 {
		why = fmt.Sprintf("it reached to place %d before, and now %s", pinned, noStream)
	}
	s.tell(inbox.Notice{Kind: Gone, Finding: true, To: pinned, Why: why})
}
