package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus/internal/direct"
	"github.com/unibus/unibus/internal/store"
)

// This file reads keys. Everything is read by direct get, which any replica answers at once, in one piece, and which ends with
// its caller's context; a consumer of the client library would retry for ever without a quorum. What an
// answer is worth is decided here: it counts only when all of its messages have arrived, and only when it
// holds a barrier that a quorum agreed on before the request was sent.
const (
	maxKeys     = 1000    // asked for at once; a server gives 1024
	maxBytes    = 8 << 20 // of an answer about keys; a longer one is asked for in halves
	unreadOften = 8       // answers without what was asked for, before it is looked whether the replica lags
	unreadMore  = 4       // and after that, before what it holds is taken for damaged
)

// record is the value of a key, written as the bucket's message rev.
type record struct {
	key   string
	rev   uint64
	time  time.Time
	value []byte
}

// More matches than a server gives at once, and a record that it cannot read.
var (
	errMany   = direct.ErrMany
	errUnread = errors.New("a record cannot be read")
)

// answer is what one replica gave to one request, as it was at one moment, by rev.
type answer struct {
	records []record
	last    uint64 // rev of the last, a barrier included; 0: nothing was given
	barrier uint64 // rev of the barrier, if it was given
	more    bool   // the server gave only a part
}

// reader reads one bucket.
type reader struct {
	*conn
	bucket  *writer // which says where it is
	barrier *barrier
}

// latest returns the records of keys as of the call or later. Keys may hold wildcards; errMany when
// those match more than a server gives at once.
func (r *reader) latest(ctx context.Context, keys ...string) (map[string]record, error) {
	seq, err := r.barrier.index(ctx)
	if err != nil {
		return nil, err
	}
	return r.at(ctx, seq, keys...)
}

// one is latest for a key that has to be there.
func (r *reader) one(ctx context.Context, key string) (record, error) {
	found, err := r.latest(ctx, key)
	if err != nil {
		return record{}, err
	}
	one, ok := found[key]
	if !ok {
		return one, store.ErrNotFound
	}
	return one, nil
}

// get is the record of a key, an empty one if there is none, within OpTimeout.
func (r *reader) get(ctx context.Context, key string) (record, error) {
	ctx, cancel := r.op(ctx)
	defer cancel()
	found, err := r.latest(ctx, key)
	return found[key], err
}

// at returns the records of keys from replicas that have reached seq; with seq 0 from any.
func (r *reader) at(ctx context.Context, seq uint64, keys ...string) (map[string]record, error) {
	out := map[string]record{}
	return out, r.each(ctx, seq, keys, func(found record) error {
		out[found.key] = found
		return nil
	})
}

// each is at for records that need not be held all at once.
func (r *reader) each(ctx context.Context, seq uint64, keys []string, f func(record) error) error {
	for chunk := range slices.Chunk(keys, maxKeys) {
		if err := r.chunk(ctx, seq, chunk, f); err != nil {
			return err
		}
	}
	return nil
}

// chunk is each for keys that are asked for at once, or in halves when their records are too large for that.
func (r *reader) chunk(ctx context.Context, seq uint64, keys []string, f func(record) error) error {
	records, err := r.lookUp(ctx, seq, keys)
	if half := len(keys) / 2; half > 0 && errors.Is(err, errMany) {
		if err := r.chunk(ctx, seq, keys[:half], f); err != nil {
			return err
		}
		return r.chunk(ctx, seq, keys[half:], f)
	}
	for _, found := range records {
		if err := f(found); err != nil {
			return err
		}
	}
	return err
}

// lookUp asks for keys until a replica answers that has reached seq.
func (r *reader) lookUp(ctx context.Context, seq uint64, keys []string) ([]record, error) {
	subjects := []string{r.bucket.prefix + barrierKey}
	for _, key := range keys {
		subjects = append(subjects, r.bucket.prefix+key)
	}
	request := direct.Request{MultiLast: subjects, MaxBytes: maxBytes}
	unread, current := 0, false
	for again := replicaRetry(); ; {
		a, err := r.ask(ctx, request)
		switch {
		case err == nil && a.more:
			return nil, errMany
		case err == nil && a.barrier >= seq:
			return a.records, nil
		case errors.Is(err, errUnread), err == nil && a.last == 0:
			unread++
		case err != nil && (!passing(err) || errors.Is(err, errMany)):
			return nil, err
		}
		switch {
		case unread >= unreadOften && !current:
			current, unread = r.holds(ctx, seq), unreadOften
		case unread >= unreadOften+unreadMore:
			return nil, r.damaged()
		}
		if err := again.pause(ctx); err != nil {
			return nil, err
		}
	}
}

// holds reports whether a replica that answers has reached seq. What it does not give of before that, it cannot read.
func (r *reader) holds(ctx context.Context, seq uint64) bool {
	a, err := r.ask(ctx, direct.Request{MultiLast: []string{r.bucket.prefix + barrierKey}})
	return err == nil && a.barrier >= seq
}

// damaged says that a server cannot read what it has.
func (r *reader) damaged() error {
	return fmt.Errorf("%w: a server of the bus cannot read all that it keeps of %s (which one, unibus doctor tells)",
		store.ErrDamaged, strings.TrimPrefix(r.bucket.stream, "KV_"))
}

// ask makes one request of one replica. Nothing found is an answer too.
func (r *reader) ask(ctx context.Context, request direct.Request) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	a.more, err = r.direct.Get(ctx, r.bucket.stream, request, func(m *nats.Msg) error { return r.take(&a, m) })
	switch {
	case errors.Is(err, direct.ErrNone) && a.last > 0: // after some records, one that cannot be read
		return answer{}, errUnread
	case errors.Is(err, direct.ErrNone):
		return a, nil
	case err != nil:
		return answer{}, err
	}
	return a, nil
}

// take adds a message to an answer.
func (r *reader) take(a *answer, m *nats.Msg) error {
	got := record{key: strings.TrimPrefix(direct.Last(m, jetstream.SubjectHeader), r.bucket.prefix), rev: direct.Seq(m), value: m.Data}
	a.last = got.rev
	if got.key == barrierKey {
		a.barrier = got.rev
		return nil
	}
	var err error
	if got.time, err = time.Parse(time.RFC3339Nano, direct.Last(m, jetstream.TimeStampHeaer)); err != nil {
		return fmt.Errorf("%w: a server's answer is not understood: %v", store.ErrUnavailable, err)
	}
	a.records = append(a.records, got)
	return nil
}
