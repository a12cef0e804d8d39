package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/tasks"
)

// A server answers what it reads from its files, and of what it cannot read it says that it is not there. That the disk is
// to blame nobody tells unless the files themselves are read, which is what is done here, beside the server.

// When an embedded server's files are read: the store's buckets soon after the start, and again and again; the rooms'
// messages, which may take hours, once a day.
const (
	scrubStart = 5 * time.Second // while a node starts, that its server is asked whether it goes on
	scrubFirst = 20 * time.Second
	scrubEvery = 10 * time.Minute
	scrubRooms = 24 * time.Hour

	scrubAtOnce = 64 // streams: what the server takes all of them to hold is asked once for so many
)

// scrub reads what the embedded server keeps of the streams, and tells of what is damaged or lost. On several servers
// others answer for what one cannot read, and nobody meets it, until they are gone.
type scrub struct {
	changes
	server embedded
	looked map[string]time.Time // rooms' streams

	mu      sync.Mutex
	lacking map[string]string // streams, and what is wrong with them
	once    bool              // those that were there have been read
}

// found is what was found last, and whether the streams were looked at yet.
func (s *scrub) found() (lacking map[string]string, looked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.lacking), s.once
}

// newScrub has read nothing yet.
func newScrub(log *slog.Logger, server embedded) *scrub {
	return &scrub{changes: newChanges(log), server: server, looked: map[string]time.Time{}, lacking: map[string]string{}}
}

// meanwhile reads the store's buckets while a node starts, and until stop is called: a damaged file may keep a server from
// answering, and then nothing else says why. A server that hangs over one has hung called.
func (s *scrub) meanwhile(ctx context.Context, hung func(error)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		names, err := s.server.Streams(ctx)
		if err == nil {
			s.look(ctx, slices.DeleteFunc(names, bus.OfRoom))
		}
		for !errors.Is(err, bus.ErrHangs) {
			if tasks.Pause(ctx, scrubStart) != nil {
				return
			}
			_, err = s.server.Streams(ctx) // what else it may fail for is met when the service runs
		}
		hung(err)
	}()
	return func() {
		cancel()
		<-done
	}
}

// run reads until ctx ends. The files of external servers are theirs.
func (s *scrub) run(ctx context.Context) {
	if s.server == nil {
		return
	}
	for wait := scrubFirst; tasks.Pause(ctx, wait) == nil; wait = scrubEvery {
		names, err := s.server.Streams(ctx)
		if err != nil {
			s.report(slog.LevelWarn, "streams", err.Error(), "the server's files are not looked at", "error", err)
			continue
		}
		s.resolved("streams", "the server's files are looked at again")
		names = slices.DeleteFunc(names, func(name string) bool { return bus.OfRoom(name) && time.Since(s.looked[name]) < scrubRooms })
		for chunk := range slices.Chunk(names, scrubAtOnce) {
			if s.look(ctx, chunk); ctx.Err() != nil {
				return
			}
		}
		s.mu.Lock()
		s.once = true
		s.mu.Unlock()
	}
}

// look reads the files of some streams.
func (s *scrub) look(ctx context.Context, names []string) {
	lacking, err := s.server.Scrub(ctx, names...)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		s.report(slog.LevelWarn, "files", err.Error(), "the files of streams could not be read", "error", err)
		return
	}
	s.resolved("files", "the files of streams can be read again")
	for _, name := range names {
		s.looked[name] = time.Now()
		s.tell(name, lacking[name])
	}
}

// tell says what is wrong with a stream.
func (s *scrub) tell(name string, lacking bus.Lack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lacking == (bus.Lack{}) {
		delete(s.lacking, name)
		s.resolved("stream "+name, "the files of a stream are whole again", "stream", name)
		return
	}
	what := fmt.Sprintf("%d of what it holds cannot be read, or is not there", lacking.Held)
	s.lacking[name] = what
	if lacking.Held == 0 {
		what = fmt.Sprintf("%d records of what was removed or overwritten are damaged: nothing is lost yet, but what is behind them is when this server next stops without a clean end", lacking.Dead)
		s.lacking[name] = what
		s.report(slog.LevelError, "stream "+name, what, "this server's disk has damaged some of what it does not need any more of a stream; without other servers make a backup now, and restore it into a new data folder, else: "+bus.Recopy, "stream", name, "what", what)
		return
	}
	s.report(slog.LevelError, "stream "+name, what, "this server's disk has damaged or lost some of a stream; without other servers a backup has to be restored, else: "+bus.Recopy, "stream", name, "what", what)
}
