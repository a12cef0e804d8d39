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
// messages, which may take hours, once a day. An operator who asks before they were read has it begun at once.
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

	asked chan struct{} // somebody wants to know what has not been read yet

	mu      sync.Mutex
	lacking map[string]string // streams, and what is wrong with them
	once    bool              // those that were there have been read
	unread  string            // why they could not be, when that was tried last
	ready   time.Time         // by when, about, they will have been read; zero: it has not begun
}

// tellOf adds to a status what was found last, and whether the streams were looked at yet; if not, that is begun.
func (s *scrub) tellOf(status *bus.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	status.Reads = s.server != nil
	status.Lacking, status.Looked, status.Unread = maps.Clone(s.lacking), s.once, s.unread
	if status.Reading() {
		status.ReadFor = max(time.Until(s.ready), 0)
	}
	if status.Reads && (!s.once || s.unread != "") {
		select {
		case s.asked <- struct{}{}:
		default: // it will be, or is under way
		}
	}
}

// newScrub has read nothing yet.
func newScrub(log *slog.Logger, server embedded) *scrub {
	return &scrub{changes: newChanges(log), server: server, looked: map[string]time.Time{}, asked: make(chan struct{}, 1), lacking: map[string]string{}}
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
			_ = s.look(ctx, slices.DeleteFunc(names, bus.OfRoom)) // what it fails for it has told
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
	for wait := scrubFirst; s.pause(ctx, wait) == nil; wait = scrubEvery {
		s.round(ctx)
	}
}

// round reads what is to be read, and notes how that went.
func (s *scrub) round(ctx context.Context) {
	err := s.pass(ctx)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread = ""
	if s.once = s.once || err == nil; err != nil {
		s.unread = err.Error()
	}
	select {
	case <-s.asked: // meanwhile, for what is known by now
	default:
	}
}

// pause waits until it is time to read, or somebody asks for it.
func (s *scrub) pause(ctx context.Context, wait time.Duration) error {
	due := time.NewTimer(wait)
	defer due.Stop()
	select {
	case <-due.C:
	case <-s.asked:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// pass reads the files of all streams, but of rooms those that were not read today. Its error is the first of what could
// not be read; it goes on with the rest.
func (s *scrub) pass(ctx context.Context) (failed error) {
	names, err := s.server.Streams(ctx)
	if err == nil && s.server.NeedsRestart() { // of nothing it is said to have then anything is known
		err = errors.New("JetStream is off until it is started again")
	}
	if err != nil {
		s.report(slog.LevelWarn, "streams", err.Error(), "the server's files are not looked at", "error", err)
		return err
	}
	s.resolved("streams", "the server's files are looked at again")
	names = slices.DeleteFunc(names, func(name string) bool { return bus.OfRoom(name) && time.Since(s.looked[name]) < scrubRooms })
	if takes, err := s.server.ScrubTime(ctx, names...); err == nil { // else nobody is told how long
		s.mu.Lock()
		s.ready = time.Now().Add(takes)
		s.mu.Unlock()
	}
	for chunk := range slices.Chunk(names, scrubAtOnce) {
		if err := s.look(ctx, chunk); failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			return failed
		}
	}
	return failed
}

// look reads the files of some streams.
func (s *scrub) look(ctx context.Context, names []string) error {
	lacking, err := s.server.Scrub(ctx, names...)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		s.report(slog.LevelWarn, "files", err.Error(), "the files of streams could not be read", "error", err)
		return err
	}
	s.resolved("files", "the files of streams can be read again")
	for _, name := range names {
		s.looked[name] = time.Now()
		s.tell(name, lacking[name])
	}
	return nil
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
