package unibus_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/remedy"
)

// TestSetUsers: what people are called and until when they may connect is changed, of all who are given or of nobody;
// what is so already takes no entry.
func TestSetUsers(t *testing.T) {
	s := newStraight(t)
	bob, carol := s.add("bob").Key(), s.add("carol").Key()
	name := func(n string) *string { return &n }
	end := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	s.must(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: bob, Name: name("robert")}, unibus.UserChange{Key: carol, Expires: &end}))
	if u, err := s.alice.User(s.ctx, "robert"); err != nil || u.Key != bob || !u.Expires.IsZero() {
		t.Errorf("robert is %+v, %v", u, err)
	}
	if u, err := s.alice.User(s.ctx, "carol"); err != nil || !u.Expires.Equal(end) {
		t.Errorf("carol is %+v, %v", u, err)
	}
	entries := func() int {
		list, err := s.alice.BusLog(s.ctx)
		s.must(err)
		return len(list)
	}
	before := entries()
	s.must(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: bob, Name: name("robert")}, unibus.UserChange{Key: carol, Expires: &end}, unibus.UserChange{Key: carol}))
	s.must(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: bob, Role: unibus.RoleUser}))
	if n := entries(); n != before {
		t.Errorf("%d entries for nothing", n-before)
	}
	never := time.Time{}
	s.must(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: carol, Expires: &never}))
	if u, err := s.alice.User(s.ctx, "carol"); err != nil || !u.Expires.IsZero() {
		t.Errorf("carol is %+v, %v", u, err)
	}

	stranger, _ := s.user("x")
	s.fails(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: carol, Name: name("robert")}), unibus.ErrExists, "the name is that of "+bob.String(), remedy.NameOtherwise)
	s.fails(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: carol, Name: name("no name\n")}), unibus.ErrInvalid, "name", remedy.None)
	s.fails(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: carol, Name: name("")}), unibus.ErrInvalid, "name", remedy.None)
	s.fails(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: carol, Name: name("carla")}, unibus.UserChange{Key: stranger.Key(), Expires: &end}), unibus.ErrNotFound, "not on the allowlist", remedy.None)
	s.fails(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: stranger.Key(), Role: unibus.RoleAdmin}), unibus.ErrNotFound, "not on the allowlist", remedy.None)
	s.fails(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: s.alice.Key(), Role: unibus.RoleUser}), unibus.ErrDenied, "the last admin", remedy.NameAdmin)
	if u, err := s.alice.User(s.ctx, carol.String()); err != nil || u.Name != "carol" {
		t.Errorf("of a change that was refused carol is %+v, %v", u, err)
	}

	s.must(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: carol, Role: unibus.RoleAdmin}))
	if u, err := s.alice.User(s.ctx, "carol"); err != nil || u.Role != unibus.RoleAdmin {
		t.Errorf("carol is %+v, %v", u, err)
	}
}

// TestSyncUsers: the allowlist becomes what a list says, in names too, and the same list then differs in nothing.
func TestSyncUsers(t *testing.T) {
	s := newStraight(t)
	bob, carol, dave := s.add("bob").Key(), s.add("carol").Key(), s.add("dave").Key()
	_, erin := s.user("erin")
	alice := unibus.NewUser{Key: s.alice.Key()} // whoever has no name there keeps the one on the allowlist
	apply := func(list ...unibus.NewUser) unibus.UserDiff {
		t.Helper()
		d, err := unibus.CompareUsers(s.alice.Users(), list)
		s.must(err)
		s.must(d.Apply(s.ctx, s.alice))
		again, err := unibus.CompareUsers(s.alice.Users(), list)
		s.must(err)
		if !again.Empty() {
			t.Errorf("again it is %+v", again)
		}
		return d
	}
	// A name goes on to another, and to one who is new.
	d := apply(alice, unibus.NewUser{Key: bob, Name: "carol"}, unibus.NewUser{Key: carol, Name: "dave"}, erin)
	if len(d.Add) != 1 || len(d.Rename) != 2 || len(d.Revoke) != 1 || d.Revoke[0].Key != dave {
		t.Errorf("the difference is %+v", d)
	}
	erin.Name = "e"
	_, newcomer := s.user("")
	apply(alice, unibus.NewUser{Key: bob}, unibus.NewUser{Key: carol, Name: "dave"}, erin, newcomer)
	var names []string
	for _, u := range s.alice.Users() {
		if u.Active {
			names = append(names, u.Name)
		}
	}
	want := []string{"alice", "carol", "dave", "e", strings.ToLower(newcomer.Key.String()[:12])}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("on the allowlist are %q, not %q", names, want)
	}

	for what, list := range map[string][]unibus.NewUser{
		"a key twice": {alice, alice}, "a name twice": {{Key: bob, Name: "x"}, {Key: carol, Name: "x"}}, "no name": {{Key: bob, Name: "\n"}},
	} {
		t.Log(what)
		_, err := unibus.CompareUsers(s.alice.Users(), list)
		s.fails(err, unibus.ErrInvalid, "", remedy.None)
	}
	// Two who are to have each other's names, and three in a circle that a fourth is to come into.
	apply(alice, unibus.NewUser{Key: bob, Name: "dave"}, unibus.NewUser{Key: carol, Name: "carol"}, erin, newcomer)
	newcomer.Name, erin.Name = "dave", "x"
	apply(alice, newcomer, erin, unibus.NewUser{Key: bob, Name: "e"}, unibus.NewUser{Key: carol, Name: "carol"})
	newcomer.Name, erin.Name = "e", "carol"
	fourth := s.add("fourth").Key()
	apply(alice, unibus.NewUser{Key: fourth, Name: "x"}, newcomer, erin, unibus.NewUser{Key: bob, Name: "dave"}, unibus.NewUser{Key: carol, Name: "fifth"})
	apply(alice, unibus.NewUser{Key: fourth, Name: "carol"}, unibus.NewUser{Key: newcomer.Key, Name: "dave"}, unibus.NewUser{Key: bob, Name: "fifth"}, unibus.NewUser{Key: carol, Name: "e"}, unibus.NewUser{Key: erin.Key, Name: "x"})
}

