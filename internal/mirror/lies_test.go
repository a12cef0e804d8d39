package mirror

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// This file has a store lie about a log that is read, and the state directory fail under one that is written.

// statement signs a payload that no draft would have.
func statement(w *world, by *crypto.Identity, change func(payload map[string]any)) []byte {
	w.Helper()
	s, err := store.Load(w.Context(), w.store, w.bus)
	w.must(err)
	key := by.Key()
	payload := map[string]any{
		"v": 1, "log": s.ID[:], "seq": s.Head.Seq + 1, "prev": s.Head.Hash[:], "time": 1, "by": key[:],
		"op": "revoke", "body": map[string]any{"keys": [][]byte{key[:]}},
	}
	change(payload)
	raw, err := crypto.Marshal(payload)
	w.must(err)
	return by.Sign(crypto.KindEntry, raw)
}

// without are all but the last so many.
func without(n int) func([]store.Entry) ([]store.Entry, error) {
	return func(all []store.Entry) ([]store.Entry, error) { return all[:max(len(all)-n, 0)], nil }
}

// readingLie is what a store says of a log of four entries, of which a client has verified two before.
type readingLie struct {
	heads   func([]ledger.Head) ([]ledger.Head, error)
	entries func(w *world) func([]store.Entry) ([]store.Entry, error)
	kind    error
	says    string
	reaches uint64 // the last entry that is verified after it
}

// readingLies are by what they make of the log.
var readingLies = map[string]readingLie{
	"the store cannot be asked": {
		heads: func([]ledger.Head) ([]ledger.Head, error) { return nil, store.ErrUnavailable }, kind: store.ErrUnavailable, reaches: 2,
	},
	"it denies the log": {
		heads: func([]ledger.Head) ([]ledger.Head, error) { return make([]ledger.Head, 1), nil }, kind: ErrRolledBack, says: "denies", reaches: 2,
	},
	"it ends the log earlier": {
		heads: func(h []ledger.Head) ([]ledger.Head, error) { return []ledger.Head{{Seq: 1, Hash: h[0].Hash}}, nil }, kind: ErrRolledBack, says: "ends at entry 1", reaches: 2,
	},
	"it has another entry there": {
		heads: func([]ledger.Head) ([]ledger.Head, error) { return []ledger.Head{{Seq: 2, Hash: crypto.Hash{1}}}, nil }, kind: store.ErrIntegrity, says: "another entry 2", reaches: 2,
	},
	"it withholds the last": {
		entries: func(*world) func([]store.Entry) ([]store.Entry, error) { return without(1) }, kind: store.ErrIntegrity, says: "withholds the entries after 3", reaches: 3,
	},
	"it breaks off": {
		entries: func(*world) func([]store.Entry) ([]store.Entry, error) {
			return func(all []store.Entry) ([]store.Entry, error) { return all[:1], store.ErrUnavailable }
		}, kind: store.ErrUnavailable, reaches: 3,
	},
	"one is signed by nobody": {
		entries: func(w *world) func([]store.Entry) ([]store.Entry, error) {
			return func(all []store.Entry) ([]store.Entry, error) {
				s := append([]byte(nil), all[len(all)-1].Statement...)
				s[len(s)-1] ^= 1
				all[len(all)-1].Statement = s
				return all, nil
			}
		}, kind: store.ErrIntegrity, says: "signature", reaches: 3,
	},
	"one is of a version to come": {
		entries: func(w *world) func([]store.Entry) ([]store.Entry, error) {
			newer := statement(w, w.admin, func(p map[string]any) { p["v"] = 2 })
			return func(all []store.Entry) ([]store.Entry, error) {
				return append(all, store.Entry{Seq: 5, Statement: newer}), nil
			}
		}, kind: store.ErrInvalid, says: "newer unibus", reaches: 4,
	},
}

// TestReading: whatever a store says of a log that was verified up to an entry, the log stays as it was, or goes on by
// what is in order; and the error says what it is.
func TestReading(t *testing.T) {
	for name, c := range readingLies {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.process(w.admin, "state")
			w.must(p.add("bob"))
			l := p.open(w.bus)
			w.must(l.Sync(t.Context()))
			other := w.process(w.admin, "other state")
			w.must(other.add("carol"))
			w.must(other.add("dave"))
			p.liar.heads = c.heads
			if c.entries != nil {
				p.liar.entries = c.entries(w)
			}
			err := l.Sync(t.Context())
			w.is(err, c.kind)
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v does not say %q", err, c.says)
			}
			if l.State().Head.Seq != c.reaches {
				t.Errorf("it is verified up to entry %d, want %d", l.State().Head.Seq, c.reaches)
			}
			p.liar.heads, p.liar.entries = nil, nil
			w.must(l.Sync(t.Context()))
		})
	}
}

