package storetest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file tries store.Keyring: who holds a copy of a key can be kept from it in no way but by the store's silence. Copies
// that open nothing (garbage) stand for those of somebody who means harm.

// testRekey: the latest epoch is another one only when the entry stands, whatever was staged.
func testRekey(t *testing.T, w *world) {
	owner, bob := identity(t, 1), identity(t, 2)
	w.allow(owner, bob)
	s, key := w.room(owner, "rekeyed")
	mine := w.As(owner)
	w.must(mine.PutKeys(w.ctx, s.ID, 1, key.Commit(1), owner.Key(), []store.SealedKey{w.seal(key, s.ID, 1, bob)}))
	w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}}))
	w.promise("Keyring.Key: the current epoch is that of the log, whatever was staged")
	next, losing := crypto.RoomKey{2}, crypto.RoomKey{3}
	for _, k := range []crypto.RoomKey{next, losing} {
		w.must(mine.PutKeys(w.ctx, s.ID, 2, k.Commit(2), owner.Key(), []store.SealedKey{w.seal(k, s.ID, 2, owner), w.seal(k, s.ID, 2, bob)}))
	}
	w.opens(bob, s.ID, 0, 1, key)
	_, err := w.As(bob).Key(w.ctx, s.ID, 2, bob.Key())
	w.is(err, store.ErrNotFound)
	previous, err := crypto.SealPrevious(next, s.ID, 2, key, [24]byte{1})
	w.must(err)
	w.must(w.append(s, owner, &ledger.Rekey{Epoch: 2, Commit: next.Commit(2), Previous: previous}))
	w.opens(bob, s.ID, 0, 2, next)
	w.opens(bob, s.ID, 1, 1, key)
	// The loser's copies do not replace the winner's, even when they come late.
	_ = mine.PutKeys(w.ctx, s.ID, 2, losing.Commit(2), owner.Key(), []store.SealedKey{w.seal(losing, s.ID, 2, bob)}) // some backends refuse it
	w.opens(bob, s.ID, 2, 2, next)
	r, err := mine.Room(w.ctx, s.ID)
	w.must(err)
	if r.Epoch != 2 || r.Seq != 3 {
		w.errorf("after the rekey, room is %+v", r)
	}
	w.sealed(s)
}

// sealed checks what there is of the keys of a room of two, in its second epoch.
func (w *world) sealed(s *ledger.State) {
	v, ok := w.s.(store.Backend)
	if !ok {
		return
	}
	w.promise("Inventory.Sealed: every member's copies of the committed keys, by epoch, from one on")
	for from, want := range map[uint32][]uint32{0: {1, 1, 2, 2}, 1: {1, 1, 2, 2}, 2: {2, 2}, 3: nil} {
		var got []uint32
		for k, err := range v.Sealed(w.ctx, s.ID, from) {
			w.must(err)
			got = append(got, k.Epoch)
		}
		if !slices.Equal(got, want) {
			w.errorf("from epoch %d on there are copies of the epochs %v, want %v", from, got, want)
		}
	}
	w.promise("Keyless: the members without a copy of the newest key")
	carol := identity(w.t, 3)
	w.allow(carol)
	for _, want := range []int{0, 1} {
		got, err := store.Keyless(w.ctx, v, s)
		if _, without := got[carol.Key()]; err != nil || len(got) != want || without != (want > 0) {
			w.errorf("%v, %v; want %d", got, err, want)
		}
		if want == 0 {
			w.must(w.append(s, identity(w.t, 1), &ledger.Invite{Members: []ledger.NewMember{{Key: carol.Key(), Role: ledger.RoleMember}}}))
		}
	}
}

