package storetest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file tries what all of store.Store promises: what is not there, what does not answer, watching, paging.

// testNotFound asks for what is not there, in each way there is: nobody has to tell an empty answer from a failure.
func testNotFound(t *testing.T, w *world) {
	w.promise("Store: what is not there is ErrNotFound")
	bob := identity(t, 2)
	w.allow(bob)
	s, key := w.room(w.Admin, "there")
	unknown, nobody := crypto.ID{1}, identity(t, 9).Key()
	errs := map[string]error{}
	tried := func(name string, err error) { errs[name] = err }
	_, err := store.HeadOf(w.ctx, w.s, unknown)
	tried("HeadOf", err)
	_, err = w.s.Room(w.ctx, unknown)
	tried("Room", err)
	_, err = w.s.RoomBySubject(w.ctx, "nowhere")
	tried("RoomBySubject", err)
	_, err = w.s.Members(w.ctx, unknown)
	tried("Members", err)
	_, err = w.s.Member(w.ctx, unknown, nobody)
	tried("Member of no room", err)
	_, err = w.s.Member(w.ctx, s.ID, nobody)
	tried("Member", err)
	_, err = w.s.Key(w.ctx, unknown, 1, w.Admin.Key())
	tried("Key of no room", err)
	_, err = w.s.Key(w.ctx, s.ID, 2, w.Admin.Key())
	tried("Key of no epoch", err)
	_, err = w.As(bob).Key(w.ctx, s.ID, 0, bob.Key())
	tried("Key of no member", err)
	_, err = CardOf(w.ctx, w.s, nobody)
	tried("CardOf", err)
	_, err = w.s.User(w.ctx, nobody)
	tried("User", err)
	for name, err := range errs {
		if !errors.Is(err, store.ErrNotFound) {
			w.errorf("%s: %v", name, err)
		}
	}
	w.promise("Log.Entries: none of an unknown log, and none after the last")
	for _, err := range w.s.Entries(w.ctx, unknown, 0) {
		w.errorf("an unknown log has entries (%v)", err)
	}
	for range w.s.Entries(w.ctx, s.ID, 1) {
		w.errorf("there is an entry after the last")
	}
	w.promise("Allowlist.IsAuthorized: false without an error for nobody")
	if ok, err := w.s.IsAuthorized(w.ctx, nobody); ok || err != nil {
		w.errorf("nobody is authorized: %v, %v", ok, err)
	}
	w.opens(w.Admin, s.ID, 0, 1, key)
	w.promise("Keyring.Key: through a service only the caller's own")
	if w.OwnKeysOnly {
		_, err := w.s.Key(w.ctx, s.ID, 1, bob.Key())
		w.is(err, store.ErrDenied)
	}
}

// testWatch waits for a notice of each entry that is appended, in the log of the bus and in that of a room.
func testWatch(t *testing.T, w *world) {
	w.promise("Store.Watch: every entry from now on, until its context ends")
	ctx, cancel := context.WithCancel(w.ctx)
	notices, err := w.s.Watch(ctx)
	w.must(err)
	await := func(log crypto.ID, seq uint64) {
		t.Helper()
		for {
			select {
			case n, ok := <-notices:
				if !ok {
					w.fatalf("the watch ended")
				}
				if n.Log == log && n.Seq >= seq {
					return
				}
			case <-time.After(20 * time.Second):
				w.fatalf("no notice of entry %d", seq)
			}
		}
	}
	w.allow(identity(t, 2))
	await(w.bus.ID, 2)
	s, _ := w.room(w.Admin, "watched")
	await(s.ID, 1)
	w.allow(identity(t, 3))
	await(w.bus.ID, 3)
	cancel()
	for range notices { // it ends
	}
}

