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

// Everything is read by direct get, which any replica answers at once, in one piece, and which ends with
// its caller's context; a consumer of the client library would retry for ever without a quorum. What an
// answer is worth is decided here: it counts only when all of its messages have arrived, and only when it
// holds a barrier that a quorum agreed on before the request was sent.
const (
	maxKeys     = 1000    // asked for at once; a server gives 1024
	maxBytes    = 8 << 20 // of an answer about keys; a longer one is asked for in halves
	pageRecords = 1000    // in one answer of a scan
	pageBytes   = 1 << 20 // likewise, and one record more
)

// record is the value of a key, written as the bucket's message rev.
type record struct {
	key   string
	rev   uint64
	time  time.Time
	value []byte
}

// errMany says that more matches than a server gives at once.
var errMany = errors.New("too many keys match")

// errLost says that messages of an answer did not arrive.
var errLost = errors.New("a part of a server's answer was lost")

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
	request := map[string]any{"multi_last": subjects, "max_bytes": maxBytes}
	for wait := retryWait; ; wait = min(2*wait, maxWait) {
		a, err := b.ask(ctx, request)
		switch {
		case err == nil && a.more:
			return nil, errMany
		case err == nil && a.barrier >= seq:
			return a.records, nil
		case err != nil && (!passing(err) || errors.Is(err, errMany)):
			return nil, err
		}
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
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
// whatever any page did not show any more was committed before that barrier.
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
			return a, !a.more && a.barrier >= barrier, nil
		}
		if err != nil && !passing(err) {
			return a, false, err
		}
		if err := pause(ctx, wait); err != nil {
			return a, false, err
		}
	}
}

// tail asks one replica for what was written after a place, as much as a page takes. It has no filter: with
// one the server would look at every message, and hide the barrier.
func (b *bucket) tail(ctx context.Context, after uint64) (answer, error) {
	return b.ask(ctx, map[string]any{"seq": after + 1, "batch": pageRecords, "max_bytes": pageBytes})
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

// ask makes one request of one replica.
func (b *bucket) ask(ctx context.Context, request map[string]any) (a answer, err error) {
	raw, err := json.Marshal(request)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	messages, more, err := b.s.replies.ask(ctx, "$JS.API.DIRECT.GET."+b.stream, raw)
	if err != nil {
		return a, err
	}
	a.more = more
	for _, m := range messages {
		r, err := b.record(m)
		if err != nil {
			return answer{}, err
		}
		a.last = r.rev
		if r.key == barrierKey {
			a.barrier = r.rev
			continue
		}
		a.records = append(a.records, r)
	}
	return a, nil
}

func (b *bucket) record(m *nats.Msg) (r record, err error) {
	r.key, r.value = strings.TrimPrefix(m.Header.Get(jetstream.SubjectHeader), b.prefix), m.Data
	if r.rev, err = number(m, jetstream.SequenceHeader); err != nil {
		return r, err
	}
	if r.time, err = time.Parse(time.RFC3339Nano, m.Header.Get(jetstream.TimeStampHeaer)); err != nil {
		err = notUnderstood(err)
	}
	return r, err
}

func number(m *nats.Msg, header string) (uint64, error) {
	n, err := strconv.ParseUint(m.Header.Get(header), 10, 64)
	if err != nil {
		return 0, notUnderstood(err)
	}
	return n, nil
}

func notUnderstood(err error) error {
	return fmt.Errorf("%w: a server's answer is not understood: %v", store.ErrUnavailable, err)
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

// ask sends a direct get request and returns the whole answer: its messages, and whether there would be
// more. Each message says which one came before it, and the end which was the last.
func (r *replies) ask(ctx context.Context, subject string, request []byte) (messages []*nats.Msg, more bool, err error) {
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
		return nil, false, err
	}
	for last := uint64(0); ; {
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case m := <-c:
			if status := m.Header.Get("Status"); status != "" {
				more, err := ended(m, status, last)
				return messages, more, err
			}
			before, err := number(m, jetstream.LastSequenceHeader)
			if err == nil && before != last {
				err = errLost
			}
			if err == nil {
				last, err = number(m, jetstream.SequenceHeader)
			}
			if err != nil {
				return nil, false, err
			}
			messages = append(messages, m)
		}
	}
}

// ended reads the message that ends an answer whose last record was last.
func ended(m *nats.Msg, status string, last uint64) (more bool, err error) {
	switch status {
	case "204":
		own, err := number(m, jetstream.LastSequenceHeader)
		if err == nil && own != last {
			err = errLost
		}
		return m.Header.Get("Nats-Num-Pending") != "0", err
	case "404": // nothing; or, after some records, one that cannot be read
		if last > 0 {
			return false, errLost
		}
		return false, nil
	case "413":
		return false, errMany
	case "503":
		return false, nats.ErrNoResponders
	}
	return false, fmt.Errorf("%w: a server answers %s %s", store.ErrUnavailable, status, m.Header.Get("Description"))
}