// testRacingKeys: of two who rekey at once, the winner's keys are given out, and the loser's are gone.
func testRacingKeys(t *testing.T, w *world) {
	w.promise("Keyring.Key: of two who rekey at once, the winner's copies are given")
	owner, admin, member := identity(t, 1), identity(t, 2), identity(t, 3)
	w.allow(owner, admin, member)
	room, key := w.room(owner, "race")
	w.must(w.As(owner).PutKeys(w.ctx, room.ID, 1, key.Commit(1), owner.Key(), []store.SealedKey{w.seal(key, room.ID, 1, admin), w.seal(key, room.ID, 1, member)}))
	w.must(w.append(room, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: admin.Key(), Role: ledger.RoleAdmin}, {Key: member.Key(), Role: ledger.RoleMember}}}))
	before, err := room.Snapshot()
	w.must(err)
	behind, err := ledger.LoadSnapshot(before)
	w.must(err)
	sealed := map[crypto.RoomKey][]store.SealedKey{}
	stage := func(by *crypto.Identity, next crypto.RoomKey, of ...*crypto.Identity) ledger.Body {
		keys := sealed[next]
		if keys == nil {
			for _, id := range of {
				keys = append(keys, w.seal(next, room.ID, 2, id))
			}
			sealed[next] = keys
		}
		w.must(w.As(by).PutKeys(w.ctx, room.ID, 2, next.Commit(2), by.Key(), keys))
		previous, err := crypto.SealPrevious(next, room.ID, 2, key, [24]byte{1})
		w.must(err)
		return &ledger.Rekey{Epoch: 2, Commit: next.Commit(2), Previous: previous}
	}
	won, lost := crypto.RoomKey{7}, crypto.RoomKey{8}
	winner := stage(owner, won, owner, admin, member)
	loser := stage(admin, lost, owner, admin, member)
	w.must(w.append(room, owner, winner))
	if w.Staged != nil { // over the service this would be refused
		stage(admin, lost, owner, admin, member)
	}
	w.is(w.append(behind, admin, loser), store.ErrConflict)
	for _, id := range []*crypto.Identity{owner, admin, member} {
		w.opens(id, room.ID, 0, 2, won)
	}
	w.promise("Log.Append: what the loser of a place staged is removed")
	if w.Staged == nil {
		return // what stands behind it passes this by itself
	}
	if n := w.Staged(t, room.ID, 1, key.Commit(1)); n != 3 {
		w.errorf("%d keys of epoch 1", n)
	}
	if n := w.Staged(t, room.ID, 2, lost.Commit(2)); n != 0 {
		w.errorf("%d of the loser's keys are still there", n)
	}
}

// testKeptKeys: a copy that is there is never replaced, and whoever tries keeps nobody from their own.
func testKeptKeys(t *testing.T, w *world) {
	w.promise("Keyring.PutKeys: a copy that is there is never replaced, and the others of a call are kept")
	owner, bob, carol := identity(t, 1), identity(t, 2), identity(t, 3)
	w.allow(owner, bob, carol)
	s, key := w.room(owner, "kept")
	put := func(keys ...store.SealedKey) error {
		return w.As(owner).PutKeys(w.ctx, s.ID, 1, key.Commit(1), owner.Key(), keys)
	}
	bobs := w.seal(key, s.ID, 1, bob)
	w.must(put(bobs))
	w.must(put(bobs)) // the same bytes again: it was not heard the first time
	w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}, {Key: carol.Key(), Role: ledger.RoleMember}}}))
	rubbish := store.SealedKey{Endpoint: bob.Key(), Sealed: make([]byte, crypto.SealedSize)}
	w.is(put(rubbish), store.ErrExists)
	w.is(put(rubbish, w.seal(key, s.ID, 1, carol)), store.ErrExists)
	w.opens(bob, s.ID, 1, 1, key)
	w.opens(carol, s.ID, 1, 1, key)
	w.given(bob, s.ID, 1, owner)
	copies, err := w.As(bob).Key(w.ctx, s.ID, 1, bob.Key())
	w.must(err)
	if !bytes.Equal(copies[0].Sealed, bobs.Sealed) {
		w.errorf("bob's copy was replaced")
	}
}