// TestSyncTakesNames: the name of an admin who is revoked last may be that of another in the same list.
func TestSyncTakesNames(t *testing.T) {
	s := newStraight(t)
	bob := s.admin("bob", 0)
	bobs := s.connect(bob, "bob")
	_, late := s.user("bob")
	d, err := unibus.CompareUsers(bobs.Users(), []unibus.NewUser{{Key: bob.Key(), Name: "alice"}, late})
	s.must(err)
	s.must(d.Check(bobs))
	s.must(d.Apply(s.ctx, bobs))
	again, err := unibus.CompareUsers(bobs.Users(), []unibus.NewUser{{Key: bob.Key(), Name: "alice"}, late})
	s.must(err)
	if !again.Empty() {
		t.Errorf("again it is %+v", again)
	}
	// So may the caller's own, who is revoked at the very end.
	_, heir := s.user("alice")
	heir.Admin = true
	d, err = unibus.CompareUsers(bobs.Users(), []unibus.NewUser{heir, late})
	s.must(err)
	s.must(d.Check(bobs))
	s.must(d.Apply(s.ctx, bobs))
	if u, err := bobs.User(s.ctx, heir.Key.String()); err != nil || u.Name != "alice" {
		t.Errorf("the heir is %+v, %v", u, err)
	}
}

// TestSyncKilled: what a process that was killed has done of a list, and could not note, is noted by the next.
func TestSyncKilled(t *testing.T) {
	s := newStraight(t)
	bob, carol := s.add("bob").Key(), s.add("carol").Key()
	for name, key := range map[string]unibus.PublicKey{"bob": bob, "carol": carol} {
		if u, err := s.alice.User(s.ctx, name); err != nil || u.Key != key {
			t.Fatalf("%s is %+v, %v", name, u, err)
		}
	}
	names := []string{"between", "bob", "carol"}
	for _, change := range []unibus.UserChange{{Key: bob, Name: &names[0]}, {Key: carol, Name: &names[1]}, {Key: bob, Name: &names[2]}} {
		s.offer(change) // as by who could not note it
	}
	again := s.connect(s.aliceID, "alice")
	list := []unibus.NewUser{{Key: s.alice.Key(), Name: "alice"}, {Key: bob, Name: "carol"}, {Key: carol, Name: "bob"}}
	d, err := unibus.CompareUsers(again.Users(), list)
	s.must(err)
	if !d.Empty() {
		t.Errorf("the difference is %+v", d)
	}
	_, err = again.User(s.ctx, "bob")
	s.fails(err, unibus.ErrIntegrity, "the name meant another key before", remedy.ConfirmName)
	s.must(d.Apply(s.ctx, again))
	if u, err := again.User(s.ctx, "bob"); err != nil || u.Key != carol {
		t.Errorf("bob is %+v, %v", u, err)
	}
}

// TestSyncBesideAnother: whom another admin revokes after the allowlist was compared is no error: the others on the way out are
// revoked all the same.
func TestSyncBesideAnother(t *testing.T) {
	s := newStraight(t)
	bob := s.admin("bob", 0)
	carol, dave := s.add("carol").Key(), s.add("dave").Key()
	d, err := unibus.CompareUsers(s.alice.Users(), []unibus.NewUser{{Key: s.alice.Key()}, {Key: bob.Key()}})
	s.must(err)
	if len(d.Revoke) != 2 {
		t.Errorf("the difference is %+v", d)
	}
	s.must(s.connect(bob, "bob").RevokeUsers(s.ctx, "", carol))
	s.must(d.Apply(s.ctx, s.alice))
	for _, key := range []unibus.PublicKey{carol, dave} {
		if u, err := s.alice.User(s.ctx, key.String()); err != nil || u.Active {
			t.Errorf("on the allowlist is %+v, %v", u, err)
		}
	}
}

