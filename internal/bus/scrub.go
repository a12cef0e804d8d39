package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// What a server keeps of a stream it knows from an index, so that of a record that a disk has damaged or lost it
// learns when somebody reads there, and on several servers not even then: another one answers. So this file has an
// embedded server's files read (records.go), and held against what it says that it has.

// How many bytes are read a second, at most: beside a server that works, and before there is one, or while one hangs.
const (
	scrubRate = 32 << 20
	startRate = 1 << 30
)

// hangsAfter is how long the embedded server may take to say what it has: it was seen to hold a stream's lock for ever over
// some damage to its files.
const hangsAfter = 30 * time.Second

// hangSteps is in how many steps that time is counted.
const hangSteps = 30

// ErrHangs is an ErrDamaged: the embedded server does not go on over what its files hold.
var ErrHangs = fmt.Errorf("%w", store.ErrDamaged)

// Streams are the names of the streams that the embedded server keeps in the store's account. ErrHangs when it does not
// say.
func (s *Server) Streams(ctx context.Context) ([]string, error) {
	states, err := s.states(ctx)
	var names []string
	for name := range states {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, err
}

// states are what the embedded server says that it has, by stream; none while JetStream is off. ErrHangs when it does not say:
// whoever asks goes on, and the question is left behind.
func (s *Server) states(ctx context.Context) (map[string]server.StreamState, error) {
	if !s.ns.JetStreamEnabled() {
		return nil, nil
	}
	var info *server.JSInfo
	var err error
	answered := make(chan struct{})
	go func() { // ends with the answer, or with the process
		defer close(answered)
		info, err = s.ns.Jsz(&server.JSzOptions{Account: AccountStore, Streams: true})
	}()
	// A process that was stopped for a while, or a machine that slept, comes back with all of its timers run out at once: what
	// counts is the time in which the server could have answered.
	steps := time.NewTicker(s.hangsAfter / hangSteps)
	defer steps.Stop()
	for left, waiting := hangSteps, true; waiting; {
		select {
		case <-answered:
			waiting = false
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-steps.C:
			if left--; left == 0 {
				return nil, fmt.Errorf("%w: the NATS server of this process has not said for %v what it has: it hangs, as it does over some damage to its files", ErrHangs, s.hangsAfter)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	states := map[string]server.StreamState{}
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			states[stream.Name] = stream.State
		}
	}
	return states, nil
}

// Lack is what a stream's files do not hold whole.
type Lack struct {
	Held uint64 // of its messages, or of its keys if it is a bucket
	Dead uint64 // records of what was removed or overwritten since: nobody misses them, but a server that was not stopped cleanly gives up what is behind them
}

// both is what two looks have found.
func (l Lack) both(m Lack) Lack { return Lack{min(l.Held, m.Held), min(l.Dead, m.Dead)} }

// scrubAgain is how much later what was found is looked at again: by then what the server had said that it holds is in
// its files, if only in the memory of the machine.
const scrubAgain = 2 * time.Second

// ScrubTime is about how long it takes to read the files of streams.
func (s *Server) ScrubTime(ctx context.Context, names ...string) (time.Duration, error) {
	states, err := s.states(ctx)
	bytes := 0.0
	for _, name := range names {
		bytes += float64(states[name].Bytes)
	}
	return time.Duration(bytes / scrubRate * float64(time.Second)), err
}

// Scrub reads the files in which the embedded server keeps streams, at 32 MiB a second at most, and says what of each
// they do not hold whole; streams that lack nothing are left out. What is being written or removed meanwhile looks like that:
// so what was found is looked at again a little later, and held against what the server had said the first time.
func (s *Server) Scrub(ctx context.Context, names ...string) (lacking map[string]Lack, err error) {
	before, err := s.states(ctx)
	if err != nil {
		return nil, err
	}
	first, err := s.lacking(ctx, before, names)
	if err != nil || len(first) == 0 {
		return nil, err
	}
	if err := tasks.Pause(ctx, scrubAgain); err != nil {
		return nil, err
	}
	second, err := s.lacking(ctx, before, slices.Collect(maps.Keys(first)))
	if err != nil {
		return nil, err
	}
	lacking = map[string]Lack{}
	for name := range second {
		if both := second[name].both(first[name]); both != (Lack{}) {
			lacking[name] = both
		}
	}
	return lacking, nil
}

// lacking is one look at the files of streams that had been in a state before.
func (s *Server) lacking(ctx context.Context, before map[string]server.StreamState, names []string) (lacking map[string]Lack, err error) {
	found := map[string]*records{}
	for _, name := range names {
		if found[name], err = s.scan(ctx, name, before[name]); err != nil {
			return nil, err
		}
	}
	after, err := s.states(ctx)
	if err != nil {
		return nil, err
	}
	lacking = map[string]Lack{}
	for name, r := range found {
		if is, still := after[name]; still {
			if l := (Lack{r.lacking(is), r.dead}); l != (Lack{}) {
				lacking[name] = l
			}
		}
	}
	return lacking, nil
}

// streamsIn is where a server keeps the streams of the store's account.
func streamsIn(storeDir string) string { return filepath.Join(storeDir, AccountStore, "streams") }

// scan reads the files of a stream in a state.
func (s *Server) scan(ctx context.Context, name string, was server.StreamState) (*records, error) {
	return scan(ctx, scrubRate, filepath.Join(streamsIn(s.ns.StoreDir()), name, "msgs"), name, was)
}

// Kept is what is kept of a bucket in a folder of which no server runs.
type Kept struct {
	Keys    uint64 // of which the last record is whole
	Damaged bool   // a server would hang over a record, or give up others that are behind it
}

// LookAtKept reads what an embedded server with a folder would find of a bucket; false when there is nothing, of which it
// makes a new copy.
func LookAtKept(ctx context.Context, dir, name string) (Kept, bool, error) {
	msgs := filepath.Join(streamsIn(filepath.Join(dir, "jetstream")), name, "msgs")
	files, err := os.ReadDir(msgs)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !slices.ContainsFunc(files, func(f fs.DirEntry) bool {
		return f.Name() == "index.db" || strings.HasSuffix(f.Name(), ".blk")
	}) {
		return Kept{}, false, nil
	}
	if err != nil {
		return Kept{}, false, err
	}
	found, err := scan(ctx, startRate, msgs, name, server.StreamState{LastSeq: math.MaxInt64})
	if err != nil {
		return Kept{}, false, err
	}
	return Kept{found.held, found.deadly}, true, nil
}

// LookForHang reads the files with which an embedded server starts in a folder, those of buckets first, and returns the
// stream that has a record over which a server may hang; empty when none has.
func LookForHang(ctx context.Context, dir string) (stream string, err error) {
	folder := streamsIn(filepath.Join(dir, "jetstream"))
	streams, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	slices.SortStableFunc(streams, func(a, b fs.DirEntry) int { // there are few buckets, and much is in rooms
		return strings.Compare(a.Name()[:1], b.Name()[:1])
	})
	for _, s := range streams {
		found, err := scan(ctx, startRate, filepath.Join(folder, s.Name(), "msgs"), s.Name(), server.StreamState{LastSeq: math.MaxInt64})
		if err != nil {
			return "", err
		}
		if found.deadly {
			return s.Name(), nil
		}
	}
	return "", nil
}

// KeysOf is how many keys a bucket has.
func KeysOf(ctx context.Context, nc *nats.Conn, bucket string) (uint64, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	s, err := js.Stream(ctx, bucket)
	if err != nil {
		return 0, failure(err)
	}
	return s.CachedInfo().State.NumSubjects, nil
}

// Keys are how many keys the embedded server holds of buckets, by its own word.
func (s *Server) Keys(ctx context.Context, names ...string) (map[string]uint64, error) {
	states, err := s.states(ctx)
	keys := map[string]uint64{}
	for _, name := range names {
		keys[name] = uint64(states[name].NumSubjects)
	}
	return keys, err
}
