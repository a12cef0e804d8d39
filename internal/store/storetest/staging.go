package storetest

import (
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file tries store.Staging: copies of keys that no entry names yet. What is removed must never be one that an entry
// names, or comes to name: nobody could read the room.

// testStagedKeys: what was staged and no entry names goes after a time, and nothing else does.
func testStagedKeys(t *testing.T, w *world) {
	w.promise("Staging.ExpireStaged: what was staged before a time and no entry names is removed")
	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	owner, bob := identity(t, 1), identity(t, 2)
	w.allow(owner, bob)
	s, key := w.room(owner, "staged")
	next, never := crypto.RoomKey{2}, crypto.RoomKey{3}
	w.must(v.PutKeys(w.ctx, s.ID, 1, key.Commit(1), owner.Key(), []store.SealedKey{w.seal(key, s.ID, 1, bob)})) // named already
	for _, k := range []crypto.RoomKey{next, never} {
		w.must(v.PutKeys(w.ctx, s.ID, 2, k.Commit(2), owner.Key(), []store.SealedKey{w.seal(k, s.ID, 2, owner), w.seal(k, s.ID, 2, bob)}))
	}
	nowhere := crypto.ID{1} // a room that nobody made in the end
	w.must(v.PutKeys(w.ctx, nowhere, 1, never.Commit(1), owner.Key(), []store.SealedKey{w.seal(never, nowhere, 1, owner)}))
	card, err := bob.Card()
	w.must(err)
	w.must(v.PutCards(w.ctx, store.Card{Endpoint: bob.Key(), Statement: card}))
	expire := func(before time.Time, want int) {
		t.Helper()
		removed, err := v.ExpireStaged(w.ctx, before)
		w.must(err)
		if removed != want {
			w.errorf("%d copies were removed, want %d", removed, want)
		}
	}
	count := func(room crypto.ID, epoch uint32, k crypto.RoomKey, want int) {
		t.Helper()
		if n := w.Staged(t, room, epoch, k.Commit(epoch)); n != want {
			w.errorf("%d copies of epoch %d, want %d", n, epoch, want)
		}
	}
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	expire(past, 0)
	count(nowhere, 1, never, 1)
	count(s.ID, 2, never, 2)
	expire(future, 5)
	expire(future, 0)
	count(nowhere, 1, never, 0)
	count(s.ID, 2, never, 0)
	count(s.ID, 1, key, 2)

	w.promise("Staging.ExpireStaged: what an entry names stays for ever")
	w.must(v.PutKeys(w.ctx, s.ID, 2, next.Commit(2), owner.Key(), []store.SealedKey{w.seal(next, s.ID, 2, owner), w.seal(next, s.ID, 2, bob)}))
	previous, err := crypto.SealPrevious(next, s.ID, 2, key, [24]byte{1})
	w.must(err)
	w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}}))
	w.must(w.append(s, owner, &ledger.Rekey{Epoch: 2, Commit: next.Commit(2), Previous: previous}))
	expire(future, 0)
	w.opens(bob, s.ID, 1, 1, key)
	w.opens(bob, s.ID, 2, 2, next)
	_, err = CardOf(w.ctx, v, bob.Key())
	w.must(err)
}

// testStagedAgain: who stages a copy again, since it has not got to the entry, has as much time as before.
func testStagedAgain(t *testing.T, w *world) {
	w.promise("Staging.ExpireStaged: what is staged again is as if staged then")
	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	owner, key := identity(t, 1), crypto.RoomKey{2}
	w.allow(owner)
	s, _ := w.room(owner, "staged")
	stage := func() {
		w.must(v.PutKeys(w.ctx, s.ID, 2, key.Commit(2), owner.Key(), []store.SealedKey{{Endpoint: owner.Key(), Sealed: make([]byte, crypto.SealedSize)}}))
	}
	stage()
	between := time.Now().Add(2 * time.Millisecond).Truncate(time.Millisecond)
	for time.Now().Before(between) { // stores count milliseconds
	}
	stage()
	for want, before := range []time.Time{between, time.Now().Add(time.Hour)} { // none of it is old, then one copy is
		removed, err := v.ExpireStaged(w.ctx, before)
		w.must(err)
		if removed != want {
			w.errorf("%d copies were removed, want %d", removed, want)
		}
	}
}

// testUnstagedKeys: one sealer's copies of a key go when they are of no use any more, and stay once an entry names
// it. Those of others stay.
func testUnstagedKeys(t *testing.T, w *world) {
	w.promise("Staging.HasCopy: whether a sealer's copy is kept")
	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	owner, bob := identity(t, 1), identity(t, 2)
	w.allow(owner, bob)
	s, key := w.room(owner, "staged")
	keep, drop := crypto.RoomKey{2}, crypto.RoomKey{3}
	for _, k := range []crypto.RoomKey{keep, drop} {
		w.must(v.PutKeys(w.ctx, s.ID, 2, k.Commit(2), owner.Key(), []store.SealedKey{w.seal(k, s.ID, 2, owner), w.seal(k, s.ID, 2, bob)}))
	}
	nowhere := crypto.ID{1}
	w.must(v.PutKeys(w.ctx, nowhere, 1, keep.Commit(1), owner.Key(), []store.SealedKey{w.seal(keep, nowhere, 1, owner)}))
	w.must(v.PutKeys(w.ctx, s.ID, 2, drop.Commit(2), bob.Key(), garbage(1, bob)))
	has := func(epoch uint32, k crypto.RoomKey, endpoint, sealer *crypto.Identity, want bool) {
		t.Helper()
		of := store.SealedCopy{Room: s.ID, Epoch: epoch, Commit: k.Commit(epoch), SealedKey: store.SealedKey{Endpoint: endpoint.Key(), Sealer: sealer.Key()}}
		if got, err := v.HasCopy(w.ctx, of); got != want || err != nil {
			w.errorf("a copy of epoch %d for %s by %s: %v, %v", epoch, endpoint.Key(), sealer.Key(), got, err)
		}
	}
	has(1, key, owner, owner, true)
	has(1, key, bob, owner, false)
	has(2, keep, bob, owner, true)
	has(2, keep, bob, bob, false)
	has(2, drop, bob, bob, true)
	has(3, keep, bob, owner, false)
	w.promise("Staging.Unstage: one sealer's copies go unless an entry names the key")
	w.must(v.Unstage(w.ctx, s.ID, 1, key.Commit(1), owner.Key()))
	w.must(v.Unstage(w.ctx, s.ID, 2, drop.Commit(2), owner.Key()))
	w.must(v.Unstage(w.ctx, s.ID, 2, drop.Commit(2), owner.Key()))
	has(2, drop, bob, owner, false)
	w.must(v.Unstage(w.ctx, nowhere, 1, keep.Commit(1), owner.Key()))
	for name, c := range map[string]struct {
		room  crypto.ID
		epoch uint32
		key   crypto.RoomKey
		want  int
	}{
		"the room's own": {s.ID, 1, key, 1}, "another": {s.ID, 2, keep, 2}, "another's of the one that was to go": {s.ID, 2, drop, 1}, "one of no room": {nowhere, 1, keep, 0},
	} {
		if n := w.Staged(t, c.room, c.epoch, c.key.Commit(c.epoch)); n != c.want {
			w.errorf("%s: %d copies, want %d", name, n, c.want)
		}
	}
	w.opens(owner, s.ID, 0, 1, key)
}
