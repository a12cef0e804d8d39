package mirror

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// liar is a store that does with the entries it is offered what it likes. Whatever it is offered it writes down.
type liar struct {
	store.Store
	seen string // file of everything it was offered
	lie  func(c store.Change, honest func() error) error

	heads   func(honest []ledger.Head) ([]ledger.Head, error) // nil: it is honest about them
	entries func(honest []store.Entry) ([]store.Entry, error) // likewise; what there is is given before the error
	asked   int                                               // how often for heads
	until   time.Time                                         // by when the last entry it was offered had to stand
}

func (l *liar) Heads(ctx context.Context, logs ...crypto.ID) ([]ledger.Head, error) {
	l.asked++
	heads, err := l.Store.Heads(ctx, logs...)
	if err == nil && l.heads != nil {
		return l.heads(heads)
	}
	return heads, err
}

func (l *liar) Entries(ctx context.Context, log crypto.ID, after uint64) iter.Seq2[store.Entry, error] {
	honest := l.Store.Entries(ctx, log, after)
	if l.entries == nil {
		return honest
	}
	return func(yield func(store.Entry, error) bool) {
		var all []store.Entry
		for e, err := range honest {
			if err != nil {
				yield(e, err)
				return
			}
			all = append(all, e)
		}
		all, err := l.entries(all)
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(store.Entry{}, err)
		}
	}
}