// TestReadingAnother: a store that gives the log of another bus, whatever its entries say, is not believed at all.
func TestReadingAnother(t *testing.T) {
	foreign := newWorld(t)
	foreigner, err := store.Load(t.Context(), foreign.store, foreign.bus)
	foreign.must(err)
	w := newWorld(t)
	p := w.process(w.admin, "state")
	p.liar.Store = foreign.store
	p.liar.heads = func([]ledger.Head) ([]ledger.Head, error) { return []ledger.Head{foreigner.Head}, nil }
	p.liar.entries = func([]store.Entry) (all []store.Entry, err error) {
		for e, err := range foreign.store.Entries(t.Context(), foreign.bus, 0) {
			if err != nil {
				return nil, err
			}
			all = append(all, e)
		}
		return all, nil
	}
	l := p.open(w.bus)
	err = l.Sync(t.Context())
	w.is(err, store.ErrIntegrity)
	if err == nil || !strings.Contains(err.Error(), "gave the log "+foreign.bus.String()) || l.State().Head.Seq != 0 {
		t.Errorf("%v, at %v", err, l.State().Head)
	}
}

// TestDenied: a room that the store denies is named, and no hash is offered that a person could accept.
func TestDenied(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	l := p.room("room")
	p.liar.heads = func([]ledger.Head) ([]ledger.Head, error) { return make([]ledger.Head, 1), nil }
	err := l.Sync(t.Context())
	w.is(err, ErrRolledBack)
	if want := (remedy.Remedy{Kind: remedy.AcceptLoss, Room: "room", RoomID: l.ID()}); remedy.Of(err) != want || !strings.Contains(err.Error(), "room room") {
		t.Errorf("%v, %+v", err, remedy.Of(err))
	}
}

// TestConfirm: a log that the store has confirmed is not asked for again within the minute, and one that it has not is.
func TestConfirm(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	l := p.open(w.bus)
	if l.Confirmed() {
		t.Error("it counts as confirmed before the store was asked")
	}
	w.must(l.Confirm(t.Context()))
	w.must(l.Confirm(t.Context()))
	if !l.Confirmed() || p.liar.asked != 1 {
		t.Errorf("the store was asked %d times", p.liar.asked)
	}
	before := time.Now().Add(-fresh)
	l.confirmed.Store(&before)
	p.liar.heads = func([]ledger.Head) ([]ledger.Head, error) { return nil, store.ErrUnavailable }
	w.is(l.Confirm(t.Context()), store.ErrUnavailable)
}

// TestSyncTo: a head that was asked for before the log grew here is no sign of anything; one that is behind what was
// verified by then is.
func TestSyncTo(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	l := p.open(w.bus)
	w.must(l.Sync(t.Context()))
	early := l.State().Head
	w.must(l.Append(t.Context(), adding("bob")))
	w.must(l.SyncTo(t.Context(), early, early))
	w.is(l.SyncTo(t.Context(), l.State().Head, early), ErrRolledBack)
	w.is(l.SyncTo(t.Context(), early, ledger.Head{}), ErrRolledBack)
	none := p.open(crypto.ID{1})
	w.is(none.SyncTo(t.Context(), ledger.Head{}, ledger.Head{}), store.ErrNotFound)
	w.must(w.process(w.admin, "other").add("carol"))
	heads, err := p.Store.Heads(t.Context(), w.bus)
	w.must(err)
	w.must(l.SyncTo(t.Context(), l.State().Head, heads[0]))
	if l.State().Head != heads[0] {
		t.Errorf("it is at %v, want %v", l.State().Head, heads[0])
	}
}

