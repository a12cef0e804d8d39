package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	barrierKey = "_barrier"
	attempt    = time.Second            // for one server to answer, before another is asked
	retryWait  = 2 * time.Millisecond   // first wait for a replica that is behind
	maxWait    = 100 * time.Millisecond // later waits
	maxPending = 512                    // writes under way
)

// errChanged says that a key is not at the expected revision.
var errChanged = errors.New("the key has changed")

// bucket is one key-value bucket, history 1: writes here, reads in direct.go. Its keys are never deleted,
// but for staged copies of room keys that are of use to nobody.
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