func (l *liar) Append(ctx context.Context, c store.Change) error {
	f, err := os.OpenFile(l.seen, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	l.until, _ = ctx.Deadline()
	_, err = fmt.Fprintf(f, "%s %d %s\n", c.Entry.Log, c.Entry.Seq, c.Entry.Hash)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	honest := func() error { return l.Store.Append(context.WithoutCancel(ctx), c) } // however little time is left to wait for it
	if l.lie != nil {
		return l.lie(c, honest)
	}
	return honest()
}

// world is a store with a bus, and the state directories of people.
type world struct {
	*testing.T
	dir   string
	store *sqlite.Store
	bus   crypto.ID
	admin *crypto.Identity
}

func person(n byte) *crypto.Identity {
	id, err := crypto.NewIdentity([32]byte{'m', n})
	if err != nil {
		panic(err)
	}
	return id
}

func newWorld(t *testing.T) *world { return worldIn(t, t.TempDir(), person(1)) }

// worldIn is what is in a directory, begun if there is nothing.
func worldIn(t *testing.T, dir string, admin *crypto.Identity) *world {
	w := &world{T: t, dir: dir, admin: admin}
	var err error
	w.store, err = sqlite.Open(t.Context(), filepath.Join(dir, "unibus.db"), sqlite.Options{})
	w.must(err)
	t.Cleanup(func() { w.store.Close() })
	if founded, err := w.store.Bus(t.Context()); err == nil {
		s, err := ledger.Verify([][]byte{founded})
		w.must(err)
		w.bus = s.ID
		return w
	}
	s, err := store.Found(t.Context(), w.store, w.admin, "admin", time.Now())
	w.must(err)
	w.bus = s.ID
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// is fails the test unless err is of a kind.
func (w *world) is(err, kind error) {
	w.Helper()
	if !errors.Is(err, kind) {
		w.Errorf("got %v, want %v", err, kind)
	}
}

// process is one of somebody's, with a state directory that others of it may share.
type process struct {
	*world
	*Peer
	liar     *liar
	told     []string
	returned ledger.Head // the end of a log that was taken for what it is
}

// accept has a person take a log for what it is, if it ends with a hash.
func (p *process) accept(named crypto.Hash) {
	p.Accept = func(h crypto.Hash) bool { return h == named }
	p.Returned = func(_ crypto.ID, end ledger.Head) { p.returned = end }
}

func (w *world) process(id *crypto.Identity, state string) *process {
	w.Helper()
	p, err := pins.Open(w.Context(), filepath.Join(w.dir, state))
	w.must(err)
	w.Cleanup(func() { p.Close() })
	out := &process{world: w, liar: &liar{Store: w.store, seen: filepath.Join(w.dir, "seen")}}
	out.Peer = &Peer{
		Identity: id, Store: out.liar, Pins: p, Timeout: 5 * time.Second,
		Stage:        out.stage,
		OfferedAgain: func(e *ledger.Entry, _ time.Duration) { out.told = append(out.told, e.Op+" again") },
		LostPlace:    func(e *ledger.Entry, _ time.Duration) { out.told = append(out.told, e.Op+" lost") },
	}
	return out
}

// stage seals for this identity alone.
func (p *process) stage(ctx context.Context, after *ledger.State, _ *ledger.Entry, k *Key) error {
	a := &appending{Log: p.Peer.log(after.ID, crypto.ID{}, after)}
	sealed, err := a.sealOwn(k)
	if err != nil {
		return err
	}
	err = p.Store.PutKeys(ctx, after.ID, k.Epoch, k.Key.Commit(k.Epoch), p.Identity.Key(), []store.SealedKey{{Endpoint: p.Identity.Key(), Sealed: sealed}})
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	return err
}

func (p *process) open(id crypto.ID) *Log {
	p.Helper()
	l, err := p.Open(p.Context(), id, p.bus)
	p.must(err)
	return l
}

// add appends an entry that lets someone in.
func (p *process) add(name string) error {
	return p.open(p.bus).Append(p.Context(), adding(name))
}

func adding(name string) func(context.Context, *ledger.State) (*Proposal, error) {
	return func(_ context.Context, s *ledger.State) (*Proposal, error) {
		if s.Bus.ByName(name) != nil {
			return nil, nil
		}
		var seed [32]byte
		copy(seed[:], name)
		id, err := crypto.NewIdentity(seed)
		if err != nil {
			return nil, err
		}
		return &Proposal{Body: &ledger.Add{Users: []ledger.NewUser{{Key: id.Key(), Name: name, Role: ledger.RoleUser}}}}, nil
	}
}

// room makes an encrypted room.
func (p *process) room(subject string) *Log {
	p.Helper()
	key := &Key{1, crypto.RoomKey{1}}
	commit := key.Key.Commit(1)
	l, err := p.Create(p.Context(), Proposal{&ledger.Create{Bus: p.bus, Subject: subject, Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit}, key}, p.bus)
	p.must(err)
	return l
}

// rekeying begins a new epoch with a key.
func rekeying(key crypto.RoomKey) func(context.Context, *ledger.State) (*Proposal, error) {
	return func(_ context.Context, s *ledger.State) (*Proposal, error) {
		epoch := s.Room.Epoch().Number + 1
		k := &ledger.Rekey{Epoch: epoch, Commit: key.Commit(epoch), Previous: make([]byte, crypto.PreviousSize)}
		return &Proposal{k, &Key{epoch, key}}, nil
	}
}

// names are those on the allowlist, in the store.
func (w *world) names() (names []string) {
	w.Helper()
	s, err := store.Load(w.Context(), w.store, w.bus)
	w.must(err)
	for u := range s.Bus.Users {
		names = append(names, u.Name)
	}
	slices.Sort(names)
	return names
}

// oncePerPlace checks that nobody was ever offered two entries for one place.
func (w *world) oncePerPlace() {
	w.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "seen"))
	w.must(err)
	seen := map[string]string{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		place := f[0] + " " + f[1]
		if before, ok := seen[place]; ok && before != f[2] {
			w.Errorf("two entries were signed for place %s of log %s", f[1], f[0])
		}
		seen[place] = f[2]
	}
}

// later makes what is kept in a state directory so much older.
func (w *world) later(state string, by time.Duration) {
	w.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, state))
	w.must(err)
	_, err = db.Exec(`UPDATE offers SET at = at - ?1; UPDATE signed SET at = at - ?1`, by.Milliseconds())
	w.must(errors.Join(err, db.Close()))
}

var errForged = errors.New("no such kind of answer")

