package service

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/tasks"
)

// When an embedded server's files are read: the store's buckets soon after the start, and again and again; the rooms'
// messages, which may take hours, once a day.
const (
	scrubFirst = 20 * time.Second
	scrubEvery = 10 * time.Minute
	scrubRooms = 24 * time.Hour
	scrubAgain = 2 * time.Second // what was found, which may be so for a moment only

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
}

// found is what was found last.
func (s *scrub) found() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.lacking)
}

func newScrub(log *slog.Logger, server embedded) *scrub {
	return &scrub{changes: newChanges(log), server: server, looked: map[string]time.Time{}, lacking: map[string]string{}}
}

// meanwhile reads the store's buckets while a node starts, and until stop is called: a damaged file may keep a server from
// answering, and then nothing else says why.
func (s *scrub) meanwhile(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		names, _ := s.server.Streams() // met again when the service runs
		s.look(ctx, slices.DeleteFunc(names, ofRoom))
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
		names, err := s.server.Streams()
		if err != nil {
			s.say(slog.LevelWarn, "streams", err.Error(), "the server's files are not looked at", "error", err)
			continue
		}
		s.well("streams", "the server's files are looked at again")
		names = slices.DeleteFunc(names, func(name string) bool { return ofRoom(name) && time.Since(s.looked[name]) < scrubRooms })
		for chunk := range slices.Chunk(names, scrubAtOnce) {
			if s.look(ctx, chunk); ctx.Err() != nil {
				return
			}
		}
	}
}

// ofRoom reports whether a stream holds a room's messages.
func ofRoom(stream string) bool { return strings.HasPrefix(stream, "UNIBUS_") }

// look reads the files of some streams, and again of those with which something is wrong.
func (s *scrub) look(ctx context.Context, names []string) {
	lacking, err := s.server.Scrub(ctx, names...)
	if err == nil && len(lacking) > 0 {
		if err = tasks.Pause(ctx, scrubAgain); err == nil {
			first := lacking
			lacking, err = s.server.Scrub(ctx, slices.Collect(maps.Keys(first))...)
			for name := range lacking {
				lacking[name] = min(lacking[name], first[name])
			}
		}
	}
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		s.say(slog.LevelWarn, "files", err.Error(), "the files of streams could not be read", "error", err)
		return
	}
	s.well("files", "the files of streams can be read again")
	for _, name := range names {
		s.looked[name] = time.Now()
		s.tell(name, lacking[name])
	}
}

// tell says what is wrong with a stream.
func (s *scrub) tell(name string, lacking uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lacking == 0 {
		delete(s.lacking, name)
		s.well("stream "+name, "the files of a stream are whole again", "stream", name)
		return
	}
	what := fmt.Sprintf("%d of what it holds cannot be read, or is not there", lacking)
	s.lacking[name] = what
	s.say(slog.LevelError, "stream "+name, what, "this server's disk has damaged or lost some of a stream; where others keep that: "+bus.Recopy+"; else a backup has to be restored", "stream", name, "what", what)
}
