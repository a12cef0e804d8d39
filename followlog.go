package unibus

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
)

// lookAgain is how long a log is followed at most without asking the store: an admin who is in no room of a log is not told
// when it grows.
const lookAgain = 10 * time.Second

// logFollower reads on in a log whenever it may have grown.
type logFollower struct {
	c    *Client
	log  *mirror.Log
	tail *mirror.Tail
	tell func(*ledger.Entry) LogEntry
}

// followLog yields what tell makes of the entries of a log, those that are there and those that come.
func followLog(ctx context.Context, c *Client, l *mirror.Log, tell func(*ledger.Entry) LogEntry) iter.Seq2[[]LogEntry, error] {
	return func(yield func([]LogEntry, error) bool) {
		f := &logFollower{c, l, mirror.NewTail(l), tell}
		if err := f.run(ctx, func(list []LogEntry) bool { return yield(list, nil) }); err != nil && ctx.Err() == nil {
			yield(nil, err)
		}
	}
}

// run hands on entries until ctx ends, nobody takes them any more, or something is wrong.
func (f *logFollower) run(ctx context.Context, take func([]LogEntry) bool) error {
	if err := f.c.following.begin(ctx); err != nil {
		return err
	}
	began := false
	for wait := firstRefresh; ; {
		bell := f.c.following.bell(f.log.ID()) // before it is read, so that nothing is missed
		entries, err := f.tail.Next(ctx)
		pause := lookAgain
		switch {
		case err == nil:
			wait = firstRefresh
		case began && errors.Is(err, ErrUnavailable):
			pause, wait = wait, min(2*wait, lastRefresh)
		default:
			return f.ended(err)
		}
		if len(entries) > 0 {
			began = true
			if !take(f.told(entries)) {
				return nil
			}
		}
		if err := f.pause(ctx, bell, pause); err != nil {
			return err
		}
	}
}

// told are entries as callers know them.
func (f *logFollower) told(entries []*ledger.Entry) []LogEntry {
	list := make([]LogEntry, len(entries))
	for i, e := range entries {
		list[i] = f.tell(e)
	}
	return list
}

// pause waits until the log may have grown, or has to be asked for again.
func (f *logFollower) pause(ctx context.Context, bell <-chan struct{}, wait time.Duration) error {
	var over <-chan struct{} // never, straight at a store in a file
	if f.c.link.conn != nil {
		over = f.c.link.conn.Done()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.c.ctx.Done():
		return ErrClosed
	case <-over:
		return f.ended(ErrClosed)
	case <-bell:
	case <-timer.C:
	}
	return nil
}

// ended is why nothing more can be read: that the bus has ended the connection, if it has.
func (f *logFollower) ended(err error) error {
	if f.c.link.conn != nil {
		if refused := f.c.link.refused(); refused != nil {
			return refused
		}
	}
	return err
}
