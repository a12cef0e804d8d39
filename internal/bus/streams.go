package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// dedupe is how long a stream knows a frame's id, so how late a repetition may come.
const dedupe = 2 * time.Minute

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

// Ensure makes, changes or removes a room's stream, so that it is as the policy says.
func (s *Streams) Ensure(ctx context.Context, room crypto.ID, p ledger.Policy) error {
	if !p.Stored() {
		if err := s.js.DeleteStream(ctx, StreamName(room)); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("remove the stream of room %s: %w", room, failure(err))
		}
		return nil
	}
	if err := s.make(ctx, StreamForm(room, p)); err != nil {
		return fmt.Errorf("make the stream of room %s: %w", room, failure(err))
	}
	return nil
}

// StreamForm is what the stream of a stored room has to be, but for its replicas.
func StreamForm(room crypto.ID, p ledger.Policy) jetstream.StreamConfig {
	age := time.Duration(min(uint64(p.Retain.Age), uint64(1<<63-1)/uint64(time.Second))) * time.Second
	cfg := jetstream.StreamConfig{
		Name: StreamName(room), Subjects: []string{roomFilter(room)},
		MaxAge: age, MaxBytes: -1, Discard: jetstream.DiscardOld, Storage: jetstream.FileStorage,
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
	if is.MaxAge == cfg.MaxAge && is.MaxBytes == cfg.MaxBytes && is.Duplicates == cfg.Duplicates {
		return nil
	}
	is.MaxAge, is.MaxBytes, is.Duplicates = cfg.MaxAge, cfg.MaxBytes, cfg.Duplicates
	_, err = s.js.UpdateStream(ctx, is)
	return err
}
