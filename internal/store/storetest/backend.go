package storetest

import (
	"errors"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file tries what store.Backend adds: what is asked of a store that is reached directly. Through a service it tries
// nothing.

// testCopying: that a bus is being copied into the store is remembered until it is not, and its logs are what they are.
func testCopying(t *testing.T, w *world) {
	w.promise("Target.Copying: what BeginCopy says stands until EndCopy")
	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	for _, under := range []bool{true, true, false} {
		if under {
			w.must(v.BeginCopy(w.ctx))
		} else {
			w.must(v.EndCopy(w.ctx))
		}
		if err := store.CheckWhole(w.ctx, v); under != errors.Is(err, store.ErrUnavailable) || !under && err != nil {
			w.errorf("a bus is being copied: %v; %v", under, err)
		}
		if behind, err := v.Behind(w.ctx); err != nil || len(behind) > 0 {
			w.errorf("behind are %v, %v", behind, err)
		}
		for log, err := range v.Logs(w.ctx) {
			if err != nil {
				w.errorf("log %s: %v", log, err)
			}
		}
	}
}

// testCreated: a room counts for who created it until it is archived, whoever is in it.
func testCreated(t *testing.T, w *world) {
	w.promise("Inventory.Created: a room counts for who created it until it is archived")
	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	alice, bob := identity(t, 1), identity(t, 2)
	w.allow(alice, bob)
	is := func(what string, alices, bobs int) {
		t.Helper()
		for id, want := range map[*crypto.Identity]int{alice: alices, bob: bobs} {
			if n, err := v.Created(w.ctx, id.Key()); err != nil || n != want {
				w.errorf("%s: %d rooms created by %s, want %d (%v)", what, n, map[*crypto.Identity]string{alice: "alice", bob: "bob"}[id], want, err)
			}
		}
	}
	is("at first", 0, 0)
	one, _ := w.room(alice, "one")
	two, _ := w.room(alice, "two")
	w.room(bob, "three")
	is("three rooms", 2, 1)
	for _, s := range []*ledger.State{one, two} {
		w.must(w.append(s, alice, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleOwner}}}))
	}
	is("bob is an owner", 2, 1)
	w.must(w.append(one, alice, &ledger.Leave{}))
	is("alice left one", 2, 1)
	w.must(w.append(two, bob, &ledger.MemberRole{Key: alice.Key(), Role: ledger.RoleReader}))
	is("alice only reads the other", 2, 1)
	w.must(w.append(one, bob, &ledger.Invite{Members: []ledger.NewMember{{Key: alice.Key(), Role: ledger.RoleMember}}}))
	is("alice was invited again", 2, 1)
	for _, s := range []*ledger.State{one, two} {
		if wrong, err := v.Differs(w.ctx, s); wrong > 0 || err != nil {
			w.errorf("%d records are not what the log says, %v", wrong, err)
		}
	}
	w.must(w.append(one, alice, &ledger.Leave{}))
	w.must(w.append(one, bob, &ledger.Archive{}))
	is("one is archived", 1, 1)
	if wrong, err := v.Rebuild(w.ctx, one); wrong > 0 || err != nil {
		w.errorf("without alice %d records are not what the log says, %v", wrong, err)
	}
	is("written anew", 1, 1)
}

// testListedAt: a room is listed as of the last entry of its log, and one that is not there, and the bus, as of none.
func testListedAt(t *testing.T, w *world) {
	w.promise("Repairer.ListedAt: a room's record is of the last entry of its log")
	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	alice, bob := identity(t, 1), identity(t, 2)
	w.allow(alice, bob)
	is := func(log crypto.ID, want uint64) {
		t.Helper()
		seq, err := v.ListedAt(w.ctx, log)
		for err == nil && seq < want && w.ctx.Err() == nil { // a copy may lag for a moment
			seq, err = v.ListedAt(w.ctx, log)
		}
		if seq != want || err != nil {
			w.errorf("it is listed at %d, %v; want %d", seq, err, want)
		}
	}
	one, _ := w.room(alice, "one")
	is(one.ID, 1)
	w.must(w.append(one, alice, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}}))
	is(one.ID, 2)
	is(crypto.ID{1}, 0)
	is(w.bus.ID, 0)
}