// testPaging has more users, and more entries, than one page or one answer of any store, and loses none between two.
func testPaging(t *testing.T, w *world) {
	w.promise("Allowlist.Users: all, in order, from any key on, however many")
	const many = 300
	add := Many(t, many)
	w.must(w.append(w.bus, w.Admin, add))
	var last crypto.PublicKey
	n := 0
	for u, err := range w.s.Users(w.ctx, crypto.PublicKey{}) {
		w.must(err)
		if bytes.Compare(u.Key[:], last[:]) <= 0 {
			w.fatalf("users are not in order")
		}
		last = u.Key
		n++
	}
	if n != many+1 {
		w.errorf("%d users", n)
	}
	for u, err := range w.s.Users(w.ctx, last) {
		w.errorf("a user after the last: %v, %v", u, err)
	}
	for i := range many {
		role := ledger.RoleAdmin
		if i%2 == 1 {
			role = ledger.RoleUser
		}
		w.must(w.append(w.bus, w.Admin, &ledger.UserRole{Key: add.Users[0].Key, Role: role}))
	}
	w.promise("Log.Entries: all, in order, from any place on, however many")
	seq := uint64(1)
	for e, err := range w.s.Entries(w.ctx, w.bus.ID, seq) {
		w.must(err)
		if seq++; e.Seq != seq {
			w.fatalf("entry %d at place %d", e.Seq, seq)
		}
	}
	if seq != w.bus.Head.Seq {
		w.errorf("entries up to %d of %d", seq, w.bus.Head.Seq)
	}
}

// testRoomsAfter lists rooms from one on, as whoever goes on with a listing does.
func testRoomsAfter(t *testing.T, w *world) {
	w.promise("Directory.Rooms: those after an id, by id")
	var ids []crypto.ID
	for _, subject := range []string{"x", "y", "z"} {
		s, _ := w.room(w.Admin, subject)
		ids = append(ids, s.ID)
	}
	slices.SortFunc(ids, func(a, b crypto.ID) int { return bytes.Compare(a[:], b[:]) })
	var got []crypto.ID
	for r, err := range w.s.Rooms(w.ctx, ids[0]) {
		w.must(err)
		got = append(got, r.ID)
	}
	if !slices.Equal(got, ids[1:]) {
		w.errorf("rooms after the first are %v, want %v", got, ids[1:])
	}
}

// testBroken: a backend that cannot answer denies, in time: whoever was let in before is not, and nobody waits for ever.
func testBroken(t *testing.T, w *world) {
	w.promise("Allowlist: a backend that cannot answer denies, within OpTimeout")
	if ok, err := w.s.IsAuthorized(w.ctx, w.Admin.Key()); !ok || err != nil {
		w.fatalf("before: %v, %v", ok, err)
	}
	w.Break()
	ctx, cancel := context.WithTimeout(w.ctx, w.OpTimeout+10*time.Second)
	defer cancel()
	for range 3 {
		ok, err := w.s.IsAuthorized(ctx, w.Admin.Key())
		if ok || err == nil {
			w.errorf("IsAuthorized: %v, %v", ok, err)
		}
		ok, err = w.s.HasAdmin(ctx)
		if ok || err == nil {
			w.errorf("HasAdmin: %v, %v", ok, err)
		}
	}
	_, err := store.HeadOf(ctx, w.s, w.bus.ID)
	w.is(err, store.ErrUnavailable)
	if ctx.Err() != nil {
		w.errorf("the calls outlived OpTimeout")
	}
}

// testCancelled asks with a context that has ended: that is no answer, and least of all a yes.
func testCancelled(t *testing.T, w *world) {
	w.promise("Store: a call whose context is cancelled fails, and denies")
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	if ok, err := w.s.IsAuthorized(ctx, w.Admin.Key()); ok || err == nil {
		w.errorf("IsAuthorized: %v, %v", ok, err)
	}
	if _, err := w.s.Room(ctx, crypto.ID{}); err == nil || errors.Is(err, store.ErrNotFound) {
		w.errorf("Room: %v", err)
	}
}
