package service

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

// TestAppendFails: an entry that the store did not take is not there for those who waited meanwhile, and
// who offer it again.
func TestAppendFails(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "bus.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{OpTimeout: 500 * time.Millisecond})
	must(err)
	defer s.Close()
	admin, err := crypto.NewIdentity([32]byte{'a'})
	must(err)
	bob, err := crypto.NewIdentity([32]byte{'b'})
	must(err)
	bus, err := store.Found(t.Context(), s, admin, "admin", time.Now())
	must(err)
	statement, err := bus.Next(admin, &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}}}, time.Now())
	must(err)

	l := newLogs(s)
	anything := func(*ledger.State, *ledger.State, *ledger.Entry) error { return nil }
	waiting := l.entry(bus.ID) // as someone has it who waits for the one before
	holder, err := sql.Open("sqlite", sqlite.DSN(path, time.Second, sqlite.Full))
	must(err)
	defer holder.Close()
	tx, err := holder.BeginTx(t.Context(), nil)
	must(err)
	if _, _, err := l.append(t.Context(), bus.ID, statement, anything); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("a locked file: %v", err)
	}
	must(tx.Rollback())
	if n := waiting.state.Load().Head.Seq; n > 1 {
		t.Errorf("they are shown entry %d, which is not there", n)
	}
	l.states[bus.ID] = waiting
	place, added, err := l.append(t.Context(), bus.ID, statement, anything)
	if err != nil || added == nil {
		t.Errorf("again: %v, %v", added, err)
	}
	if h, err := store.HeadOf(t.Context(), s, bus.ID); err != nil || h.Seq != 2 || h.Hash != place.Hash {
		t.Errorf("the log ends at %v, %v", h, err)
	}
}

// amid is a store whose appends have something done in their midst: before the entry stands, and before they return.
type amid struct {
	store.Backend
	before, after func()
}

// Append does it.
func (a *amid) Append(ctx context.Context, c store.Change) error {
	a.before()
	err := a.Backend.Append(ctx, c)
	a.after()
	return err
}

// TestReadAmidAppend: who reads a log does not wait until an entry of it has been written, and what they have read stays so:
// somebody who was let in, and revoked before that was acknowledged, is out.
func TestReadAmidAppend(t *testing.T) {
	a := newAudited(t)
	bob := person(t, 'b')
	l := newLogs(nil)
	reads := func(want uint64) {
		t.Helper()
		if s, err := l.state(t.Context(), a.bus.ID); err != nil || s.Head.Seq != want {
			t.Errorf("amid the append the log is read up to %d, %v; want %d", s.Head.Seq, err, want)
		}
	}
	entries := a.bus.Head.Seq
	add := &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}}}
	after := *a.bus
	added := storetest.Next(t, &after, a.admin, add)
	l.store = &amid{a.store, func() { reads(entries) }, func() {
		reads(entries + 1)
		storetest.Write(t, a.store, &after, a.admin, &ledger.Revoke{Keys: []crypto.PublicKey{bob.Key()}})
		reads(entries + 2)
	}}
	anything := func(*ledger.State, *ledger.State, *ledger.Entry) error { return nil }
	if _, e, err := l.append(t.Context(), a.bus.ID, added.Entry.Statement, anything); err != nil || e == nil {
		t.Fatalf("%v, %v", e, err)
	}
	if l.reached(a.bus.ID).Seq != entries+2 || l.roster.has(bob.Key(), time.Now()) {
		t.Errorf("the log is known up to %d, and who was revoked is in it: %v", l.reached(a.bus.ID).Seq, l.roster.has(bob.Key(), time.Now()))
	}
}

// TestGoesOn: a head before what was read of a log is damage; the same, and any after it, is not.
func TestGoesOn(t *testing.T) {
	at := func(seq uint64) ledger.Head { return ledger.Head{Seq: seq} }
	for seq, want := range map[uint64]error{6: store.ErrDamaged, 7: nil, 8: nil} {
		if err := goesOn(crypto.ID{1}, at(7), at(seq)); !errors.Is(err, want) {
			t.Errorf("entry %d after 7: %v", seq, err)
		}
	}
}

// TestPolicyOf: of a log that is no room's there is no policy, nor of one that is not there.
func TestPolicyOf(t *testing.T) {
	a := newAudited(t)
	logs := newLogs(a.store)
	for name, c := range map[string]struct {
		log  crypto.ID
		want error
	}{
		"a room": {a.room.ID, nil}, "the bus": {a.bus.ID, store.ErrDamaged}, "no log": {crypto.ID{1}, store.ErrNotFound},
	} {
		if _, err := logs.policy(c.log)(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLogsBounded: as many folded logs are held as may be, and what is no log is not held at all.
func TestLogsBounded(t *testing.T) {
	a := newAudited(t)
	logs := newLogs(a.store)
	for i := range maxStates + 9 {
		logs.entry(crypto.ID{byte(i), byte(i >> 8), 1})
	}
	if n := len(logs.states); n != maxStates {
		t.Errorf("%d are held", n)
	}
	held := len(logs.states)
	if _, err := logs.state(t.Context(), crypto.ID{7}); !errors.Is(err, store.ErrNotFound) || len(logs.states) > held {
		t.Errorf("%d are held after one that is none, %v", len(logs.states), err)
	}
	if head := logs.reached(a.room.ID); head.Seq != 0 {
		t.Errorf("one that nobody read was read up to %d", head.Seq)
	}
	if _, err := logs.state(t.Context(), a.room.ID); err != nil || logs.reached(a.room.ID) != a.room.Head {
		t.Errorf("it was read up to %v, %v", logs.reached(a.room.ID), err)
	}
}