// testSealers: each sealer has a place of its own, staged or not, and writes it once; a member is given its own
// copy first, then that of the entry's author.
func testSealers(t *testing.T, w *world) {
	w.promise("Keyring.PutKeys: nobody's copy takes another sealer's place")
	owner, admin, bob := identity(t, 1), identity(t, 2), identity(t, 3)
	w.allow(owner, admin, bob)
	s, key := w.room(owner, "sealers")
	put := func(by *crypto.Identity, epoch uint32, key crypto.RoomKey, keys ...store.SealedKey) error {
		return w.As(by).PutKeys(w.ctx, s.ID, epoch, key.Commit(epoch), by.Key(), keys)
	}
	w.must(put(owner, 1, key, w.seal(key, s.ID, 1, admin), w.seal(key, s.ID, 1, bob)))
	w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: admin.Key(), Role: ledger.RoleAdmin}, {Key: bob.Key(), Role: ledger.RoleMember}}}))

	// An admin's garbage takes nobody's place, the owner's own no more than another member's.
	zeros := append(garbage(0, owner), garbage(0, bob)...)
	w.must(put(admin, 1, key, zeros...))
	w.must(put(admin, 1, key, zeros...)) // the same bytes again: it was not heard the first time
	w.given(owner, s.ID, 1, owner, admin)
	w.opens(owner, s.ID, 1, 1, key)
	w.given(bob, s.ID, 1, owner, admin)
	w.opens(bob, s.ID, 0, 1, key)
	w.is(put(admin, 1, key, garbage(1, owner)...), store.ErrExists)
	w.is(put(admin, 1, key, append(garbage(1, bob), w.seal(key, s.ID, 1, admin))...), store.ErrExists)
	w.given(admin, s.ID, 1, admin, owner) // its own was kept all the same
	if copies, err := w.As(owner).Key(w.ctx, s.ID, 1, owner.Key()); err != nil || !bytes.Equal(copies[1].Sealed, zeros[0].Sealed) {
		w.errorf("the admin's copy was replaced, %v", err)
	}
	w.promise("Keyring.Key: the member's own copy comes first, then the author's")
	w.must(put(bob, 1, key, w.seal(key, s.ID, 1, bob)))
	w.given(bob, s.ID, 1, bob, owner, admin)

	w.promise("Keyring.PutKeys: staged copies have their sealers' places, too")
	// Staged it is the same, also when others know the key that is to be.
	next := crypto.RoomKey{2}
	w.must(put(owner, 2, next, garbage(3, bob)...))
	w.must(put(admin, 2, next, w.seal(next, s.ID, 2, bob), w.seal(next, s.ID, 2, admin)))
	w.is(put(owner, 2, next, garbage(4, bob)...), store.ErrExists)
	previous, err := crypto.SealPrevious(next, s.ID, 2, key, [24]byte{1})
	w.must(err)
	w.must(w.append(s, admin, &ledger.Rekey{Epoch: 2, Commit: next.Commit(2), Previous: previous}))
	w.given(bob, s.ID, 2, admin, owner)
	w.opens(bob, s.ID, 0, 2, next)
	_, err = w.As(owner).Key(w.ctx, s.ID, 2, owner.Key()) // the admin left the owner out
	w.is(err, store.ErrNotFound)
	w.given(bob, s.ID, 1, bob, owner, admin)

	w.promise("Keyring.PutKeys: through a service only who may seal")
	if !w.Founded {
		return // who may seal is a service's to say
	}
	w.is(put(bob, 2, next, garbage(5, owner)...), store.ErrDenied)
	w.is(put(bob, 2, next, append(garbage(5, bob), garbage(5, owner)...)...), store.ErrDenied)
	w.is(put(bob, 3, crypto.RoomKey{3}, garbage(5, bob)...), store.ErrDenied)
	w.is(put(bob, 2, crypto.RoomKey{3}, garbage(5, bob)...), store.ErrConflict)
	w.is(w.As(bob).PutKeys(w.ctx, s.ID, 2, next.Commit(2), owner.Key(), garbage(5, bob)), store.ErrDenied)
	w.given(bob, s.ID, 2, admin, owner)
}

// testManySealers: of those who are neither the member nor the author a few are kept, the first; the two always are.
func testManySealers(t *testing.T, w *world) {
	w.promise("Keyring.PutKeys: of other sealers' copies only so many are kept, the first")
	owner, bob := identity(t, 1), identity(t, 2)
	admins := byKey(identity(t, 3), identity(t, 4), identity(t, 5), identity(t, 6), identity(t, 7), identity(t, 8), identity(t, 9))
	w.allow(append(slices.Clone(admins), owner, bob)...)
	s, key := w.room(owner, "many")
	invite := &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}}
	for _, id := range admins {
		invite.Members = append(invite.Members, ledger.NewMember{Key: id.Key(), Role: ledger.RoleAdmin})
	}
	w.must(w.append(s, owner, invite))
	put := func(by *crypto.Identity, copies ...store.SealedKey) error {
		return w.As(by).PutKeys(w.ctx, s.ID, 1, key.Commit(1), by.Key(), copies)
	}
	const others = store.MaxSealers - 2
	for i, id := range admins[:others] {
		w.must(put(id, garbage(byte(i), bob)...))
	}
	late := admins[others]
	w.is(put(late, append(garbage(7, bob), w.seal(key, s.ID, 1, late))...), store.ErrExists)
	w.must(put(admins[0], garbage(0, bob)...)) // the same bytes again
	w.given(late, s.ID, 1, late)
	w.given(bob, s.ID, 1, admins[:others]...)
	w.must(put(owner, w.seal(key, s.ID, 1, bob)))
	w.must(put(bob, w.seal(key, s.ID, 1, bob)))
	w.given(bob, s.ID, 1, append([]*crypto.Identity{bob, owner}, admins[:others]...)...)

	v, ok := w.s.(store.Backend)
	if !ok {
		return // what stands behind it passes this by itself
	}
	w.promise("Keyring.PutKeys: before an entry names the key all are kept, and no more are given than may be")
	// Before an entry names the key nobody knows its author, and all are kept; no more are given.
	next := crypto.RoomKey{2}
	for i, id := range append(slices.Clone(admins), owner, bob) {
		w.must(v.PutKeys(w.ctx, s.ID, 2, next.Commit(2), id.Key(), garbage(byte(i), bob)))
	}
	if n := w.Staged(t, s.ID, 2, next.Commit(2)); n != len(admins)+2 {
		w.errorf("%d copies are staged", n)
	}
	previous, err := crypto.SealPrevious(next, s.ID, 2, key, [24]byte{1})
	w.must(err)
	w.must(w.append(s, late, &ledger.Rekey{Epoch: 2, Commit: next.Commit(2), Previous: previous}))
	rest := byKey(append(slices.Clone(admins[:others]), owner)...)
	w.given(bob, s.ID, 2, append([]*crypto.Identity{bob, late}, rest[:others]...)...)
	w.promise("Target.CopyKeys: copies are taken over, as many as there are")
	// Another store takes all of them over.
	extra := append(garbage(9, bob), garbage(9, bob)...)
	extra[0].Sealer, extra[1].Sealer = identity(t, 10).Key(), identity(t, 11).Key()
	before := w.Staged(t, s.ID, 1, key.Commit(1))
	w.must(v.CopyKeys(w.ctx, s.ID, 1, key.Commit(1), extra))
	if n := w.Staged(t, s.ID, 1, key.Commit(1)); n != before+2 {
		w.errorf("%d copies, want %d", n, before+2)
	}
}

