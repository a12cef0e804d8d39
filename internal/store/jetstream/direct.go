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
	"github.com/unibus/unibus/internal/tasks"
)

// Everything is read by direct get, which any replica answers at once, in one piece, and which ends with
// its caller's context; a consumer of the client library would retry for ever without a quorum. What an
// answer is worth is decided here: it counts only when all of its messages have arrived, and only when it
// holds a barrier that a quorum agreed on before the request was sent.
const (
	maxKeys     = 1000    // asked for at once; a server gives 1024
	maxBytes    = 8 << 20 // of an answer about keys; a longer one is asked for in halves
	pageRecords = 1000    // in one answer of a scan
	pageBytes   = 1 << 20 // likewise, and one record more
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

// at returns the records of keys from replicas that have reached seq; with seq 0 from any.
func (b *bucket) at(ctx context.Context, seq uint64, keys ...string) (map[string]record, error) {
	out := map[string]record{}
	return out, b.each(ctx, seq, keys, func(r record) error {
		out[r.key] = r
		return nil
	})
}

// each is at for records that need not be held all at once.
func (b *bucket) each(ctx context.Context, seq uint64, keys []string, f func(record) error) error {
	for chunk := range slices.Chunk(keys, maxKeys) {
		if err := b.chunk(ctx, seq, chunk, f); err != nil {
			return err
		}
	}
	return nil
}

// chunk is each for keys that are asked for at once, or in halves when their records are too large for that.
func (b *bucket) chunk(ctx context.Context, seq uint64, keys []string, f func(record) error) error {
	records, err := b.lookUp(ctx, seq, keys)
	if half := len(keys) / 2; half > 0 && errors.Is(err, errMany) {
		if err := b.chunk(ctx, seq, keys[:half], f); err != nil {
			return err
		}
		return b.chunk(ctx, seq, keys[half:], f)
	}
	for _, r := range records {
		if err := f(r); err != nil {
			return err
		}
	}
	return err
}

// lookUp asks for keys until a replica answers that has reached seq.
func (b *bucket) lookUp(ctx context.Context, seq uint64, keys []string) ([]record, error) {
	subjects := []string{b.prefix + barrierKey}
	for _, key := range keys {
		subjects = append(subjects, b.prefix+key)
	}
	request := direct.Request{MultiLast: subjects, MaxBytes: maxBytes}
	unread, current := 0, false
	for wait := retryWait; ; wait = min(2*wait, maxWait) {
		a, err := b.ask(ctx, request)
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
			current, unread = b.holds(ctx, seq), unreadOften
		case unread >= unreadOften+unreadMore:
			return nil, b.damaged()
		}
		if err := tasks.Pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// holds reports whether a replica that answers has reached seq. What it does not give of before that, it cannot read.
func (b *bucket) holds(ctx context.Context, seq uint64) bool {
	a, err := b.ask(ctx, direct.Request{MultiLast: []string{b.prefix + barrierKey}})
	return err == nil && a.barrier >= seq
}

// damaged says that a server cannot read what it has.
func (b *bucket) damaged() error {
	return fmt.Errorf("%w: a server of the bus cannot read all that it keeps of %s (which one, unibus doctor tells)",
		store.ErrDamaged, strings.TrimPrefix(b.stream, "KV_"))
}

// list is fresh for one pattern, however many keys match.
func (b *bucket) list(ctx context.Context, pattern string) (map[string]record, error) {
	out, err := b.fresh(ctx, pattern)
	if !errors.Is(err, errMany) {
		return out, err
	}
	out = map[string]record{}
	return out, b.scan(ctx, pattern, func(r record) error { out[r.key] = r; return nil })
}

// scan calls f for the records whose keys match a pattern, as of the call or later, in the order they were
// written; for one that is written meanwhile perhaps again. It holds one page of the bucket in memory, and
// is bounded by OpTimeout for each, not for all.
func (b *bucket) scan(ctx context.Context, pattern string, f func(record) error) error {
	for after, all := uint64(0), false; !all; {
		var a answer
		var err error
		if a, all, err = b.page(ctx, after, 0); err != nil {
			return err
		}
		for _, r := range a.records {
			if !matches(r.key, pattern) {
				continue
			}
			if err := f(r); err != nil {
				return err
			}
		}
		after = a.last
	}
	return nil
}

// page returns some records that were written after a place, in order, within OpTimeout, and whether those
// are all. It reads past the place barrier, or a new one for 0.
//
// A record that is written again moves to the end. Whoever goes through a bucket by pages, which different
// replicas answer, could miss it: gone from its old place in one that is current, not yet at its new place
// in one that lags. So each page has a barrier of its own, and the last is one that holds its barrier:
// whatever any page did not show any more was committed before that barrier. That there is more a server says for ever
// when it has a record that it cannot read: a page of nothing but its barrier is the last as well.
func (b *bucket) page(ctx context.Context, after, barrier uint64) (a answer, all bool, err error) {
	ctx, cancel := b.s.op(ctx)
	defer cancel()
	if barrier == 0 {
		if barrier, err = b.index(ctx); err != nil {
			return a, false, err
		}
	}
	for wait := retryWait; ; wait = min(2*wait, maxWait) {
		a, err = b.tail(ctx, after)
		if err == nil && a.last > after {
			return a, a.barrier >= barrier && (!a.more || len(a.records) == 0), nil
		}
		if err != nil && !passing(err) {
			return a, false, err
		}
		if err := tasks.Pause(ctx, wait); err != nil {
			return a, false, err
		}
	}
}

// tail asks one replica for what was written after a place, as much as a page takes. It has no filter: with
// one the server would look at every message, and hide the barrier.
func (b *bucket) tail(ctx context.Context, after uint64) (answer, error) {
	return b.ask(ctx, direct.Request{Seq: after + 1, Batch: pageRecords, MaxBytes: pageBytes})
}

// matches reports whether a key is one that a pattern means, where * stands for any one token.
func matches(key, pattern string) bool {
	tokens, want := strings.Split(key, "."), strings.Split(pattern, ".")
	if len(tokens) != len(want) {
		return false
	}
	for i, w := range want {
		if w != "*" && w != tokens[i] {
			return false
		}
	}
	return true
}

// ask makes one request of one replica. Nothing found is an answer too.
func (b *bucket) ask(ctx context.Context, request direct.Request) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	a.more, err = b.s.direct.Get(ctx, b.stream, request, func(m *nats.Msg) error { return b.take(&a, m) })
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
func (b *bucket) take(a *answer, m *nats.Msg) error {
	r := record{key: strings.TrimPrefix(direct.Last(m, jetstream.SubjectHeader), b.prefix), rev: direct.Seq(m), value: m.Data}
	a.last = r.rev
	if r.key == barrierKey {
		a.barrier = r.rev
		return nil
	}
	var err error
	if r.time, err = time.Parse(time.RFC3339Nano, direct.Last(m, jetstream.TimeStampHeaer)); err != nil {
		return fmt.Errorf("%w: a server's answer is not understood: %v", store.ErrUnavailable, err)
	}
	a.records = append(a.records, r)
	return nil
}
