package storetest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// This file tries store.Directory: that the views are what the logs say, after each entry that changes them.

// testRoom follows a room from its beginning to its end.
func testRoom(t *testing.T, w *world) {
	w.promise("Directory.Room: the record of a room is as its log says")
	owner, bob := identity(t, 1), identity(t, 2)
	w.allow(owner, bob)
	s, key := w.room(owner, "ops.alerts")
	w.opens(owner, s.ID, 0, 1, key)
	w.opens(owner, s.ID, 1, 1, key)

	mine := w.As(owner)
	r, err := mine.Room(w.ctx, s.ID)
	w.must(err)
	if r.Subject != "ops.alerts" || r.Epoch != 1 || r.Seq != 1 || r.Members != 1 || r.Archived || r.Policy.Retain == nil || !r.Policy.Encrypted() {
		w.errorf("room is %+v", r)
	}
	w.promise("Directory.Member, Members: those of the log, by key")
	w.must(mine.PutKeys(w.ctx, s.ID, 1, key.Commit(1), owner.Key(), []store.SealedKey{w.seal(key, s.ID, 1, bob)}))
	w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}}))
	w.opens(bob, s.ID, 0, 1, key)
	m, err := w.As(bob).Member(w.ctx, s.ID, bob.Key())
	w.must(err)
	if m.Role != ledger.RoleMember {
		w.errorf("bob is %s", m.Role)
	}
	list, err := w.As(bob).Members(w.ctx, s.ID)
	w.must(err)
	want := []store.Member{{Endpoint: owner.Key(), Role: ledger.RoleOwner}, {Endpoint: bob.Key(), Role: ledger.RoleMember}}
	slices.SortFunc(want, func(a, b store.Member) int { return bytes.Compare(a.Endpoint[:], b.Endpoint[:]) })
	if !slices.Equal(list, want) {
		w.errorf("members are %v", list)
	}

	w.promise("Directory: views follow the log when somebody leaves and a room is archived")
	w.must(w.append(s, owner, &ledger.MemberRole{Key: bob.Key(), Role: ledger.RoleAdmin}))
	w.must(w.append(s, bob, &ledger.Leave{}))
	_, err = mine.Member(w.ctx, s.ID, bob.Key())
	w.is(err, store.ErrNotFound)
	r, err = mine.RoomBySubject(w.ctx, "ops.alerts")
	w.must(err)
	if r.Epoch != 1 || r.Seq != 4 || r.Members != 1 {
		w.errorf("after bob left, room is %+v", r)
	}
	w.must(w.append(s, owner, &ledger.Archive{}))
	r, err = mine.Room(w.ctx, s.ID)
	w.must(err)
	if !r.Archived {
		w.errorf("room is %+v", r)
	}
}

// testRoomsOf lists rooms by member: an owner of several, a reader of one of these, and somebody who is in none.
func testRoomsOf(t *testing.T, w *world) {
	w.promise("Directory.ListRoomsForEndpoint: the rooms of a member, by id; none is no error")
	owner, bob, stranger := identity(t, 1), identity(t, 2), identity(t, 3)
	w.allow(owner, bob, stranger)
	var ids []string
	for _, subject := range []string{"a", "b", "c", "d"} {
		s, key := w.room(owner, subject)
		ids = append(ids, s.ID.String())
		if subject == "c" {
			w.must(w.As(owner).PutKeys(w.ctx, s.ID, 1, key.Commit(1), owner.Key(), []store.SealedKey{w.seal(key, s.ID, 1, bob)}))
			w.must(w.append(s, owner, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleReader}}}))
		}
	}
	of := func(id *crypto.Identity) []store.RoomRef {
		t.Helper()
		refs, err := w.As(id).ListRoomsForEndpoint(w.ctx, id.Key())
		w.must(err)
		return refs
	}
	slices.Sort(ids)
	var got []string
	for _, r := range of(owner) {
		got = append(got, r.ID.String())
		if r.Role != ledger.RoleOwner || r.Epoch != 1 || r.Subject == "" {
			w.errorf("%+v", r)
		}
	}
	if !slices.Equal(got, ids) {
		w.errorf("the owner's rooms are %v, want %v by id", got, ids)
	}
	if refs := of(bob); len(refs) != 1 || refs[0].Subject != "c" || refs[0].Role != ledger.RoleReader {
		w.errorf("bob's rooms are %v", refs)
	}
	if refs := of(stranger); len(refs) != 0 {
		w.errorf("a stranger's rooms are %v", refs)
	}
}
