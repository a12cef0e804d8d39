package pins

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, path string) *Pins {
	t.Helper()
	p, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// states are those of one log after each of its entries.
func states(t *testing.T, names ...string) []*ledger.State {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	var log [][]byte
	var out []*ledger.State
	next := func(body ledger.Body) {
		s, err := ledger.Verify(log)
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Next(id, body, time.UnixMilli(1))
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, e)
		if s, err = ledger.Verify(log); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	next(&ledger.Found{Name: "alice", Key: id.Key()})
	for i, name := range names {
		user, err := crypto.NewIdentity([32]byte{2, byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		next(&ledger.Add{Users: []ledger.NewUser{{Key: user.Key(), Name: name, Role: ledger.RoleUser}}})
	}
	return out
}

func TestAdvance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x", "pins.db")
	p, other := open(t, path), open(t, path) // another process
	s := states(t, "bob", "carol")
	forked := states(t, "bob", "mallory")
	log := s[0].ID
	if empty, err := p.State(t.Context(), log); err != nil || empty.Head.Seq != 0 {
		t.Fatalf("%v, %v", empty, err)
	}
	for _, step := range []struct {
		pins  *Pins
		state *ledger.State
		want  error
		seq   uint64
	}{
		{p, s[0], nil, 1},
		{other, s[1], nil, 2},
		{p, s[0], nil, 2}, // behind: nothing moves back
		{p, s[1], nil, 2},
		{p, s[2], nil, 3},
		{other, forked[2], ErrContradiction, 3},
		{other, forked[1], nil, 3}, // the same history so far
	} {
		if err := step.pins.Advance(t.Context(), step.state); !errors.Is(err, step.want) {
			t.Errorf("to %d: %v", step.state.Head.Seq, err)
		}
		got, err := other.State(t.Context(), log)
		if err != nil || got.Head.Seq != step.seq {
			t.Errorf("pinned at %d, want %d (%v)", got.Head.Seq, step.seq, err)
		}
	}
}

func TestMeanings(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "pins.db"))
	ctx, bus, room, key := t.Context(), crypto.ID{1}, crypto.ID{2}, crypto.PublicKey{3}
	steps := []func() error{
		func() error { return p.PinServer(ctx, "nats://a", bus) },
		func() error { return p.PinName(ctx, bus, "bob", key, false) },
		func() error { return p.PinSubject(ctx, bus, "ops", room, false) },
	}
	for i, pin := range append(steps, steps...) { // again the same is fine
		if err := pin(); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	for i, err := range []error{
		p.PinServer(ctx, "nats://a", crypto.ID{9}), p.PinName(ctx, bus, "bob", crypto.PublicKey{9}, false), p.PinSubject(ctx, bus, "ops", crypto.ID{9}, false),
	} {
		if !errors.Is(err, ErrContradiction) {
			t.Errorf("another meaning %d: %v", i, err)
		}
	}
	if id, err := p.Server(ctx, "nats://a"); err != nil || id != bus {
		t.Errorf("%v, %v", id, err)
	}
	if id, err := p.Server(ctx, "nats://b"); err != nil || !id.IsZero() {
		t.Errorf("%v, %v", id, err)
	}
	if err := p.PinSubject(ctx, bus, "ops", crypto.ID{9}, true); err != nil {
		t.Error(err)
	}
	if id, err := p.Subject(ctx, bus, "ops"); err != nil || id != (crypto.ID{9}) {
		t.Errorf("confirmed, it means %v, %v", id, err)
	}
	if id, err := p.Subject(ctx, crypto.ID{8}, "ops"); err != nil || !id.IsZero() {
		t.Errorf("on another bus it means %v, %v", id, err)
	}
	if v, err := p.Setting(ctx, "s"); v != "" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if err := errors.Join(p.Set(ctx, "s", "1"), p.Set(ctx, "s", "2")); err != nil {
		t.Error(err)
	}
	if v, err := p.Setting(ctx, "s"); v != "2" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
}

// TestOffers: one entry is signed for a log at a time, and none for a place where a verified one stands; only that
// settles it.
func TestOffers(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "pins.db"))
	ctx := t.Context()
	s := states(t, "bob", "carol", "dave")
	log := s[0].ID
	sign := func(statement string) func() (Offer, error) {
		return func() (Offer, error) {
			return Offer{Seq: 3, Statement: []byte(statement), At: time.UnixMilli(7), Epoch: 2, Key: []byte("key")}, nil
		}
	}
	kept := func(want string) {
		t.Helper()
		o, err := p.Offered(ctx, log)
		if err != nil {
			t.Fatal(err)
		}
		if got := ""; o != nil {
			if got = string(o.Statement); got != want || o.Seq != 3 || !o.At.Equal(time.UnixMilli(7)) || o.Epoch != 2 || string(o.Key) != "key" {
				t.Errorf("kept is %+v, want %s", o, want)
			}
		} else if got != want {
			t.Errorf("nothing is kept, want %s", want)
		}
	}
	advance := func(s *ledger.State) {
		t.Helper()
		if err := p.Advance(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	kept("")
	advance(s[1])
	failed := errors.New("no signature")
	if err := p.Offer(ctx, log, 3, func() (Offer, error) { return Offer{}, failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	kept("")
	if err := p.Offer(ctx, log, 3, sign("one")); err != nil {
		t.Fatal(err)
	}
	kept("one")
	for _, seq := range []uint64{3, 4} {
		if err := p.Offer(ctx, log, seq, func() (Offer, error) { t.Error("signed"); return Offer{}, nil }); !errors.Is(err, ErrTaken) {
			t.Errorf("beside it, for place %d: %v", seq, err)
		}
	}
	advance(s[0])
	advance(s[1])
	kept("one")
	if err := p.Offer(ctx, crypto.ID{1}, 3, sign("of another log")); err != nil {
		t.Error(err)
	}
	advance(s[2])
	kept("")
	if err := p.Offer(ctx, log, s[2].Head.Seq, func() (Offer, error) { t.Error("signed"); return Offer{}, nil }); !errors.Is(err, ErrTaken) {
		t.Errorf("where an entry stands: %v", err)
	}

	// A person has decided for what was before.
	if err := p.Offer(ctx, log, s[2].Head.Seq+1, sign("two")); err != nil {
		t.Fatal(err)
	}
	before, anew := Place{Anew: s[1].Head.Seq, Seq: 7}, Place{Anew: s[2].Head.Seq, Seq: 9}
	reached := func(at Place) {
		t.Helper()
		if err := p.Reached(ctx, log, at); err != nil {
			t.Fatal(err)
		}
	}
	reached(anew)
	if err := p.Return(ctx, s[1]); err != nil {
		t.Fatal(err)
	}
	kept("")
	// What had begun anew has not: its places are forgotten, and new ones are remembered.
	if at, err := p.Place(ctx, log); err != nil || at != (Place{}) {
		t.Errorf("the places of what is given up: %v, %v", at, err)
	}
	reached(before)
	if err := p.Return(ctx, s[1]); err != nil {
		t.Fatal(err)
	}
	if at, err := p.Place(ctx, log); err != nil || at != before {
		t.Errorf("the places of what is not: %v, %v", at, err)
	}
	if now, err := p.State(ctx, log); err != nil || now.Head != s[1].Head {
		t.Errorf("pinned is %v, %v", now.Head, err)
	}
}

// TestOwner: what another identity verified is not taken for one's own.
func TestOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	for i, v := range []struct {
		owner crypto.PublicKey
		want  error
	}{{crypto.PublicKey{1}, nil}, {crypto.PublicKey{1}, nil}, {crypto.PublicKey{2}, ErrDamaged}, {crypto.PublicKey{1}, nil}} {
		if err := open(t, path).Of(t.Context(), v.owner); !errors.Is(err, v.want) {
			t.Errorf("%d: %v, want %v", i, err, v.want)
		}
	}
}

// TestMany: many processes on one file lose nothing and wait for one another.
func TestMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	s := states(t, "bob", "carol", "dave")
	var wait sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wait.Go(func() {
			p, err := Open(t.Context(), path)
			if err != nil {
				errs[i] = err
				return
			}
			errs[i] = errors.Join(p.Advance(t.Context(), s[i%len(s)]), p.Set(t.Context(), fmt.Sprint(i), "x"), p.Close())
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	p := open(t, path)
	if got, err := p.State(t.Context(), s[0].ID); err != nil || got.Head != s[3].Head {
		t.Errorf("%v, %v", got.Head, err)
	}
}

// TestTold: what a frame has told of a stream is forgotten when nothing of that is on its way.
func TestTold(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, v := range []struct {
		name    string
		ended   bool
		written time.Time
		frames  uint64 // that were told, of 2
		kept    bool
	}{
		{"ended", true, now, 2, false},
		{"acknowledged more since", true, now, 1, true},
		{"under way", false, now.Add(-underWay), 2, true},
		{"under way, with a clock that was set back meanwhile", false, now.Add(underWay), 2, true},
		{"quiet", false, now.Add(-underWay - time.Second), 2, false},
		{"of another time", false, now.Add(underWay + time.Second), 2, false},
	} {
		t.Run(v.name, func(t *testing.T) {
			p := open(t, filepath.Join(t.TempDir(), "pins.db"))
			room := crypto.ID{1}
			f := crypto.Follows{Stream: [16]byte{2}, Frames: 2, At: 3, Place: 4, Sealed: 5}
			if err := p.Stored(t.Context(), room, f, v.ended, v.written); err != nil {
				t.Fatal(err)
			}
			told := f
			told.Frames = v.frames
			if err := p.Told(t.Context(), room, []crypto.Follows{told}, now); err != nil {
				t.Fatal(err)
			}
			left, err := p.Streams(t.Context(), room, [16]byte{})
			if err != nil || len(left) > 1 || len(left) == 1 != v.kept || v.kept && left[0] != f {
				t.Errorf("left %+v, %v", left, err)
			}
		})
	}
}

// TestDamaged: what is remembered is not believed when it is damaged, and nobody else is blamed for it.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	s := states(t, "bob")
	if err := p.Advance(t.Context(), s[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := p.db.Exec(`DROP TRIGGER logs_updated; UPDATE logs SET snapshot = CAST(substr(snapshot, 1, 40) || x'ff' || substr(snapshot, 42) AS BLOB)`); err != nil {
		t.Fatal(err)
	}
	if _, err := p.State(t.Context(), s[0].ID); !errors.Is(err, ErrDamaged) {
		t.Errorf("read: %v", err)
	}
	if err := p.Advance(t.Context(), s[1]); !errors.Is(err, ErrDamaged) {
		t.Errorf("pinned over: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "pins.db")
	if err := os.WriteFile(bad, bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), bad); !errors.Is(err, ErrDamaged) {
		t.Errorf("opened: %v", err)
	}
}

// TestFlipped: with any bit of the file flipped, what is remembered is read, or the file is damaged; nothing else comes
// of it.
func TestFlipped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	s := states(t, "bob", "carol")
	log, key := s[0].ID, crypto.PublicKey{1}
	sign := func(seq uint64) func() (Offer, error) {
		return func() (Offer, error) {
			return Offer{Seq: seq, Statement: []byte("signed"), At: time.UnixMilli(7), Epoch: 2, Key: []byte("key")}, nil
		}
	}
	stream := crypto.Follows{Stream: [16]byte{1}, Frames: 1, At: 2, Place: 3, Sealed: 4}
	if err := errors.Join(
		p.Of(t.Context(), key), p.Advance(t.Context(), s[0]), p.Offer(t.Context(), log, 2, sign(2)), p.Advance(t.Context(), s[1]), p.Offer(t.Context(), log, 3, sign(3)),
		p.PinServer(t.Context(), "here", log), p.PinName(t.Context(), log, "bob", key, false), p.PinSubject(t.Context(), log, "ops", log, false),
		p.Reached(t.Context(), log, Place{Seq: 1, Own: 1}), p.Stored(t.Context(), log, stream, true, time.UnixMilli(7)),
		p.Forked(t.Context(), log, Fork{Sender: key, At: 2}), p.Close(),
	); err != nil {
		t.Fatal(err)
	}
	storetest.DamagedFile(t, path, damages(), 101, func() error { return readAll(t, path, key, log) }, ErrDamaged)
	for size := range int64(2) {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if err := readAll(t, path, key, log); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
}

// damages are statements that give each column of each table another value, as likely as any, or remove rows, as no
// part of the program does.
func damages() (statements []string) {
	var quiet strings.Builder
	for _, t := range tables {
		for _, trigger := range []string{"inserted", "updating", "updated", "deleting", "deleted"} {
			fmt.Fprintf(&quiet, "DROP TRIGGER IF EXISTS %s_%s; ", t.name, trigger)
		}
	}
	for _, t := range tables {
		for _, column := range t.columns {
			name, kind, _ := strings.Cut(column, " ")
			value := map[string]string{
				"BLOB": fmt.Sprintf("CAST(substr(%s, 1, 1) || x'01' || substr(%[1]s, 3) AS BLOB)", name), "TEXT": name + " || 'x'", "INTEGER": name + " + 1",
			}[strings.Fields(kind)[0]]
			statements = append(statements, fmt.Sprintf("%sUPDATE %s SET %s = %s", quiet.String(), t.name, name, value))
		}
		statements = append(statements, fmt.Sprintf("%sDELETE FROM %s", quiet.String(), t.name))
	}
	return append(statements, "DELETE FROM logs", "DELETE FROM counts", "UPDATE counts SET rows = rows + 1")
}

// readAll reads everything that a file remembers of a log, with the first error that is met.
func readAll(t *testing.T, path string, owner crypto.PublicKey, log crypto.ID) error {
	t.Helper()
	ctx := t.Context()
	p, err := Open(ctx, path)
	if err != nil {
		return err
	}
	defer p.Close()
	for _, read := range []func() error{
		func() error { return p.Of(ctx, owner) },
		func() error { _, err := p.State(ctx, log); return err },
		func() error { _, err := p.Offered(ctx, log); return err },
		func() error {
			if err := p.Offer(ctx, log, 3, nil); !errors.Is(err, ErrTaken) {
				return err
			}
			return nil
		},
		func() error { _, err := p.Server(ctx, "here"); return err },
		func() error { _, err := p.Buses(ctx); return err },
		func() error { return p.PinName(ctx, log, "bob", owner, true) },
		func() error { _, err := p.Subject(ctx, log, "ops"); return err },
		func() error { _, err := p.Place(ctx, log); return err },
		func() error { _, err := p.Streams(ctx, log, [16]byte{}); return err },
		func() error { _, err := p.Forks(ctx, log); return err },
	} {
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}

// TestBusy: a file that others hold for too long is unavailable, and nothing worse.
func TestBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	tx, err := p.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	hasty, err := sql.Open("sqlite", sqlite.DSN(path, time.Millisecond, sqlite.Full))
	if err != nil {
		t.Fatal(err)
	}
	defer hasty.Close()
	other := &Pins{db: hasty, lax: hasty, looked: map[string]int{}}
	if err := other.Set(t.Context(), "name", "value"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("set: %v", err)
	}
}

func quiet() {}

// TestNotKept: a folder that cannot be written, or is none, is unavailable; nothing is read in its place.
func TestNotKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), filepath.Join(file, "pins.db")); !errors.Is(err, ErrNotKept) {
		t.Errorf("below a file: %v", err)
	}
	path := filepath.Join(t.TempDir(), "pins.db")
	p := open(t, path)
	for _, full := range []string{"PRAGMA max_page_count = 1", "PRAGMA query_only = 1"} {
		if _, err := p.db.Exec(full); err != nil {
			t.Fatal(err)
		}
		if err := p.Set(t.Context(), "name", strings.Repeat("x", 1<<20)); !errors.Is(err, ErrNotKept) {
			t.Errorf("%s: %v", full, err)
		}
	}
}

// TestTurn: only so many have their turn at once; another waits, until one ends, it has waited long enough, or it is
// called off.
func TestTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.db")
	var done []func()
	for range turns {
		end, err := open(t, path).Turn(t.Context(), 0, quiet)
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, end)
	}
	p := open(t, path)
	off, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Turn(off, time.Hour, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
	impatient := open(t, path)
	for _, atMost := range []time.Duration{time.Millisecond, time.Hour} { // once in vain is enough
		end, err := impatient.Turn(t.Context(), atMost, quiet)
		if err != nil {
			t.Fatal(err)
		}
		end()
	}
	mine := make(chan error)
	go func() {
		end, err := p.Turn(t.Context(), time.Hour, quiet)
		if err == nil {
			end()
		}
		mine <- err
	}()
	for _, end := range done {
		end()
	}
	if err := <-mine; err != nil {
		t.Errorf("when others had ended theirs: %v", err)
	}
}
