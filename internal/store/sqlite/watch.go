package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/store"
)

// pollEvery is how soon an Append of another process is noticed; one of this process wakes the
// watcher at once. A poll that finds nothing reads one page of the WAL index.
const pollEvery = 100 * time.Millisecond

// Watch reports every entry that arrives from now on, whichever process appends it.
func (s *Store) Watch(ctx context.Context) (<-chan store.Notice, error) {
	var last int64
	if err := s.read.QueryRowContext(ctx, `SELECT coalesce(max(n), 0) FROM entries`).Scan(&last); err != nil {
		return nil, fmt.Errorf("watch: %w", failure(err))
	}
	out, poke := make(chan store.Notice, page), make(chan struct{}, 1)
	s.mu.Lock()
	s.watchers[poke] = true
	s.mu.Unlock()
	go func() {
		defer close(out)
		defer func() {
			s.mu.Lock()
			delete(s.watchers, poke)
			s.mu.Unlock()
		}()
		s.watch(ctx, last, poke, out)
	}()
	return out, nil
}

func (s *Store) watch(ctx context.Context, last int64, poke <-chan struct{}, out chan<- store.Notice) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.closing:
			return
		case <-poke:
		case <-tick.C:
		}
		arrived, err := s.arrived(ctx, last)
		if err != nil {
			continue // the next tick asks again; nothing is skipped
		}
		for _, a := range arrived {
			select {
			case out <- a.notice:
				last = a.n
			case <-ctx.Done():
				return
			case <-s.closing:
				return
			}
		}
	}
}

type arrival struct {
	n      int64
	notice store.Notice
}

func (s *Store) arrived(ctx context.Context, after int64) ([]arrival, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	return rows(ctx, s.read, func(scan func(...any) error) (arrival, error) {
		var a arrival
		err := scan(&a.n, Blob(a.notice.Log[:]), &a.notice.Seq)
		return a, err
	}, `SELECT n, log, seq FROM entries WHERE n > ? ORDER BY n LIMIT ?`, after, page)
}