// answers are what a store may say, having done what it was asked, or not.
var answers = map[string]struct {
	stands bool
	err    error
	want   error
}{
	"conflict without a winner": {false, store.ErrConflict, store.ErrIntegrity},
	"denied":                    {false, store.ErrDenied, store.ErrDenied},
	"nothing":                   {false, store.ErrUnavailable, store.ErrUnavailable},
	"nonsense":                  {false, errForged, errForged},
	"exists":                    {false, store.ErrExists, store.ErrExists},
	"conflict, but it stands":   {true, store.ErrConflict, nil},
	"denied, but it stands":     {true, store.ErrDenied, store.ErrDenied},
	"nothing, but it stands":    {true, store.ErrUnavailable, store.ErrUnavailable},
}

// TestAnswers: whatever a store says, the next process offers the same bytes, and nothing else for that place.
func TestAnswers(t *testing.T) {
	for name, a := range answers {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.process(w.admin, "state")
			p.Timeout = 50 * time.Millisecond
			p.liar.lie = func(_ store.Change, honest func() error) error {
				if a.stands {
					w.must(honest())
				}
				return a.err
			}
			if err := p.add("bob"); a.want != nil || err != nil {
				w.is(err, a.want)
			}
			w.later("state", time.Minute)

			// It goes on lying to the next.
			p = w.process(w.admin, "state")
			p.Timeout = 50 * time.Millisecond
			p.liar.lie = func(_ store.Change, honest func() error) error { return a.err }
			_ = p.add("carol")
			w.oncePerPlace()
			w.later("state", time.Minute)

			p = w.process(w.admin, "state")
			w.must(p.add("dave"))
			w.oncePerPlace()
			names := w.names()
			if !slices.Contains(names, "bob") || !slices.Contains(names, "dave") {
				t.Errorf("in the store are %q", names)
			}
			if !a.stands && len(p.told) == 0 {
				t.Error("nobody is told what is offered again")
			}
			if o, err := p.Pins.Offers.Pending(t.Context(), w.bus); o != nil || err != nil {
				t.Errorf("still kept: %+v, %v", o, err)
			}
		})
	}
}

// TestFirst: a first entry has no rival, and nothing is kept of it.
func TestFirst(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	p.room("taken")
	commit := (crypto.RoomKey{2}).Commit(1)
	_, err := p.Create(t.Context(), Proposal{&ledger.Create{Bus: w.bus, Subject: "taken", Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit}, &Key{1, crypto.RoomKey{2}}}, w.bus)
	w.is(err, store.ErrExists)
	_, err = p.Create(t.Context(), Proposal{&ledger.Create{Bus: w.bus, Subject: "not * valid", Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit}, nil}, w.bus)
	w.is(err, store.ErrDenied)
}

// steps are where a process can be killed while it appends.
var steps = []string{"staged", "signed", "kept", "answered", "taken in", "pinned"}

// TestKilled: a process killed at any step leaves at most one signature for the place, and the next one goes on.
func TestKilled(t *testing.T) {
	if at := os.Getenv("UNIBUS_STEP"); at != "" {
		w := worldIn(t, os.Getenv("UNIBUS_DIR"), person(1))
		p := w.process(w.admin, "state")
		p.Timeout = 50 * time.Millisecond
		a := answers[os.Getenv("UNIBUS_ANSWER")]
		p.liar.lie = func(_ store.Change, honest func() error) error {
			if a.stands || a.err == nil {
				w.must(honest())
			}
			return a.err
		}
		step = func(s string) {
			if s == at {
				storetest.KillSelf()
			}
		}
		id, err := crypto.ParseID(os.Getenv("UNIBUS_ROOM"))
		w.must(err)
		_ = p.open(id).Append(t.Context(), rekeying(crypto.RoomKey{7}))
		return
	}
	for _, at := range steps {
		for _, answer := range []string{"", "denied", "nothing, but it stands"} { // to all others a process ends as it does to these
			t.Run(at+", "+answer, func(t *testing.T) {
				w := newWorld(t)
				p := w.process(w.admin, "state")
				id := p.room("room").ID()
				killed := storetest.Killed(t, "TestKilled", "UNIBUS_STEP="+at, "UNIBUS_ANSWER="+answer, "UNIBUS_DIR="+w.dir, "UNIBUS_ROOM="+id.String())
				if !killed && answer == "" {
					t.Fatal("it was never there")
				}
				w.later("state", time.Minute)
				w.must(w.store.Unstage(t.Context(), id, 2, crypto.RoomKey{7}.Commit(2), w.admin.Key())) // as after an hour

				p = w.process(w.admin, "state")
				l := p.open(id)
				w.must(l.Append(t.Context(), rekeying(crypto.RoomKey{8})))
				w.oncePerPlace()
				for _, e := range l.State().Room.Epochs[1:] { // no epoch whose key its author does not have
					copies, err := w.store.Key(t.Context(), id, e.Number, w.admin.Key())
					if err != nil || len(copies) == 0 {
						t.Errorf("no copy of the key of epoch %d: %v", e.Number, err)
						continue
					}
					_, err = w.admin.OpenKey(copies[0].Sealed, id, e.Number, e.Commit)
					w.must(err)
				}
			})
		}
	}
}

