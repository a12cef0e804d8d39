package jetstream

import (
	"context"
	"fmt"
	"sync"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file finds where logs end. No record says it: its entries do, which are there without a gap. So whoever looks for the
// end of a log looks 1, 2, 4, … places further than where an entry is known to be, for many logs at once.
const (
	maxProbes = 12   // places of one log that are asked for at once
	minProbes = 2    // the last entry, and that there is none after it
	maxHeads  = 4096 // logs whose last entry is remembered: those of four long requests
)

// end is how far a log is known to reach.
type end struct {
	log   crypto.ID
	head  ledger.Head
	guess bool // the head is the place before one where a last entry is said, or was seen, to be; it was not looked at
}

// heads finds where logs end.
type heads struct {
	*buckets

	mu   sync.Mutex
	last map[crypto.ID]ledger.Head // last entries known to be there: a place to begin, never the answer
}

// known is the last entry of a log that was seen; the zero head for none.
func (h *heads) known(log crypto.ID) ledger.Head {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last[log]
}

// remember says that an entry of a log was seen.
func (h *heads) remember(log crypto.ID, head ledger.Head) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last[log].Seq >= head.Seq {
		return
	}
	for id := range h.last { // any will do
		if len(h.last) < maxHeads {
			break
		}
		delete(h.last, id)
	}
	h.last[log] = head
}

// place is where one entry stands.
type place struct {
	log crypto.ID
	seq uint64
}

// one is find for one log: ErrNotFound for an unknown one.
func (h *heads) one(ctx context.Context, log crypto.ID) (ledger.Head, error) {
	found, err := h.find(ctx, []crypto.ID{log})
	if err == nil && found[log].Seq == 0 {
		err = store.ErrNotFound
	}
	return found[log], err
}

// find says where logs end, as of the call or later; those without an entry are left out. One barrier does for all the
// requests it takes: a log only grows.
func (h *heads) find(ctx context.Context, logs []crypto.ID) (map[crypto.ID]ledger.Head, error) {
	at, err := h.log.index(ctx)
	if err != nil {
		return nil, err
	}
	open, err := h.starts(ctx, logs)
	if err != nil {
		return nil, err
	}
	found := map[crypto.ID]ledger.Head{}
	for len(open) > 0 {
		probes := min(max(maxKeys/len(open), minProbes), maxProbes)
		hashes, err := h.probe(ctx, at, open, probes)
		if err != nil {
			return nil, err
		}
		var next []end
		for _, e := range open {
			ended := e.advance(hashes, probes)
			if !ended {
				next = append(next, e)
			} else if e.head.Seq > 0 {
				found[e.log] = e.head
				h.remember(e.log, e.head)
			}
		}
		open = next
	}
	return found, nil
}

// starts is where to begin looking: at the last entry known, or at the one of which a room's record says that
// it is the last. That may be wrong either way, and is a place to begin only.
func (h *heads) starts(ctx context.Context, logs []crypto.ID) (open []end, err error) {
	var unknown []string
	seen := map[crypto.ID]bool{}
	for _, log := range logs {
		if seen[log] {
			continue
		}
		seen[log] = true
		e := end{log: log}
		if known := h.known(log).Seq; known > 1 { // its last entry is looked at again: a store may have lost it
			e.head.Seq, e.guess = known-1, true
		} else if known == 0 {
			unknown = append(unknown, roomKey(log))
		}
		open = append(open, e)
	}
	records, err := h.rooms.at(ctx, 0, unknown...)
	if err != nil {
		return nil, err
	}
	for i, e := range open {
		if seq := seqOf(records[roomKey(e.log)].value); seq > 1 && e.head.Seq == 0 {
			open[i].head.Seq, open[i].guess = seq-1, true
		}
	}
	return open, nil
}

// probe asks for entries after those where logs are known to reach, and returns the hashes of those there are.
func (h *heads) probe(ctx context.Context, at uint64, open []end, probes int) (map[place]crypto.Hash, error) {
	var keys []string
	for _, e := range open {
		for i := range probes {
			keys = append(keys, entryKey(e.log, e.head.Seq+1<<i))
		}
	}
	hashes := map[place]crypto.Hash{}
	return hashes, h.log.each(ctx, at, keys, func(r record) error {
		n, ok := entryOf(r.key)
		if !ok || len(r.value) == 0 { // the place of a log that never began
			return nil
		}
		hash, err := crypto.HashStatement(r.value)
		if err != nil {
			return fmt.Errorf("%w: entry %d of log %s is damaged: %v", store.ErrDamaged, n.Seq, n.Log, err)
		}
		hashes[place{n.Log, n.Seq}] = hash
		return nil
	})
}

// advance takes the last entry that was found without a gap in the probes, and reports whether it is the
// last of the log: whether the place after it was looked at and is empty.
func (e *end) advance(hashes map[place]crypto.Hash, probes int) (ended bool) {
	from, last := e.head.Seq, e.head.Seq
	for i := range probes {
		seq := from + 1<<i
		hash, ok := hashes[place{e.log, seq}]
		if !ok {
			ended = seq == last+1
			break
		}
		e.head, e.guess, last = ledger.Head{Seq: seq, Hash: hash}, false, seq
	}
	if ended && e.guess { // the view was wrong: from the beginning
		e.head, e.guess, ended = ledger.Head{}, false, false
	}
	return ended
}
