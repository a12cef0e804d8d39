package remote

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strconv"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Log over the API: entries page by page, heads in as many requests as it takes.

// entryLog is store.Log.
type entryLog struct{ *client }

// Bus returns the first statement of the bus log.
func (l *entryLog) Bus(ctx context.Context) ([]byte, error) {
	var b store.BusBody
	err := l.call(ctx, "GET", "/bus", nil, &b)
	return b.Founded, err
}

// Append offers an entry; the service computes the views itself.
func (l *entryLog) Append(ctx context.Context, c store.Change) error {
	path := "/logs"
	if c.Entry.Seq > 1 {
		path += "/" + c.Entry.Log.String()
	}
	return l.write(ctx, len(c.Views), "POST", path, store.EntryBody{Entry: c.Entry.Statement}, nil)
}

// Entries yields a log's entries, a page per request, up to the head that the service names. It ends with a page without
// any: a service that promises more than it gives is not asked for ever.
func (l *entryLog) Entries(ctx context.Context, log crypto.ID, after uint64) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for {
			var page store.LogBody
			if err := l.call(ctx, "GET", "/logs/"+log.String()+"?after="+strconv.FormatUint(after, 10), nil, &page); err != nil {
				if !errors.Is(err, store.ErrNotFound) {
					yield(store.Entry{}, err)
				}
				return
			}
			for _, e := range page.Entries {
				after++
				if !yield(store.Entry{Log: log, Seq: after, Statement: e}, nil) {
					return
				}
			}
			if len(page.Entries) == 0 || after >= page.Head.Seq {
				return
			}
		}
	}
}

// Heads returns the last places of logs, in as many requests as it takes; the zero one of those that the
// caller may not read, as of those that are not there.
func (l *entryLog) Heads(ctx context.Context, logs ...crypto.ID) ([]ledger.Head, error) {
	heads := make([]ledger.Head, 0, len(logs))
	for chunk := range slices.Chunk(logs, store.MaxHeads) {
		var places []store.PlaceBody
		if err := l.call(ctx, "POST", "/heads", store.LogsBody{Logs: chunk}, &places); err != nil {
			return nil, err
		}
		found := map[crypto.ID]ledger.Head{}
		for _, p := range places {
			found[p.Log] = ledger.Head{Seq: p.Seq, Hash: p.Hash}
		}
		for _, log := range chunk {
			heads = append(heads, found[log])
		}
	}
	return heads, nil
}