// TestOld: what was signed long ago is offered again only when a person says so.
func TestOld(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	p.liar.lie = func(store.Change, func() error) error { return store.ErrDenied }
	w.is(p.add("bob"), store.ErrDenied)
	w.later("state", 11*time.Minute)
	p = w.process(w.admin, "state")
	w.is(p.add("carol"), ErrKept)
	if names := w.names(); len(names) != 1 {
		t.Errorf("in the store are %q", names)
	}
	p.Confirm = true
	w.must(p.add("carol"))
	if names := w.names(); !slices.Equal(names, []string{"admin", "bob", "carol"}) {
		t.Errorf("in the store are %q", names)
	}
	w.oncePerPlace()
}

// TestAgain: a command that is given again does what it was to do once; another is refused for what it is.
func TestAgain(t *testing.T) {
	strictly := func(name string) Next {
		return func(ctx context.Context, s *ledger.State) (*Proposal, error) {
			p, err := adding(name)(ctx, s)
			if err == nil && p == nil {
				err = store.ErrExists
			}
			return p, err
		}
	}
	for name, stands := range map[string]bool{"it stands": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.process(w.admin, "state")
			w.must(p.add("carol"))
			p.liar.lie = func(_ store.Change, honest func() error) error {
				if stands {
					w.must(honest())
				}
				return store.ErrDenied
			}
			w.is(p.open(w.bus).Append(t.Context(), strictly("bob")), store.ErrDenied)
			w.later("state", time.Minute)
			w.is(w.process(w.admin, "state").open(w.bus).Append(t.Context(), strictly("carol")), store.ErrExists) // it has settled what was kept
			if stands {                                                                                           // which nobody was told
				w.must(w.process(w.admin, "state").open(w.bus).Append(t.Context(), strictly("bob")))
			}
			p = w.process(w.admin, "state")
			w.is(p.open(w.bus).Append(t.Context(), strictly("bob")), store.ErrExists)

			p.liar.lie = func(_ store.Change, honest func() error) error {
				if stands {
					w.must(honest())
				}
				return store.ErrDenied
			}
			w.is(p.open(w.bus).Append(t.Context(), strictly("dave")), store.ErrDenied)
			w.later("state", time.Minute)
			if stands { // and was met in passing
				w.process(w.admin, "state").open(w.bus)
				w.must(w.process(w.admin, "state").open(w.bus).Sync(t.Context()))
			}
			w.must(w.process(w.admin, "state").open(w.bus).Append(t.Context(), strictly("dave")))
			w.is(w.process(w.admin, "state").open(w.bus).Append(t.Context(), strictly("dave")), store.ErrExists)
			if names := w.names(); !slices.Equal(names, []string{"admin", "bob", "carol", "dave"}) {
				t.Errorf("in the store are %q", names)
			}
			w.oncePerPlace()
		})
	}
}

