package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// This file tries store.Allowlist, whose every answer lets somebody in or keeps somebody out.

// testAllowlist follows users through all that can become of them: unknown, added, expired, revoked, added again. After each
// Append the very next answer has to be right, by any way of asking.
func testAllowlist(t *testing.T, w *world) {
	w.promise("Allowlist.IsAuthorized: who was added is, and nobody else")
	bob, carol := identity(t, 2), identity(t, 3)
	authorized := func(id *crypto.Identity, want bool) { t.Helper(); w.authorized(id, want) }
	authorized(w.Admin, true)
	authorized(bob, false)
	w.promise("Allowlist.HasAdmin: once the bus is founded")
	if ok, err := w.s.HasAdmin(w.ctx); !ok || err != nil {
		w.fatalf("has admin: %v, %v", ok, err)
	}
	w.promise("Allowlist.IsAuthorized: who was added is, and nobody else")
	w.allow(bob)
	authorized(bob, true)
	// The admin gate is the ledger's: an entry of anyone else is none.
	if _, err := w.bus.Next(bob, &ledger.Add{Users: []ledger.NewUser{{Key: carol.Key(), Name: "carol", Role: ledger.RoleUser}}}, time.Now()); !errors.Is(err, ledger.ErrNotAllowed) {
		w.errorf("a user adds a user: %v", err)
	}
	w.promise("Allowlist.User: what the bus log says of a key")
	// One key is one user, in whatever case it was typed.
	lower, err := crypto.ParsePublicKey("  " + strings.ToLower(bob.Key().String()) + "\n")
	w.must(err)
	u, err := w.s.User(w.ctx, lower)
	w.must(err)
	if u.Key != bob.Key() || u.Role != ledger.RoleUser || !u.Active || u.AddedBy != w.Admin.Key() || u.Added.IsZero() {
		w.errorf("bob is %+v", u)
	}
	if _, err := w.bus.Next(w.Admin, &ledger.Add{Users: []ledger.NewUser{{Key: lower, Name: "again", Role: ledger.RoleUser}}}, time.Now()); !errors.Is(err, ledger.ErrRule) {
		w.errorf("one key twice: %v", err)
	}
	w.promise("Allowlist.IsAuthorized: not who has expired or was revoked")
	past := crypto.Number(time.Now().Add(-time.Minute).UnixMilli())
	w.must(w.append(w.bus, w.Admin, &ledger.Add{Users: []ledger.NewUser{{Key: carol.Key(), Name: "carol", Role: ledger.RoleUser, Expires: &past}}}))
	authorized(carol, false)
	testChangedUser(w, carol, past)
	w.promise("Allowlist.IsAuthorized: not who has expired or was revoked")
	w.must(w.append(w.bus, w.Admin, &ledger.Revoke{Keys: []crypto.PublicKey{bob.Key()}}))
	authorized(bob, false)
	u, err = w.s.User(w.ctx, bob.Key())
	w.must(err)
	if u.Active || u.Revoked.IsZero() {
		w.errorf("revoked, bob is %+v", u)
	}
	w.promise("Allowlist.Users: all users by key, revoked ones too")
	var keys []string
	for u, err := range w.s.Users(w.ctx, crypto.PublicKey{}) {
		w.must(err)
		keys = append(keys, string(u.Key[:]))
	}
	if len(keys) != 3 || !slices.IsSorted(keys) {
		w.errorf("%d users, sorted %v", len(keys), slices.IsSorted(keys))
	}
	w.promise("Allowlist.IsAuthorized: who was revoked and added again is")
	w.must(w.append(w.bus, w.Admin, &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleAdmin}}}))
	authorized(bob, true)
}

// authorized checks whether somebody may use the bus.
func (w *world) authorized(id *crypto.Identity, want bool) {
	w.t.Helper()
	ok, err := w.s.IsAuthorized(w.ctx, id.Key())
	w.must(err)
	if ok != want {
		w.fatalf("authorized: %v", ok)
	}
}

// testChangedUser: another name and a later end of somebody who has expired, and then an end that is past, count.
func testChangedUser(w *world, carol *crypto.Identity, past crypto.Number) {
	w.t.Helper()
	w.promise("Allowlist.User: what was changed of a user")
	name, later := "caroline", crypto.Number(time.Now().Add(time.Hour).UnixMilli())
	w.must(w.append(w.bus, w.Admin, &ledger.SetUsers{Users: []ledger.UserChange{{Key: carol.Key(), Name: &name, Expires: &later}}}))
	w.authorized(carol, true)
	u, err := w.s.User(w.ctx, carol.Key())
	w.must(err)
	if u.Name != name || u.Expires.UnixMilli() != int64(later) {
		w.errorf("changed, carol is %+v", u)
	}
	w.must(w.append(w.bus, w.Admin, &ledger.SetUsers{Users: []ledger.UserChange{{Key: carol.Key(), Expires: &past}}}))
	w.authorized(carol, false)
}
