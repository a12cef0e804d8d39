package jetstream

import (
	"context"
	"errors"
	"strings"

	"github.com/unibus/unibus/internal/direct"
)

// This file goes through a bucket page by page, for patterns that match more keys than a server gives at once.
const (
	pageRecords = 1000    // in one answer of a scan
	pageBytes   = 1 << 20 // likewise, and one record more
)

// list is latest for one pattern, however many keys match.
func (r *reader) list(ctx context.Context, pattern string) (map[string]record, error) {
	out, err := r.latest(ctx, pattern)
	if !errors.Is(err, errMany) {
		return out, err
	}
	out = map[string]record{}
	return out, r.scan(ctx, pattern, func(found record) error { out[found.key] = found; return nil })
}

// scan calls f for the records whose keys match a pattern, as of the call or later, in the order they were
// written; for one that is written meanwhile perhaps again. It holds one page of the bucket in memory, and
// is bounded by OpTimeout for each, not for all.
func (r *reader) scan(ctx context.Context, pattern string, f func(record) error) error {
	for after, all := uint64(0), false; !all; {
		var a answer
		var err error
		if a, all, err = r.page(ctx, after, 0); err != nil {
			return err
		}
		for _, found := range a.records {
			if !matches(found.key, pattern) {
				continue
			}
			if err := f(found); err != nil {
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
func (r *reader) page(ctx context.Context, after, barrier uint64) (a answer, all bool, err error) {
	ctx, cancel := r.op(ctx)
	defer cancel()
	if barrier == 0 {
		if barrier, err = r.barrier.index(ctx); err != nil {
			return a, false, err
		}
	}
	for again := replicaRetry(); ; {
		a, err = r.tail(ctx, after)
		if err == nil && a.last > after {
			return a, a.barrier >= barrier && (!a.more || len(a.records) == 0), nil
		}
		if err != nil && !passing(err) {
			return a, false, err
		}
		if err := again.pause(ctx); err != nil {
			return a, false, err
		}
	}
}

// tail asks one replica for what was written after a place, as much as a page takes. It has no filter: with
// one the server would look at every message, and hide the barrier.
func (r *reader) tail(ctx context.Context, after uint64) (answer, error) {
	return r.ask(ctx, direct.Request{Seq: after + 1, Batch: pageRecords, MaxBytes: pageBytes})
}

// matches reports whether a key is one that a pattern means, where * stands for any one token, and > at its end for any
// number of them, one at least.
func matches(key, pattern string) bool {
	tokens, want := strings.Split(key, "."), strings.Split(pattern, ".")
	if last := len(want) - 1; want[last] == ">" && len(tokens) > last {
		tokens, want = tokens[:last], want[:last]
	}
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
