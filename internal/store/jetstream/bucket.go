package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/store"
)

const (
	barrierKey = "_barrier"
	attempt    = time.Second            // for one server to answer, before another is asked
	retryWait  = 2 * time.Millisecond   // first wait for a replica that is behind
	maxWait    = 100 * time.Millisecond // later waits
	maxKeys    = 500                    // asked for at once; a server gives 1024
	maxPending = 512                    // writes under way
)

// record is the value of a key, written as the bucket's message rev.
type record struct {
	key   string
	rev   uint64
	value []byte
}

// errChanged says that a key is not at the expected revision.
var errChanged = errors.New("the key has changed")

// errMany says that more keys match than a server gives at once.
var errMany = errors.New("too many keys match")

// bucket is one key-value bucket, history 1, whose keys are never deleted.
type bucket struct {
	s      *Store
	stream string
	prefix string

	mu   sync.Mutex
	next *round // not begun yet
	busy bool
}

// round is one barrier and those who wait for it.
type round struct {
	done chan struct{}
	seq  uint64
	err  error
}

func newBucket(s *Store, name string) *bucket {
	return &bucket{s: s, stream: "KV_" + name, prefix: "$KV." + name + "."}
}

// index returns a place in the bucket that every write acknowledged before the call precedes, and
// that a quorum has agreed on. Calls that come while a barrier is under way share the next one.
func (b *bucket) index(ctx context.Context) (uint64, error) {
	b.mu.Lock()
	r := b.next
	if r == nil {
		if !b.busy && !b.s.wait.Go(b.barriers) {
			b.mu.Unlock()
			return 0, errClosed
		}
		r = &round{done: make(chan struct{})}
		b.next, b.busy = r, true
	}
	b.mu.Unlock()
	select {
	case <-r.done:
		return r.seq, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// barriers writes barriers until nobody waits for one.
func (b *bucket) barriers() {
	for {
		b.mu.Lock()
		r := b.next
		b.next = nil
		if r == nil {
			b.busy = false
		}
		b.mu.Unlock()
		if r == nil {
			return
		}
		ctx, cancel := b.s.op(b.s.ctx)
		r.seq, r.err = b.put(ctx, barrierKey, nil, anyRevision)
		cancel()
		close(r.done)
	}
}

const anyRevision = -1

func (b *bucket) message(key string, value []byte, expect int64) *nats.Msg {
	m := nats.NewMsg(b.prefix + key)
	m.Data = value
	if expect != anyRevision {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatInt(expect, 10))
	}
	return m
}

// put writes a key if it is at the expected revision, 0 for a new one; errChanged when it is not.
// It tries again until ctx ends: after an attempt whose outcome nobody heard of, errChanged may
// be about the caller's own write.
func (b *bucket) put(ctx context.Context, key string, value []byte, expect int64) (uint64, error) {
	for wait := retryWait; ; wait = min(2*wait, maxWait) {
		try, cancel := context.WithTimeout(ctx, attempt)
		ack, err := b.s.js.PublishMsg(try, b.message(key, value, expect), jetstream.WithRetryAttempts(0))
		cancel()
		switch {
		case err == nil:
			return ack.Sequence, nil
		case changed(err):
			return 0, errChanged
		case !passing(err):
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(wait):
		}
	}
}

func changed(err error) bool {
	var e *jetstream.APIError
	return errors.As(err, &e) && (e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// passing reports whether a failure may pass by itself, as when a new leader is elected.
func passing(err error) bool {
	var e *jetstream.APIError
	if errors.As(err, &e) {
		return e.Code == 503
	}
	return !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrMaxPayload) && !errors.Is(err, nats.ErrBadSubject)
}

// write is a key to be written if it is at the expected revision.
type write struct {
	key    string
	value  []byte
	expect int64
}

// putMany is put for many keys, side by side. It returns which were not at the expected revision.
func (b *bucket) putMany(ctx context.Context, writes []write) (changed []write, err error) {
	for chunk := range slices.Chunk(writes, maxPending) {
		futures := make([]jetstream.PubAckFuture, len(chunk))
		for i, w := range chunk {
			if futures[i], err = b.s.js.PublishMsgAsync(b.message(w.key, w.value, w.expect)); err != nil {
				return nil, err
			}
		}
		for i, w := range chunk {
			err := landed(ctx, futures[i])
			if err != nil && !errors.Is(err, errChanged) {
				_, err = b.put(ctx, w.key, w.value, w.expect)
			}
			if errors.Is(err, errChanged) {
				changed = append(changed, w)
			} else if err != nil {
				return nil, err
			}
		}
	}
	return changed, nil
}

func landed(ctx context.Context, f jetstream.PubAckFuture) error {
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		if changed(err) {
			return errChanged
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fresh returns the records of keys as of the call or later. Keys may hold wildcards; errMany when
// those match more than a server gives at once.
func (b *bucket) fresh(ctx context.Context, keys ...string) (map[string]record, error) {
	seq, err := b.index(ctx)
	if err != nil {
		return nil, err
	}
	return b.at(ctx, seq, keys...)
}

// one is fresh for a key that has to be there.
func (b *bucket) one(ctx context.Context, key string) (record, error) {
	found, err := b.fresh(ctx, key)
	if err != nil {
		return record{}, err
	}
	r, ok := found[key]
	if !ok {
		return r, store.ErrNotFound
	}
	return r, nil
}

// get is the record of a key, an empty one if there is none, within OpTimeout.
func (b *bucket) get(ctx context.Context, key string) (record, error) {
	ctx, cancel := b.s.op(ctx)
	defer cancel()
	found, err := b.fresh(ctx, key)
	return found[key], err
}

// at returns the records of keys from a replica that has reached seq.
func (b *bucket) at(ctx context.Context, seq uint64, keys ...string) (map[string]record, error) {
	out := map[string]record{}
	for chunk := range slices.Chunk(keys, maxKeys) {
		subjects := []string{b.prefix + barrierKey}
		for _, key := range chunk {
			subjects = append(subjects, b.prefix+key)
		}
		for wait := retryWait; ; wait = min(2*wait, maxWait) {
			reached, err := b.ask(ctx, out, map[string]any{"multi_last": subjects}, seq)
			if err == nil && reached {
				break
			}
			if err != nil && (!passing(err) || errors.Is(err, errMany)) {
				return nil, err
			}
			select {
			case <-ctx.Done():
				return nil, errors.Join(err, ctx.Err())
			case <-time.After(wait):
			}
		}
	}
	return out, nil
}

// ask collects one answer of a replica, and reports whether it has reached seq: whether the
// barrier it gave, if any, is no older.
func (b *bucket) ask(ctx context.Context, out map[string]record, request map[string]any, seq uint64) (bool, error) {
	raw, err := json.Marshal(request)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	reached := seq == 0
	err = b.s.replies.ask(ctx, "$JS.API.DIRECT.GET."+b.stream, raw, func(m *nats.Msg) error {
		key := strings.TrimPrefix(m.Header.Get(jetstream.SubjectHeader), b.prefix)
		rev, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil {
			return fmt.Errorf("a server's answer is not understood: %w", err)
		}
		if key == barrierKey {
			reached = reached || rev >= seq
			return nil
		}
		out[key] = record{key, rev, m.Data}
		return nil
	})
	return reached, err
}

// scan calls f for the records of keys, which may hold wildcards, as of the call or later, in the
// order they were written; with keysOnly without their values. It is bounded by OpTimeout for each
// step, not for all.
func (b *bucket) scan(ctx context.Context, keysOnly bool, f func(record) error, keys ...string) error {
	start, cancel := b.s.op(ctx)
	defer cancel()
	seq, err := b.index(start)
	if err != nil {
		return err
	}
	var filters []string
	if !slices.Contains(keys, "*") { // which matches the barrier too
		filters = append(filters, b.prefix+barrierKey)
	}
	for _, key := range keys {
		filters = append(filters, b.prefix+key)
	}
	c, err := b.s.js.OrderedConsumer(start, b.stream, jetstream.OrderedConsumerConfig{
		FilterSubjects: filters, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, InactiveThreshold: 30 * time.Second, HeadersOnly: keysOnly,
	})
	if err != nil {
		return err
	}
	messages, err := c.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		step, cancel := b.s.op(ctx)
		m, err := messages.Next(jetstream.NextContext(step))
		cancel()
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		key := strings.TrimPrefix(m.Subject(), b.prefix)
		if key != barrierKey {
			if err := f(record{key, meta.Sequence.Stream, m.Data()}); err != nil {
				return err
			}
		}
		if meta.Sequence.Stream >= seq {
			return nil
		}
	}
}

// list is fresh for one pattern, however many keys match.
func (b *bucket) list(ctx context.Context, pattern string) (map[string]record, error) {
	out, err := b.fresh(ctx, pattern)
	if !errors.Is(err, errMany) {
		return out, err
	}
	out = map[string]record{}
	return out, b.scan(ctx, false, func(r record) error { out[r.key] = r; return nil }, pattern)
}

// replies receives answers of many messages, over one subscription.
type replies struct {
	nc    *nats.Conn
	inbox string
	sub   *nats.Subscription

	mu   sync.Mutex
	last uint64
	open map[string]chan *nats.Msg
}

func newReplies(nc *nats.Conn) (*replies, error) {
	r := &replies{nc: nc, inbox: nc.NewInbox() + ".", open: map[string]chan *nats.Msg{}}
	var err error
	r.sub, err = nc.Subscribe(r.inbox+"*", func(m *nats.Msg) {
		r.mu.Lock()
		defer r.mu.Unlock()
		select {
		case r.open[m.Subject] <- m: // nil, for an answer nobody waits for, never is ready
		default:
		}
	})
	return r, err
}

func (r *replies) close() { _ = r.sub.Unsubscribe() } // the connection may be gone, which serves as well

// maxReplies is how many messages a server answers with at most: 1024 records and the end.
const maxReplies = 1025

// ask sends a direct get request and calls f for each record in the answer.
func (r *replies) ask(ctx context.Context, subject string, request []byte, f func(*nats.Msg) error) error {
	c := make(chan *nats.Msg, maxReplies)
	r.mu.Lock()
	r.last++
	reply := r.inbox + strconv.FormatUint(r.last, 36)
	r.open[reply] = c
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, reply)
	}()
	if err := r.nc.PublishRequest(subject, reply, request); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-c:
			switch status := m.Header.Get("Status"); status {
			case "":
				if err := f(m); err != nil {
					return err
				}
			case "204", "404": // the end, or nothing
				return nil
			case "413":
				return errMany
			case "503":
				return nats.ErrNoResponders
			default:
				return fmt.Errorf("%w: a server answers %s %s", store.ErrUnavailable, status, m.Header.Get("Description"))
			}
		}
	}
}