// TestSyncClashes: names of those who keep them are nobody else's; each is told of, and nothing is done.
func TestSyncClashes(t *testing.T) {
	s := newStraight(t)
	bob, carol := s.add("bob").Key(), s.add("carol").Key()
	s.add("dave")
	_, erin := s.user("dave")
	clash, err := unibus.CompareUsers(s.alice.Users(), []unibus.NewUser{{Key: bob, Name: "alice"}, {Key: carol, Name: "bob"}, erin})
	s.must(err)
	clash.Revoke = nil
	err = clash.Apply(s.ctx, s.alice)
	for _, one := range errlist.Split(err) {
		s.fails(one, unibus.ErrExists, "the name is that of", remedy.NameOtherwise)
	}
	if n := len(errlist.Split(err)); n != 2 {
		t.Errorf("%d are told of: %v", n, err)
	}
	for _, u := range s.alice.Users() {
		if u.Key == bob && u.Name != "bob" {
			t.Errorf("something was done: %+v", u)
		}
	}
}

// TestOnlyAdmins: who is no admin learns that before anything else that is against a change, and where there is nothing to change.
func TestOnlyAdmins(t *testing.T) {
	s := newStraight(t)
	bob := s.add("bob")
	bobs, alice := s.connect(bob, "bob"), s.alice.Key()
	name, past := "alice", time.Now().Add(-time.Hour)
	d, err := unibus.CompareUsers(bobs.Users(), []unibus.NewUser{{Key: bob.Key(), Name: "bob"}})
	s.must(err)
	for what, err := range map[string]error{
		"revoked":   bobs.RevokeUsers(s.ctx, "", alice),
		"role":      bobs.SetUsers(s.ctx, unibus.UserChange{Key: alice, Role: unibus.RoleUser}),
		"same role": bobs.SetUsers(s.ctx, unibus.UserChange{Key: alice, Role: unibus.RoleAdmin}),
		"end":       bobs.SetUsers(s.ctx, unibus.UserChange{Key: alice, Expires: &past}),
		"same name": bobs.SetUsers(s.ctx, unibus.UserChange{Key: alice, Name: &name}),
		"added":     bobs.AddUsers(s.ctx, unibus.NewUser{Key: alice}),
		"a list":    d.Check(bobs),
		"applied":   d.Apply(s.ctx, bobs),
	} {
		t.Log(what)
		s.fails(err, unibus.ErrDenied, "only an admin of the bus changes its allowlist", remedy.AskAdmin)
	}
	var none unibus.UserDiff
	s.must(none.Check(bobs))
}

// TestSyncKeepsAdmin: where no admin would be left nothing is done: not the additions, either, that would come first.
func TestSyncKeepsAdmin(t *testing.T) {
	s := newStraight(t)
	_, late := s.user("late")
	headless, err := unibus.CompareUsers(s.alice.Users(), []unibus.NewUser{late})
	s.must(err)
	s.fails(headless.Apply(s.ctx, s.alice), unibus.ErrDenied, "the last admin", remedy.NameAdmin)
	if _, err := s.alice.User(s.ctx, late.Key.String()); !errors.Is(err, unibus.ErrNotFound) {
		t.Errorf("somebody was added: %v", err)
	}
	// Nor where the one that would be left is none any more: the ledger, which knows no clock, would let it pass.
	over := s.add("over").Key()
	past := time.Now().Add(-time.Hour)
	s.must(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: over, Role: unibus.RoleAdmin}, unibus.UserChange{Key: over, Expires: &past}))
	headless, err = unibus.CompareUsers(s.alice.Users(), []unibus.NewUser{{Key: over, Name: "over"}, late})
	s.must(err)
	s.fails(headless.Apply(s.ctx, s.alice), unibus.ErrDenied, "the last admin", remedy.NameAdmin)
	s.fails(s.alice.RevokeUsers(s.ctx, "", s.alice.Key()), unibus.ErrDenied, "the last admin", remedy.NameAdmin)
	s.fails(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: s.alice.Key(), Role: unibus.RoleUser}), unibus.ErrDenied, "the last admin", remedy.NameAdmin)
	late.Admin = true
	headed, err := unibus.CompareUsers(s.alice.Users(), []unibus.NewUser{{Key: over, Name: "over"}, late})
	s.must(err)
	s.must(headed.Apply(s.ctx, s.alice))
}
