package mirror

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// TestTail: a tail gives the log from its first entry on, whatever was verified before, and then what comes, each entry once
// and pinned; after an error it goes on where it was.
func TestTail(t *testing.T) {
	w := newWorld(t)
	p, other := w.process(w.admin, "state"), w.process(w.admin, "other state")
	w.must(p.add("bob"))
	l := p.open(w.bus)
	tail := NewTail(l)
	next := func(want string) {
		t.Helper()
		entries, err := tail.Next(t.Context())
		w.must(err)
		var got []string
		for _, e := range entries {
			got = append(got, e.Op)
			if !l.State().Has(ledger.Head{Seq: e.Seq, Hash: e.Hash}) {
				t.Errorf("entry %d is not pinned", e.Seq)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("it gives %q, want %q", got, want)
		}
	}
	next("found add")
	next("")
	w.must(other.add("carol"))
	p.liar.heads = func([]ledger.Head) ([]ledger.Head, error) { return nil, store.ErrUnavailable }
	_, err := tail.Next(t.Context())
	w.is(err, store.ErrUnavailable)
	p.liar.heads = nil
	p.liar.entries = func([]store.Entry) ([]store.Entry, error) { return nil, store.ErrUnavailable }
	_, err = tail.Next(t.Context())
	w.is(err, store.ErrUnavailable)
	p.liar.entries = nil
	next("add")
	// Whoever else brings the log up to date takes nothing away.
	w.must(other.add("dave"))
	w.must(other.add("erin"))
	w.must(l.Sync(t.Context()))
	next("add add")
	next("")
}

// TestTailGrowsMeanwhile: an entry that was written after the log was brought up to date is pinned before it is given.
func TestTailGrowsMeanwhile(t *testing.T) {
	w := newWorld(t)
	p, other := w.process(w.admin, "state"), w.process(w.admin, "other state")
	l := p.open(w.bus)
	w.must(l.Sync(t.Context()))
	p.liar.entries = func(all []store.Entry) ([]store.Entry, error) {
		p.liar.entries = nil
		w.must(other.add("bob"))
		for e, err := range w.store.Entries(t.Context(), w.bus, 1) {
			if err != nil {
				return nil, err
			}
			all = append(all, e)
		}
		return all, nil
	}
	entries, err := NewTail(l).Next(t.Context())
	w.must(err)
	if len(entries) != 2 || l.State().Head.Hash != entries[1].Hash {
		t.Errorf("%d entries, pinned up to %v", len(entries), l.State().Head)
	}
}

// TestTailRefuses: what a store withholds, takes back or gives otherwise than it was verified is a finding, and is not given.
func TestTailRefuses(t *testing.T) {
	for says, lie := range map[string]func(*world, *process){
		"withholds the entries after 2": func(_ *world, p *process) { p.liar.entries = without(1) },
		"rolled back": func(_ *world, p *process) {
			p.liar.heads = func(heads []ledger.Head) ([]ledger.Head, error) {
				return []ledger.Head{{Seq: 2, Hash: heads[0].Hash}}, nil
			}
		},
		"not the one verified before": func(w *world, p *process) {
			p.liar.entries = func(all []store.Entry) ([]store.Entry, error) {
				fold := new(ledger.Fold)
				for _, e := range all[:2] {
					if _, err := fold.Add(e.Statement); err != nil {
						return nil, err
					}
				}
				another, err := adding("mallory")(w.Context(), fold.State())
				w.must(err)
				all[2].Statement, err = fold.State().Next(w.admin, another.Body, time.Now())
				return all, err
			}
		},
	} {
		t.Run(says, func(t *testing.T) {
			w := newWorld(t)
			p := w.process(w.admin, "state")
			w.must(p.add("bob"))
			w.must(p.add("carol"))
			l := p.open(w.bus)
			w.must(l.Sync(t.Context()))
			tail := NewTail(l)
			lie(w, p)
			entries, err := tail.Next(t.Context())
			w.is(err, store.ErrIntegrity)
			if err == nil || !strings.Contains(err.Error(), says) || len(entries) > 0 {
				t.Errorf("%d entries, %v", len(entries), err)
			}
			p.liar.heads, p.liar.entries = nil, nil
			if entries, err := tail.Next(t.Context()); err != nil || len(entries) != 3 {
				t.Errorf("when it is honest again: %d entries, %v", len(entries), err)
			}
		})
	}
}

// TestGrownWhileRead: a log of which others verify more while it is read is withheld by nobody.
func TestGrownWhileRead(t *testing.T) {
	for what, read := range map[string]func(context.Context, *Log) ([]*ledger.Entry, error){
		"audit": func(ctx context.Context, l *Log) ([]*ledger.Entry, error) { return l.Audit(ctx) },
		"tail":  func(ctx context.Context, l *Log) ([]*ledger.Entry, error) { return NewTail(l).Next(ctx) },
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			p, other := w.process(w.admin, "state"), w.process(w.admin, "other state")
			l := p.open(w.bus)
			w.must(l.Sync(t.Context()))
			p.liar.entries = func(all []store.Entry) ([]store.Entry, error) {
				p.liar.entries = nil
				w.must(other.add("bob"))
				w.must(l.Sync(t.Context()))
				return all, nil // as they were read before
			}
			entries, err := read(t.Context(), l)
			w.must(err)
			if len(entries) != 1 || l.State().Head.Seq != 2 {
				t.Errorf("%d entries, pinned up to %v", len(entries), l.State().Head)
			}
		})
	}
}