// testCard puts one's own card.
func testCard(t *testing.T, w *world) {
	bob := identity(t, 2)
	w.allow(bob)
	w.promise("Keyring.Cards: a card comes back as it was put")
	card, err := bob.Card()
	w.must(err)
	w.must(w.As(bob).PutCards(w.ctx, store.Card{Endpoint: bob.Key(), Statement: card}))
	got, err := CardOf(w.ctx, w.s, bob.Key())
	w.must(err)
	if !bytes.Equal(got.Statement, card) || got.Endpoint != bob.Key() {
		w.errorf("the card comes back altered")
	}
}

// testCards: many cards are put, and asked for, at once; of those not known nothing is said.
func testCards(t *testing.T, w *world) {
	w.promise("Keyring.PutCards, Cards: many at once, and nothing of those not known")
	const many = 520 // more than one request carries
	want := map[crypto.PublicKey][]byte{}
	var cards []store.Card
	asked := []crypto.PublicKey{identity(t, 9).Key()}
	for i := range many {
		id, err := crypto.NewIdentity([32]byte{'c', byte(i), byte(i >> 8)})
		w.must(err)
		statement, err := id.Card()
		w.must(err)
		cards, asked = append(cards, store.Card{Endpoint: id.Key(), Statement: statement}), append(asked, id.Key())
		want[id.Key()] = statement
	}
	w.must(w.s.PutCards(w.ctx, cards...))
	w.must(w.s.PutCards(w.ctx))
	got, err := w.s.Cards(w.ctx, asked...)
	w.must(err)
	if len(got) != many {
		w.errorf("%d of %d cards", len(got), many)
	}
	for _, c := range got {
		if !bytes.Equal(c.Statement, want[c.Endpoint]) {
			w.fatalf("the card of %s comes back altered", c.Endpoint)
		}
	}
	for _, none := range [][]crypto.PublicKey{nil, asked[:1]} {
		if got, err := w.s.Cards(w.ctx, none...); err != nil || len(got) > 0 {
			w.errorf("%d cards of nobody, %v", len(got), err)
		}
	}
	w.promise("Keyring.PutCards: a service keeps only the caller's own, and all or none")
	if !w.Founded {
		return // a store itself knows no callers
	}
	bob := identity(t, 2)
	w.allow(bob)
	own, err := bob.Card()
	w.must(err)
	w.is(w.As(bob).PutCards(w.ctx, store.Card{Endpoint: bob.Key(), Statement: own}, cards[0]), store.ErrDenied)
	if got, err := w.s.Cards(w.ctx, bob.Key()); err != nil || len(got) > 0 {
		w.errorf("a part of what was refused was kept: %d cards, %v", len(got), err)
	}
	w.is(w.s.PutCards(w.ctx, store.Card{Endpoint: bob.Key(), Statement: cards[0].Statement}), store.ErrInvalid)
}
