package jetstream

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file reads store.Log; it is written by a committer (commit.go). An entry is the value of the key <log>.<seq> in
// unibus_log, the bus log's id that of the key bus. An empty value at <log>.1 is the tombstone of a log that never began.

const (
	busKey = "bus"
	page   = 64 // entries asked for at once: each has up to 900 KiB
)

// entryKey is where an entry is kept.
func entryKey(log crypto.ID, seq uint64) string {
	return log.String() + "." + strconv.FormatUint(seq, 10)
}

// entryOf is which entry a key of unibus_log is of; false for the keys of other records.
func entryOf(key string) (n store.Notice, ok bool) {
	log, seq, _ := strings.Cut(key, ".")
	var err error
	if n.Log, err = crypto.ParseID(log); err != nil {
		return n, false
	}
	n.Seq, err = strconv.ParseUint(seq, 10, 64)
	return n, err == nil
}

// entryLog is store.Log but for Append.
type entryLog struct {
	*conn
	*buckets
	heads *heads
}

// Bus returns the first statement of the bus log: the record busKey names the log, which has claimed to be it.
func (l *entryLog) Bus(ctx context.Context) ([]byte, error) {
	ctx, cancel := l.op(ctx)
	defer cancel()
	r, err := l.log.one(ctx, busKey)
	if err == nil {
		r, err = l.log.one(ctx, string(r.value)+".1")
	}
	if err == nil && len(r.value) == 0 { // claimed by one who never founded it
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("bus log: %w", failure(err))
	}
	return r.value, nil
}

// Heads returns the last places of logs. The hashes are those of the stored bytes themselves.
func (l *entryLog) Heads(ctx context.Context, logs ...crypto.ID) ([]ledger.Head, error) {
	ctx, cancel := l.op(ctx)
	defer cancel()
	found, err := l.heads.find(ctx, logs)
	if err != nil {
		return nil, fmt.Errorf("heads of logs: %w", failure(err))
	}
	heads := make([]ledger.Head, len(logs))
	for i, log := range logs {
		heads[i] = found[log]
	}
	return heads, nil
}

// Entries yields the entries after a seq, a page per OpTimeout.
func (l *entryLog) Entries(ctx context.Context, log crypto.ID, after uint64) iter.Seq2[store.Entry, error] {
	return store.PageEntries(after, page, func(after uint64) ([]store.Entry, error) {
		entries, err := l.entries(ctx, log, after)
		if err != nil {
			return nil, fmt.Errorf("log %s: %w", log, failure(err))
		}
		return entries, nil
	})
}

// entries reads one page: ErrDamaged when an entry in it is missing before another.
func (l *entryLog) entries(ctx context.Context, log crypto.ID, after uint64) ([]store.Entry, error) {
	ctx, cancel := l.op(ctx)
	defer cancel()
	keys := make([]string, page)
	for i := range keys {
		keys[i] = entryKey(log, after+1+uint64(i))
	}
	found, err := l.log.latest(ctx, keys...)
	if err != nil {
		return nil, err
	}
	var out []store.Entry
	for i, key := range keys {
		seq := after + 1 + uint64(i)
		r, ok := found[key]
		if !ok || len(r.value) == 0 {
			continue
		}
		if missing := after + 1 + uint64(len(out)); seq != missing { // a server's disk lost it
			return nil, fmt.Errorf("%w: entry %d is missing, and entry %d is there", store.ErrDamaged, missing, seq)
		}
		out = append(out, store.Entry{Log: log, Seq: seq, Statement: r.value})
	}
	return out, nil
}
