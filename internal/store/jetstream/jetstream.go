// Package jetstream is the replicated store: JetStream key-value buckets, on one server or on a
// cluster of them. The bucket unibus_log is the truth; the commit point of an Append is the Create of
// one key in it, <log>.<seq>. The other buckets are views, written after it, each record with the
// seq it comes from, so that a late writer never replaces what a later entry said. What a crash left
// behind is made up for by whoever touches the log next.
//
// Reads are linearizable. A get answered by one replica may be old for as long as a partition lasts,
// so that a read first has a barrier acknowledged by a quorum (Raft's read index, shared by reads
// that wait for one at the same time), and believes only a replica that has reached it. Without a
// quorum nothing is answered: ErrUnavailable, within OpTimeout.
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/direct"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// Buckets are the names of the key-value buckets, the log first.
var Buckets = []string{"unibus_log", "unibus_rooms", "unibus_members", "unibus_rooms_by_member", "unibus_room_keys", "unibus_users"}

// Options of Open. The zero value is the default.
type Options struct {
	OpTimeout time.Duration // 0: store.DefaultOpTimeout
	Replicas  int           // of buckets that are made now, 1 to 5; 0: 1. Those that exist stay as they are
	Existing  bool          // fail with ErrNotFound instead of making the buckets
}

// Store keeps everything in the JetStream of one account.
type Store struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	direct  *direct.Client
	timeout time.Duration

	log, rooms, members, roomsOf, keys, users *bucket

	allowed copied // of the users bucket

	mu    sync.Mutex
	heads map[crypto.ID]ledger.Head // last entries known to be there: a place to begin, never the answer

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wait   tasks.Group
}

var _ store.Store = (*Store)(nil)

var errClosed = fmt.Errorf("%w: the store is closed", store.ErrUnavailable)

// Open makes the buckets if they are not there, and returns when they are, or when ctx ends: a
// cluster takes a while to find together. The connection stays its owner's, and outlives the store.
func Open(ctx context.Context, nc *nats.Conn, o Options) (*Store, error) {
	if o.OpTimeout == 0 {
		o.OpTimeout = store.DefaultOpTimeout
	}
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Replicas < 0 || o.Replicas > 5 {
		return nil, fmt.Errorf("open the store: %w: %d replicas; 1 to 5 are possible", store.ErrInvalid, o.Replicas)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(o.OpTimeout), jetstream.WithPublishAsyncMaxPending(maxPending), jetstream.WithPublishAsyncTimeout(attempt))
	if err != nil {
		return nil, err
	}
	s := &Store{nc: nc, js: js, timeout: o.OpTimeout, heads: map[crypto.ID]ledger.Head{}}
	if s.direct, err = direct.New(nc); err != nil {
		return nil, fmt.Errorf("open the store: %w", failure(err))
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.allowed.users = map[crypto.PublicKey]ledger.User{}
	for i, b := range []**bucket{&s.log, &s.rooms, &s.members, &s.roomsOf, &s.keys, &s.users} {
		*b = newBucket(s, Buckets[i])
		if err := s.ensure(ctx, Buckets[i], o); err != nil {
			s.Close()
			return nil, fmt.Errorf("open the store: %w", err)
		}
	}
	return s, nil
}

// ParseURL reads nats://HOST:PORT[,…][?replicas=N] or tls://…: where the servers are, and on how many
// of them a store that is made now is kept.
func ParseURL(text string) (servers string, replicas int, err error) {
	servers, query, _ := strings.Cut(text, "?")
	values, err := url.ParseQuery(query)
	if err == nil && values.Has("replicas") {
		replicas, err = strconv.Atoi(values.Get("replicas"))
		values.Del("replicas")
		if err == nil && (replicas < 1 || replicas > 5) {
			return "", 0, fmt.Errorf("store %q: %w: 1 to 5 replicas are possible", redact.URL(text), store.ErrInvalid)
		}
	}
	if err != nil || len(values) > 0 {
		return "", 0, fmt.Errorf("store %q: %w: after the ? only replicas=N is known", redact.URL(text), store.ErrInvalid)
	}
	if servers == "nats://" { // as the NATS context says
		servers = ""
	}
	return servers, replicas, nil
}

// ensure makes a bucket. Until the servers have elected their leaders it is tried again.
func (s *Store) ensure(ctx context.Context, name string, o Options) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := s.tryEnsure(ctx, name, o)
		if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("bucket %s: %w", name, err)
		case <-time.After(wait):
		}
	}
}

func (s *Store) tryEnsure(ctx context.Context, name string, o Options) error {
	// While there is no leader nobody answers, not even later: who waits long for that finds one late.
	ctx, cancel := context.WithTimeout(ctx, min(s.timeout, store.DefaultOpTimeout))
	defer cancel()
	var republish *jetstream.RePublish
	if name == Buckets[0] {
		republish = announced()
	}
	stream, err := s.js.Stream(ctx, "KV_"+name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if o.Existing {
			return fmt.Errorf("%w: there is no bucket %s", store.ErrNotFound, name)
		}
		_, err = s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: name, Replicas: o.Replicas, Storage: jetstream.FileStorage, RePublish: republish,
			Metadata: map[string]string{"unibus": "store", layoutKey: strconv.Itoa(layout)},
		})
		if errors.Is(err, jetstream.ErrBucketExists) { // another process was quicker
			err = nil
		}
		return failure(err)
	}
	if err == nil {
		err = readable(stream.CachedInfo().Config.Metadata[layoutKey])
	}
	if err != nil || republish == nil {
		return failure(err)
	}
	config := stream.CachedInfo().Config
	if has := config.RePublish; has == nil || *has != *republish { // made by an earlier build
		config.RePublish = republish
		_, err = s.js.UpdateStream(ctx, config)
	}
	return failure(err)
}

// A bucket says in its metadata how what is in it is written. Nothing converts what was written otherwise.
const (
	layoutKey = "unibus_layout"
	layout    = 2
)

// readable refuses a bucket that was written by another build than can be read.
func readable(has string) error {
	number, _ := strconv.Atoi(has) // 0: from before there was any
	switch {
	case number > layout:
		return fmt.Errorf("%w: it has layout %d, this unibus knows %d: newer unibus needed", store.ErrInvalid, number, layout)
	case number < layout:
		return fmt.Errorf("%w: it holds data of an earlier build of unibus, which this one cannot read", store.ErrInvalid)
	}
	return nil
}

// Close ends watches and waits for what is under way.
func (s *Store) Close() error {
	s.cancel()
	s.wait.Wait()
	s.direct.Close()
	return nil
}

// op bounds one call.
func (s *Store) op(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// failure turns what NATS says into the store's errors.
func failure(err error) error {
	if err == nil || store.IsKind(err) {
		return err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("%w: no answer in time from a quorum of the servers", store.ErrUnavailable)
	case errors.Is(err, nats.ErrReconnectBufExceeded): // nothing is kept for a connection that is gone
		return fmt.Errorf("%w: not connected to a server just now", store.ErrUnavailable)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%w: no server leads the store", store.ErrUnavailable)
	}
	return fmt.Errorf("%w: %v", store.ErrUnavailable, err)
}

// Replicas is on how many servers the log is kept.
func (s *Store) Replicas(ctx context.Context) (int, error) {
	ctx, cancel := s.op(ctx)
	defer cancel()
	stream, err := s.js.Stream(ctx, s.log.stream)
	if err != nil {
		return 0, failure(err)
	}
	return stream.CachedInfo().Config.Replicas, nil
}
