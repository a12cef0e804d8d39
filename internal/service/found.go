package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/host"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// The first step of a start: which bus the store holds, or that it is founded now, and whether what the store holds of it
// is to be relied on. Where the store cannot answer yet, each of these is tried again.

// meet learns which bus this is, and makes sure of its allowlist before anybody is let in by it.
func (s *Service) meet(ctx context.Context, o Options, streams *bus.Streams, logs *logs) (*audit, error) {
	if err := o.wait(ctx, func() error { return s.found(ctx, o, streams) }); err != nil {
		return nil, fmt.Errorf("found the bus: %w", err)
	}
	s.seen = newSeen(o, s.Bus)
	look := &audit{store: o.Store, logs: logs, bus: s.Bus, seen: s.seen, log: o.Log}
	return look, o.wait(ctx, func() error {
		if err := s.seen.check(ctx, logs); err != nil {
			return err
		}
		return look.allowlist(ctx)
	})
}

// found learns which bus this is, or makes it one.
func (s *Service) found(ctx context.Context, o Options, streams *bus.Streams) error {
	if err := store.CheckWhole(ctx, o.Store); err != nil {
		return err
	}
	statement, err := o.Store.Bus(ctx)
	if errors.Is(err, store.ErrNotFound) && !o.Bus.IsZero() {
		return fmt.Errorf("%w: the store does not hold the bus %s yet", store.ErrUnavailable, o.Bus)
	}
	if errors.Is(err, store.ErrNotFound) {
		if err := neverUsed(ctx, o.Dir, streams); err != nil {
			return err
		}
		s.Founded = true
		_, err = store.Found(ctx, o.Store, o.Identity, o.Name, time.Now())
		if err != nil && !errors.Is(err, store.ErrExists) { // by another service just now
			return err
		}
		statement, err = o.Store.Bus(ctx)
	}
	if err != nil {
		return err
	}
	e, err := new(ledger.State).Check(statement)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	first := new(ledger.State).With(e)
	if first.Bus == nil {
		return fmt.Errorf("%w: the store's bus log is none", store.ErrDamaged)
	}
	if !o.Bus.IsZero() && first.ID != o.Bus {
		return fmt.Errorf("%w: the store holds the bus %s, not %s", store.ErrExists, first.ID, o.Bus)
	}
	s.Bus, s.Admin, s.founding = first.ID, e.By, e
	s.Founded = s.Founded && e.By == o.Identity.Key()
	return nil
}

// neverUsed makes sure that a bus is not founded where another was: its store is lost then, and its streams, or what is
// remembered of them, are not.
func neverUsed(ctx context.Context, dir string, streams *bus.Streams) error {
	const lost = "the store is empty, and there are room streams of an earlier bus (%s): nothing is founded beside them"
	if dir != "" {
		left, err := LoadMarks(MarksFile(dir))
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return fmt.Errorf("%w: "+lost, store.ErrDamaged, MarksFile(dir))
		}
		kept, err := keptRecord(dir)
		if err != nil {
			return err
		}
		if kept != "" {
			return fmt.Errorf("%w: the store is empty, and the bus of %s is kept in %s: nothing is founded in its place", store.ErrDamaged, dir, kept)
		}
	}
	name, err := streams.Any(ctx)
	if err == nil && name != "" {
		err = fmt.Errorf("%w: "+lost, store.ErrDamaged, name)
	}
	return err
}

// errSilent says that a server which nobody else can answer for was waited for long enough.
var errSilent = errors.New("the server does not answer for what it keeps")

// hasRoom reports whether a server can keep anything; without room it is waited for.
func (o *Options) hasRoom() bool {
	disk, err := host.DiskOf(o.Dir)
	return err != nil || disk.HasRoom()
}

// wait does f, again while the store cannot answer and waiting is wanted.
func (o *Options) wait(ctx context.Context, f func() error) error {
	waiting := newChanges(o.Log)
	for waited := time.Duration(0); ; {
		began := time.Now()
		err := f()
		if err == nil || !o.Patient || !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		// A process that was stopped meanwhile, or a machine that slept, has not waited for all of the time that has passed.
		waited += min(time.Since(began)+retryEvery, o.Alone/3)
		if o.Alone > 0 && waited >= o.Alone && o.hasRoom() {
			return fmt.Errorf("%w: for %v: %w", errSilent, o.Alone, err)
		}
		waiting.report(slog.LevelWarn, "store", err.Error(), "not ready yet", "error", err)
		if tasks.Pause(ctx, retryEvery) != nil {
			return err
		}
	}
}