// TestAudit: the whole log is given if it is the one that was verified, and what there is of it with the error otherwise.
func TestAudit(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	w.must(p.add("bob"))
	w.must(p.add("carol"))
	l := p.open(w.bus)
	w.must(l.Sync(t.Context()))
	entries, err := l.Audit(t.Context())
	w.must(err)
	if len(entries) != 3 || entries[2].Hash != l.State().Head.Hash {
		t.Errorf("%d entries", len(entries))
	}
	for says, lie := range map[string]func([]store.Entry) ([]store.Entry, error){
		"withholds the entries after 2": without(1),
		"denies the log":                without(3),
		"unavailable":                   func([]store.Entry) ([]store.Entry, error) { return nil, store.ErrUnavailable },
		"not the one verified before": func(all []store.Entry) ([]store.Entry, error) { // its author signed two
			fold := new(ledger.Fold)
			for _, e := range all[:2] {
				if _, err := fold.Add(e.Statement); err != nil {
					return nil, err
				}
			}
			another, err := fold.State().Next(w.admin, &ledger.Revoke{Keys: []crypto.PublicKey{entries[1].Body.(*ledger.Add).Users[0].Key}}, time.Now())
			all[2].Statement = another
			return all, err
		},
	} {
		p.liar.entries = lie
		_, err := l.Audit(t.Context())
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

// TestTurn: an append waits for its turn, and does nothing without it.
func TestTurn(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	turns := 0
	p.Turn = func(ctx context.Context, do func() error) error {
		if turns++; turns > 1 {
			return store.ErrUnavailable
		}
		return do()
	}
	w.must(p.add("bob"))
	w.is(p.add("carol"), store.ErrUnavailable)
	if names := w.names(); len(names) != 2 {
		t.Errorf("in the store are %q", names)
	}
}

// TestRival: whoever loses every place to others gives up in the end, having signed nothing twice, or when it is told to.
func TestRival(t *testing.T) {
	w := newWorld(t)
	p, rival := w.process(w.admin, "state"), w.process(w.admin, "other")
	rival.liar.seen = filepath.Join(w.dir, "seen of the rival")
	n := 0
	p.Timeout = 50 * time.Millisecond
	p.liar.lie = func(_ store.Change, honest func() error) error {
		n++
		w.must(rival.add(strings.Repeat("x", n)))
		return honest()
	}
	err := p.add("bob")
	w.is(err, store.ErrConflict)
	if err == nil || !strings.Contains(err.Error(), "others were quicker") || n == 0 {
		t.Errorf("after %d tries: %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p.Timeout = time.Minute
	lie := p.liar.lie
	p.liar.lie = func(c store.Change, honest func() error) error {
		cancel()
		return lie(c, honest)
	}
	w.is(p.open(w.bus).Append(ctx, adding("carol")), context.Canceled)
	w.oncePerPlace()
}

// TestNothing: a command that finds done what it was to do writes nothing.
func TestNothing(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	w.must(p.add("bob"))
	w.must(p.add("bob"))
	if names := w.names(); len(names) != 2 {
		t.Errorf("in the store are %q", names)
	}
}

// TestRefusals: what the rules forbid, what cannot be written down, and what next itself objects to, each keep their kind.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	l := p.open(w.bus)
	w.must(l.Sync(t.Context()))
	own := errors.New("a reason of one's own")
	for name, c := range map[string]struct {
		body ledger.Body
		err  error
		kind error
	}{
		"a rule":          {&ledger.Revoke{Keys: []crypto.PublicKey{person(7).Key()}}, nil, store.ErrDenied},
		"nothing to say":  {&ledger.Archive{}, nil, ledger.ErrNewer}, // of a log of another kind
		"too much to say": {&ledger.Revoke{Keys: []crypto.PublicKey{w.admin.Key()}, Reason: new(strings.Repeat("x", ledger.MaxEntry))}, nil, store.ErrInvalid},
		"its own":         {nil, own, own},
	} {
		err := l.Append(t.Context(), func(context.Context, *ledger.State) (*Proposal, error) { return &Proposal{Body: c.body}, c.err })
		if !errors.Is(err, c.kind) {
			t.Errorf("%s: %v, want %v", name, err, c.kind)
		}
	}
	if o, err := p.Pins.Offers.Pending(t.Context(), w.bus); o != nil || err != nil {
		t.Errorf("kept: %+v, %v", o, err)
	}
}

// TestAccepted: whoever makes what an entry promises is told of it once it stands, and its failure is the command's.
func TestAccepted(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	var told []uint64
	fails := error(nil)
	p.Accepted = func(_ context.Context, after *ledger.State) error {
		told = append(told, after.Head.Seq)
		return fails
	}
	w.must(p.add("bob"))
	fails = store.ErrUnavailable
	w.is(p.add("carol"), store.ErrUnavailable)
	if len(told) != 2 || told[0] != 2 || told[1] != 3 || len(w.names()) != 3 {
		t.Errorf("told of %d, in the store are %q", told, w.names())
	}
}

// TestNotPinned: an entry that stands, and that this machine cannot note, is not taken in, and the error says why.
func TestNotPinned(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	l := p.open(w.bus)
	w.must(l.Sync(t.Context()))
	p.liar.lie = func(_ store.Change, honest func() error) error {
		err := honest()
		w.must(p.Pins.Close())
		return err
	}
	if err := l.Append(t.Context(), adding("bob")); err == nil {
		t.Error("it is taken for done")
	}
	if l.State().Head.Seq != 1 {
		t.Errorf("the log is at %v", l.State().Head)
	}
	if err := l.Append(t.Context(), adding("carol")); err == nil {
		t.Error("another is signed")
	}
	if _, err := p.Open(t.Context(), w.bus, w.bus); err == nil {
		t.Error("the log is opened from nothing")
	}
	if err := l.Sync(t.Context()); err == nil {
		t.Error("what cannot be pinned is verified")
	}
	p = w.process(w.admin, "state")
	w.must(p.add("carol"))
	if names := w.names(); len(names) != 3 {
		t.Errorf("in the store are %q", names)
	}
	w.oncePerPlace()
}

// TestWinnerWithheld: a store that says another entry has the place, and cannot be asked which, settles nothing.
func TestWinnerWithheld(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	p.liar.lie = func(store.Change, func() error) error {
		p.liar.heads = func([]ledger.Head) ([]ledger.Head, error) { return nil, store.ErrUnavailable }
		return store.ErrConflict
	}
	err := p.add("bob")
	w.is(err, store.ErrUnavailable)
	if o, kerr := p.Pins.Offers.Pending(t.Context(), w.bus); o == nil || kerr != nil || !strings.Contains(err.Error(), "entry 2 is kept") {
		t.Errorf("kept is %+v, %v: %v", o, kerr, err)
	}
}

// TestKeptRubbish: what is kept and cannot be the log's next entry, or has a key that is not its epoch's, is not offered.
func TestKeptRubbish(t *testing.T) {
	for name, c := range map[string]struct {
		offer func(w *world, p *process, l *Log) pins.Offer
		says  string
	}{
		"no entry": {func(*world, *process, *Log) pins.Offer { return pins.Offer{Statement: []byte("rubbish")} }, "does not continue it"},
		"of another place": {func(w *world, _ *process, l *Log) pins.Offer {
			var fold ledger.Fold
			for e, err := range w.store.Entries(w.Context(), l.ID(), 0) {
				w.must(err)
				_, err = fold.Add(e.Statement)
				w.must(err)
				break
			}
			s, err := fold.State().Next(w.admin, &ledger.Archive{}, time.Now())
			w.must(err)
			return pins.Offer{Statement: s}
		}, "does not continue it"},
		"a key of no epoch": {func(w *world, p *process, l *Log) pins.Offer { return rekeyed(w, p, l, 9, 9) }, "is of no epoch"},
		"another key":       {func(w *world, p *process, l *Log) pins.Offer { return rekeyed(w, p, l, 2, 3) }, "the key that is kept with its entry 3"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.process(w.admin, "state")
			l := p.room("room")
			w.must(l.Append(t.Context(), func(context.Context, *ledger.State) (*Proposal, error) {
				policy := l.State().Room.Policy.Copy()
				policy.Pad = !policy.Pad
				return &Proposal{Body: &ledger.SetPolicy{Policy: policy}}, nil
			}))
			w.must(p.Pins.Offers.Sign(t.Context(), l.ID(), 3, func() (pins.Offer, error) {
				o := c.offer(w, p, l)
				o.At = time.Now().Add(-time.Minute)
				return o, nil
			}))
			err := l.Append(t.Context(), rekeying(crypto.RoomKey{9}))
			w.is(err, store.ErrIntegrity)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			w.must(l.Sync(t.Context()))
			if l.State().Head.Seq != 2 {
				t.Errorf("the log is at %v", l.State().Head)
			}
		})
	}
}

// rekeyed is a kept rekey, with a key for the given epoch that has so many as its bytes; it commits to {2}.
func rekeyed(w *world, _ *process, l *Log, epoch uint32, key byte) pins.Offer {
	w.Helper()
	p, err := rekeying(crypto.RoomKey{2})(w.Context(), l.State())
	w.must(err)
	s, err := l.State().Next(w.admin, p.Body, time.Now())
	w.must(err)
	a := &appending{Log: l}
	sealed, err := a.sealOwn(&Key{epoch, crypto.RoomKey{key}})
	w.must(err)
	return pins.Offer{Statement: s, Epoch: epoch, Key: sealed}
}

// TestNotStaged: an entry whose key nobody was handed is not offered.
func TestNotStaged(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	l := p.room("room")
	stage := p.Stage
	p.Stage = func(context.Context, *ledger.State, *ledger.Entry, *Key) error { return store.ErrUnavailable }
	w.is(l.Append(t.Context(), rekeying(crypto.RoomKey{2})), store.ErrUnavailable)
	if o, err := p.Pins.Offers.Pending(t.Context(), l.ID()); o != nil || err != nil {
		t.Errorf("kept: %+v, %v", o, err)
	}
	// Nor is one that is kept.
	p.Stage = stage
	p.liar.lie = func(store.Change, func() error) error { return store.ErrDenied }
	w.is(l.Append(t.Context(), rekeying(crypto.RoomKey{2})), store.ErrDenied)
	w.later("state", time.Minute)
	p = w.process(w.admin, "state")
	p.Stage = func(context.Context, *ledger.State, *ledger.Entry, *Key) error { return store.ErrUnavailable }
	w.is(p.open(l.ID()).Append(t.Context(), rekeying(crypto.RoomKey{3})), store.ErrUnavailable)
	heads, err := w.store.Heads(t.Context(), l.ID())
	w.must(err)
	if heads[0].Seq != 1 {
		t.Errorf("the log is at %v", heads[0])
	}
}

// TestAskedForAnother: what was kept and stands is the answer to the command that had it signed alone, not to another that
// could have been done before it as well.
func TestAskedForAnother(t *testing.T) {
	w := newWorld(t)
	named := func(n byte) Next {
		return func(_ context.Context, s *ledger.State) (*Proposal, error) {
			if s.Bus.ByName("bob") != nil {
				return nil, store.ErrExists
			}
			return &Proposal{Body: &ledger.Add{Users: []ledger.NewUser{{Key: person(n).Key(), Name: "bob", Role: ledger.RoleUser}}}}, nil
		}
	}
	p := w.process(w.admin, "state")
	p.liar.lie = func(_ store.Change, honest func() error) error {
		w.must(honest())
		return store.ErrDenied
	}
	w.is(p.open(w.bus).Append(t.Context(), named(2)), store.ErrDenied)
	w.later("state", time.Minute)
	w.is(w.process(w.admin, "state").open(w.bus).Append(t.Context(), named(3)), store.ErrExists)
	w.must(w.process(w.admin, "state").open(w.bus).Append(t.Context(), named(2)))
}

// TestAskedLongAfter: a command that is given again long after it was signed is one of its own: that it was done then is no
// answer to it.
func TestAskedLongAfter(t *testing.T) {
	for age, want := range map[time.Duration]error{old / 2: nil, old: store.ErrExists} {
		w := newWorld(t)
		p := w.process(w.admin, "state")
		p.liar.lie = func(_ store.Change, honest func() error) error {
			w.must(honest())
			return store.ErrDenied
		}
		strictly := func(ctx context.Context, s *ledger.State) (*Proposal, error) {
			p, err := adding("bob")(ctx, s)
			if err == nil && p == nil {
				err = store.ErrExists
			}
			return p, err
		}
		w.is(p.open(w.bus).Append(t.Context(), strictly), store.ErrDenied)
		w.later("state", age)
		p = w.process(w.admin, "state")
		w.must(p.open(w.bus).Sync(t.Context()))
		w.is(p.open(w.bus).Append(t.Context(), strictly), want)
	}
}

// TestMuch: an entry that has the store write much is waited for longer.
func TestMuch(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "admin")
	began := time.Now()
	w.must(p.open(w.bus).Append(t.Context(), func(context.Context, *ledger.State) (*Proposal, error) {
		return &Proposal{Body: storetest.Many(t, 300)}, nil
	}))
	if least := began.Add(store.Within(p.Timeout, 300)); p.liar.until.Before(least) {
		t.Errorf("until %v, want %v or later", p.liar.until, least)
	}
}
