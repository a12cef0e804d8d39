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
// messages; store.ErrNotFound when it does not.
func (s *storedSource) query(ctx context.Context, q store.FramesQuery) (store.Past, error) {
	past, err := s.rd.Frames(ctx, s.r.ID, q)
	if errors.Is(err, store.ErrNotFound) && s.r.Sync(ctx) == nil && s.r.Readable() == nil && s.r.Ledger().Policy.Stored() {
		err = errNoStream
	}
	return past, err
}

// noteStream takes note of what came of a query, and tells when the stream has been missing for too long.
func (s *storedSource) noteStream(err error) {
	switch {
	case err == nil:
		s.missed = time.Time{}
	case !errors.Is(err, errNoStream):
	case s.missed.IsZero():
		s.missed = time.Now()
	case time.Since(s.missed) > patience.RolledBack:
		s.tellGone()
	}
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