// TestLost: an entry whose place a verified one has taken is given up, and said to be.
func TestLost(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	w.must(p.open(w.bus).Append(t.Context(), func(context.Context, *ledger.State) (*Proposal, error) {
		return &Proposal{Body: &ledger.Add{Users: []ledger.NewUser{{Key: person(2).Key(), Name: "second", Role: ledger.RoleAdmin}}}}, nil
	}))
	p.liar.lie = func(store.Change, func() error) error { return store.ErrDenied }
	w.is(p.add("bob"), store.ErrDenied)
	w.later("state", time.Hour)
	w.must(w.process(person(2), "other").add("carol"))

	p = w.process(w.admin, "state")
	w.must(p.add("dave"))
	if names := w.names(); !slices.Equal(names, []string{"admin", "carol", "dave", "second"}) {
		t.Errorf("in the store are %q", names)
	}
	if !slices.Equal(p.told, []string{"add lost"}) {
		t.Errorf("told %q", p.told)
	}
}

// TestTogether: processes of one identity that write to one log at once sign one entry for each place, and all get
// theirs in.
func TestTogether(t *testing.T) {
	w := newWorld(t)
	const processes, each = 4, 4
	var wait sync.WaitGroup
	for i := range processes {
		p := w.process(w.admin, "state")
		p.Timeout = time.Minute
		wait.Go(func() {
			for j := range each {
				if err := p.add(fmt.Sprintf("user-%d-%d", i, j)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	w.oncePerPlace()
	if names := w.names(); len(names) != 1+processes*each {
		t.Errorf("%d users", len(names))
	}
}

// forgetting removes the last entries of a log from the store.
func (w *world) forgetting(log crypto.ID, after uint64) {
	w.Helper()
	w.must(w.store.Close())
	path := filepath.Join(w.dir, "unibus.db")
	db, err := sql.Open("sqlite", "file:"+path)
	w.must(err)
	_, err = db.Exec(`DELETE FROM entries WHERE log = ? AND seq > ?`, log[:], after)
	w.must(errors.Join(err, db.Close(), os.Remove(filepath.Join(w.dir, "heads.unibus.db"))))
	w.store, err = sqlite.Open(w.Context(), path, sqlite.Options{})
	w.must(err)
	w.Cleanup(func() { w.store.Close() })
}

// TestReturn: a log that went back is refused, by later processes too, until a person names where it ends now.
func TestReturn(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	w.must(p.add("bob"))
	before := p.open(w.bus)
	w.must(before.Sync(t.Context()))
	w.must(p.add("carol"))
	w.forgetting(w.bus, 2)

	p = w.process(w.admin, "state")
	l := p.open(w.bus)
	w.is(l.Sync(t.Context()), ErrRolledBack)
	w.is(p.add("dave"), ErrRolledBack)
	_, err := l.Audit(t.Context())
	w.is(err, ErrRolledBack)
	p.accept(l.State().Head.Hash) // that of what is gone
	w.is(l.Sync(t.Context()), ErrRolledBack)
	p.accept(before.State().Head.Hash)
	w.must(l.Sync(t.Context()))
	if end := before.State().Head; l.State().Head != end || p.returned != end {
		t.Errorf("it was taken to %v, as is told to %v, want %v", l.State().Head, p.returned, end)
	}
	p.Accept = nil
	w.must(l.Sync(t.Context()))
	p = w.process(w.admin, "state")
	w.must(p.add("dave"))
	if names := w.names(); !slices.Equal(names, []string{"admin", "bob", "carol", "dave"}) { // carol's place was signed for
		t.Errorf("in the store are %q", names)
	}
}

// TestParted: a store that was restored, and written to since from another state directory, has another log than was
// verified from some entry on, whether it ends earlier, at the same place or later. It is refused as one that went back,
// until a person names where it ends.
func TestParted(t *testing.T) {
	for _, since := range [][]string{{"dave"}, {"dave", "erin"}, {"dave", "erin", "frank"}} {
		w := newWorld(t)
		p := w.process(w.admin, "state")
		w.must(p.add("bob"))
		w.must(p.add("carol"))
		w.forgetting(w.bus, 1)
		other := w.process(w.admin, "another state")
		for _, name := range since {
			w.must(other.add(name))
		}
		p = w.process(w.admin, "state")
		l := p.open(w.bus)
		err := l.Sync(t.Context())
		w.is(err, ErrRolledBack)
		end := other.open(w.bus)
		w.must(end.Sync(t.Context()))
		if r := remedy.Of(err); r != (remedy.Remedy{Kind: remedy.AcceptLog, Hash: end.State().Head.Hash}) {
			t.Errorf("with %q since: %v, %+v, want one that ends at %v", since, err, r, end.State().Head)
		}
		p.accept(end.State().Head.Hash)
		w.must(l.Sync(t.Context()))
	}
}

// TestForeign: a store that gives another log, or a room of another bus, is not believed.
func TestForeign(t *testing.T) {
	w, other := newWorld(t), worldIn(t, t.TempDir(), person(8))
	p := w.process(w.admin, "state")
	room := p.room("room").ID()
	q := other.process(person(9), "state")
	l, err := q.Open(t.Context(), room, other.bus)
	w.must(err)
	q.liar.Store = w.store
	w.is(l.Sync(t.Context()), store.ErrIntegrity)
	l, err = p.Open(t.Context(), crypto.ID{1}, w.bus)
	w.must(err)
	w.is(l.Sync(t.Context()), store.ErrNotFound)
}

// TestTakenBack: a store says that an entry is there, keeps it for itself and goes on with the log as it was. A person
// who takes that for what it is has the same entries offered again, and no others signed for their places.
func TestTakenBack(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	w.must(p.add("bob"))
	w.must(p.add("carol"))
	w.must(p.add("dave"))
	w.forgetting(w.bus, 2)
	p = w.process(w.admin, "state")
	l := p.open(w.bus)
	stored, _, err := l.stored(t.Context())
	w.must(err)
	p.accept(stored.Head.Hash)
	w.must(l.Sync(t.Context()))
	p.liar.lie = func(store.Change, func() error) error { return store.ErrUnavailable }
	w.is(p.add("mallory"), store.ErrUnavailable)
	w.must(p.Pins.Logs.Return(t.Context(), l.State())) // as by another process of theirs
	w.later("state", old)
	p.liar.lie = nil
	w.is(p.add("erin"), ErrKept)
	p.Confirm = true
	w.must(p.add("erin"))
	if names := w.names(); !slices.Equal(names, []string{"admin", "bob", "carol", "dave", "erin"}) {
		t.Errorf("in the store are %q", names)
	}
	w.oncePerPlace()
}

// TestElsewhere: a room that was verified on one bus is none of another: a store there that denies it has lost nothing, and
// one that has it lies.
func TestElsewhere(t *testing.T) {
	w := newWorld(t)
	p := w.process(w.admin, "state")
	room := p.room("ops")
	there, err := p.Open(t.Context(), room.ID(), crypto.ID{9})
	w.must(err)
	w.is(there.Sync(t.Context()), store.ErrIntegrity)
	p.liar.heads = func([]ledger.Head) ([]ledger.Head, error) { return make([]ledger.Head, 1), nil }
	if err := there.Sync(t.Context()); !errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrIntegrity) {
		t.Errorf("a store that has nothing of it: %v", err)
	}
	w.is(room.Sync(t.Context()), ErrRolledBack) // of its own bus it is one that has lost it
	honest, lost := p.open(w.bus), p.liar.heads
	p.liar.heads = nil
	w.must(honest.Sync(t.Context()))
	bus, err := p.Open(t.Context(), w.bus, crypto.ID{}) // a bus is of none
	w.must(err)
	w.must(bus.Sync(t.Context()))
	bus, err = p.Open(t.Context(), w.bus, crypto.ID{9}) // taken for a room
	w.must(err)
	w.is(bus.Sync(t.Context()), store.ErrIntegrity)
	p.liar.heads = lost
	if err := bus.Sync(t.Context()); !errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrIntegrity) {
		t.Errorf("a store that has nothing of another bus: %v", err)
	}
}
