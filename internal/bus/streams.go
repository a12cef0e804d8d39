package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file keeps the streams of rooms as the rooms' policies say: StreamForm is how a stream has to be, Ensure makes it so,
// and EnsureListed first looks whether there is anything to do.

// dedupe is how long a stream knows a frame's id, so how late a repetition may come. Ids are kept in
// the servers' memory for so long, and a member chooses how long they are: it is short.
const dedupe = time.Minute

// Streams makes room streams what the rooms' policies say.
type Streams struct {
	js       jetstream.JetStream
	replicas func(ctx context.Context) (int, error)
}

// NewStreams works over the service's own connection. Replicas says how often a new stream is kept;
// what is there keeps its number.
func NewStreams(nc *nats.Conn, replicas func(ctx context.Context) (int, error)) (*Streams, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(10*time.Second))
	return &Streams{js, replicas}, err
}

// Any is the name of one stream that keeps a room; empty when there is none.
func (s *Streams) Any(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancel(ctx) // the rest of the list is not wanted
	defer cancel()
	names := s.js.StreamNames(ctx, jetstream.WithStreamListSubject("unibus.s.>"))
	for name := range names.Name() {
		return name, nil
	}
	if err := names.Err(); err != nil && !errors.Is(err, jetstream.ErrEndOfData) {
		return "", fmt.Errorf("list streams: %w", failure(err))
	}
	return "", nil
}

// Holds reports whether there is a stream of that name with something in it.
func (s *Streams) Holds(ctx context.Context, name string) (bool, error) {
	stream, err := s.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stream %s: %w", name, failure(err))
	}
	return stream.CachedInfo().State.Msgs > 0, nil
}

// Logged asks what policy a room's log has now, as a quorum of whatever keeps it knows.
type Logged func(ctx context.Context) (ledger.Policy, error)

// Ensure makes or changes a room's stream, so that it is as the policy says that the room's log has. A stream is never
// removed: when storing ends it is emptied, which keeps its numbers, so that a place never means two frames.
func (s *Streams) Ensure(ctx context.Context, room crypto.ID, logged Logged) error {
	p, err := logged(ctx)
	if err != nil {
		return err
	}
	if !p.Stored() {
		p, err = s.empty(ctx, StreamName(room), logged)
	}
	if err == nil && p.Stored() {
		err = s.make(ctx, StreamForm(room, p))
	}
	if err != nil {
		return fmt.Errorf("the stream of room %s: %w", room, failure(err))
	}
	return nil
}

// EnsureListed is Ensure for a room whose policy the store lists. That only tells whether there is something to do: what
// is done may remove messages, and is done by the log's.
func (s *Streams) EnsureListed(ctx context.Context, room crypto.ID, listed ledger.Policy, logged Logged) error {
	due, err := s.due(ctx, room, listed)
	if err != nil || !due {
		return err
	}
	return s.Ensure(ctx, room, logged)
}

// due reports whether a room's stream is not as a policy says.
func (s *Streams) due(ctx context.Context, room crypto.ID, p ledger.Policy) (bool, error) {
	stream, err := s.js.Stream(ctx, StreamName(room))
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return p.Stored(), nil
	case err != nil:
		return false, fmt.Errorf("the stream of room %s: %w", room, failure(err))
	case p.Stored():
		return len(Deviations(stream.CachedInfo().Config, StreamForm(room, p))) > 0, nil
	}
	return stream.CachedInfo().State.Msgs > 0, nil
}

// StreamForm is what the stream of a stored room has to be; Replicas is not said. A frame is published
// to the stream, and by the server to the room's readers once it is stored (RePublish); the past is read
// by direct get (SPEC.md §7).
func StreamForm(room crypto.ID, p ledger.Policy) jetstream.StreamConfig {
	age := time.Duration(min(uint64(p.Retain.Age), uint64(1<<63-1)/uint64(time.Second))) * time.Second
	cfg := jetstream.StreamConfig{
		Name: StreamName(room), Subjects: []string{storedFilter(room)},
		RePublish:   &jetstream.RePublish{Source: storedFilter(room), Destination: "unibus.r." + room.String() + ".{{wildcard(1)}}"},
		AllowDirect: true,
		MaxAge:      age, MaxBytes: -1, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage,
		Duplicates: dedupe, Metadata: map[string]string{"unibus": "room"},
	}
	if age > 0 {
		cfg.Duplicates = min(dedupe, age)
	}
	if p.Retain.Bytes > 0 {
		cfg.MaxBytes = int64(p.Retain.Bytes)
	}
	return cfg
}

// Conform gives a stream's configuration the form that want has, and reports whether it had another.
// ErrInvalid for the stream of an earlier build, whose messages stand under other subjects.
func Conform(is *jetstream.StreamConfig, want jetstream.StreamConfig) (changed bool, err error) {
	if !slices.Equal(is.Subjects, want.Subjects) {
		return false, fmt.Errorf("%w: %s holds data of an earlier build of unibus, which this one cannot read", store.ErrInvalid, is.Name)
	}
	if len(Deviations(*is, want)) == 0 {
		return false, nil
	}
	is.MaxAge, is.MaxBytes, is.Duplicates = want.MaxAge, want.MaxBytes, want.Duplicates
	is.RePublish, is.AllowDirect, is.PersistMode, is.Discard = want.RePublish, want.AllowDirect, want.PersistMode, want.Discard
	return true, nil
}

// make makes a stream, or gives the one that is there the form that it has to have. Another service may be quicker, with the
// same form.
func (s *Streams) make(ctx context.Context, cfg jetstream.StreamConfig) error {
	old, err := s.js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if cfg.Replicas, err = s.replicas(ctx); err != nil {
			return err
		}
		if _, err = s.js.CreateStream(ctx, cfg); !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err
		}
		old, err = s.js.Stream(ctx, cfg.Name) // another service was quicker
	}
	if err != nil {
		return err
	}
	is := old.CachedInfo().Config
	changed, err := Conform(&is, cfg)
	if err == nil && changed {
		_, err = s.js.UpdateStream(ctx, is)
	}
	return err
}

// emptyTries is how often what came meanwhile is removed as well.
const emptyTries = 3

// empty removes what a stream holds, if there is one, unless the room stores messages by now: it returns the policy that
// it has. Where the stream ends is asked before the log is: what was stored after the room began to store messages again
// is behind that, however late what removes the others arrives.
func (s *Streams) empty(ctx context.Context, name string, logged Logged) (p ledger.Policy, err error) {
	for range emptyTries {
		old, err := s.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return p, nil
		}
		if err != nil {
			return p, err
		}
		end := old.CachedInfo().State
		if end.Msgs == 0 {
			return p, nil
		}
		if p, err = logged(ctx); err != nil || p.Stored() {
			return p, err
		}
		if err := old.Purge(ctx, jetstream.WithPurgeSequence(end.LastSeq+1)); err != nil {
			return p, err
		}
	}
	return p, nil
}

// Current reports whether every copy of a stream has all that its leader has.
func Current(info *jetstream.StreamInfo) bool {
	if info.Cluster == nil {
		return info.Config.Replicas == 1
	}
	if info.Cluster.Leader == "" || len(info.Cluster.Replicas)+1 != info.Config.Replicas {
		return false
	}
	for _, r := range info.Cluster.Replicas {
		if !r.Current || r.Offline {
			return false
		}
	}
	return true
}
