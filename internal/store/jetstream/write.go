package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// This file writes keys: one (put), which is tried again until its outcome is known, or many side by side (putMany). A write
// says which revision it replaces, so that of two at once the later one fails instead of undoing the first.

const (
	attempt = time.Second // for one server to answer, before another is asked
	// atOnce is how many writes of one caller are under way: so many keep a server busy, and whoever else writes to the
	// bucket, or reads from it, waits no longer than a disk takes to sync as many.
	atOnce = 32
)

// anyRevision is what a write expects that replaces whatever is there.
const anyRevision = -1

// errChanged says that a key is not at the expected revision.
var errChanged = errors.New("the key has changed")

// writer writes the keys of one bucket, each only over the revision that its caller has seen. A write that got no
// answer is tried again until its context ends.
type writer struct {
	*conn
	stream string
	prefix string // of the subjects that are its keys
}

// message is a write of a key if it is at the expected revision.
func (w *writer) message(key string, value []byte, expect int64) *nats.Msg {
	m := nats.NewMsg(w.prefix + key)
	m.Data = value
	if expect != anyRevision {
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatInt(expect, 10))
	}
	return m
}

// put writes a key if it is at the expected revision, 0 for a new one; errChanged when it is not.
// It tries again until ctx ends: after an attempt whose outcome nobody heard of, errChanged may
// be about the caller's own write.
func (w *writer) put(ctx context.Context, key string, value []byte, expect int64) (uint64, error) {
	for again := replicaRetry(); ; {
		try, cancel := context.WithTimeout(ctx, attempt)
		ack, err := w.js.PublishMsg(try, w.message(key, value, expect), jetstream.WithRetryAttempts(0))
		cancel()
		switch {
		case err == nil:
			return ack.Sequence, nil
		case changed(err):
			return 0, errChanged
		case !passing(err):
			return 0, err
		}
		if ended := again.pause(ctx); ended != nil {
			return 0, fmt.Errorf("%w (%w)", err, ended)
		}
	}
}

// changed reports whether a server says that a key is not at the expected revision.
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
func (w *writer) putMany(ctx context.Context, writes []write) (changed []write, err error) {
	var sent []jetstream.PubAckFuture
	for i, k := range writes {
		for len(sent) < min(i+atOnce, len(writes)) {
			next := writes[len(sent)]
			f, err := w.js.PublishMsgAsync(w.message(next.key, next.value, next.expect))
			if err != nil {
				return nil, err
			}
			sent = append(sent, f)
		}
		err := awaitAck(ctx, sent[i])
		if err != nil && !errors.Is(err, errChanged) {
			_, err = w.put(ctx, k.key, k.value, k.expect)
		}
		if errors.Is(err, errChanged) {
			changed = append(changed, k)
		} else if err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// awaitAck waits for the answer to one write.
func awaitAck(ctx context.Context, f jetstream.PubAckFuture) error {
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
