package unibus_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/remedy"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/open"
	"github.com/unibus/unibus/internal/store/storetest"
)

// ends gives a user an end, so long from now; 0 is never.
func ends(key unibus.PublicKey, in time.Duration) unibus.UserChange {
	var end time.Time
	if in != 0 {
		end = time.Now().Add(in)
	}
	return unibus.UserChange{Key: key, Expires: &end}
}

// admin allows someone new as an admin whose access ends by itself, so long from now; 0 is never.
func (s *straight) admin(name string, in time.Duration) *unibus.Identity {
	s.Helper()
	id, user := s.user(name)
	user.Admin = true
	if in != 0 {
		user.Expires = time.Now().Add(in)
	}
	s.must(s.alice.AddUsers(s.ctx, user))
	return id
}

// offer writes changes to the store as of alice, and asks no client whether it would.
func (s *straight) offer(changes ...unibus.UserChange) {
	s.Helper()
	file, err := open.File(s.ctx, s.path(), open.Options{})
	s.must(err)
	defer file.Close()
	state, err := store.Load(s.ctx, file, s.alice.Bus())
	s.must(err)
	set := &ledger.SetUsers{}
	for _, c := range changes {
		change := ledger.UserChange{Key: c.Key, Name: c.Name}
		if c.Expires != nil {
			end := crypto.Number(c.Expires.UnixMilli())
			change.Expires = &end
		}
		set.Users = append(set.Users, change)
	}
	statement, err := state.Next(s.aliceID, set, time.Now())
	s.must(err)
	change, err := storetest.Advance(state, statement)
	s.must(err)
	s.must(file.Append(s.ctx, change))
}

// refuses fails the test unless a change is refused as one of the last admin.
func (s *straight) refuses(what string, err error) {
	s.Helper()
	s.Log(what)
	s.fails(err, unibus.ErrDenied, "the last admin", remedy.NameAdmin)
}

// TestLastAdminWithoutEnd: the last admin whose access does not end by itself keeps it, whoever else is an admin for a while:
// after that nobody could ever change the allowlist again.
func TestLastAdminWithoutEnd(t *testing.T) {
	s := newStraight(t)
	alice := s.alice.Key()
	user := func(key unibus.PublicKey) unibus.UserChange {
		return unibus.UserChange{Key: key, Role: unibus.RoleUser}
	}
	s.refuses("an end, of the only admin", s.alice.SetUsers(s.ctx, ends(alice, time.Hour)))
	bob := s.admin("bob", time.Hour)
	bobs := s.connect(bob, "bob")
	s.refuses("an end", bobs.SetUsers(s.ctx, ends(alice, time.Hour)))
	s.refuses("an end that is over", bobs.SetUsers(s.ctx, ends(alice, -time.Hour)))
	s.refuses("another role", bobs.SetUsers(s.ctx, user(alice)))
	s.refuses("revoked", bobs.RevokeUsers(s.ctx, "", alice))
	d, err := unibus.CompareUsers(s.alice.Users(), []unibus.NewUser{{Key: bob.Key(), Name: "bob"}})
	s.must(err)
	s.refuses("a list without", d.Check(s.alice))
	s.refuses("a list without, applied", d.Apply(s.ctx, bobs))

	// Whoever is a user, or had an end before, may have one, also in the entry that gives none to another.
	s.must(s.alice.SetUsers(s.ctx, ends(s.add("carol").Key(), time.Hour), ends(bob.Key(), 2*time.Hour)))
	s.must(s.alice.SetUsers(s.ctx, ends(alice, time.Hour), ends(bob.Key(), 0)))
	s.refuses("an end, of the one who has none now", s.alice.SetUsers(s.ctx, ends(bob.Key(), time.Hour)))
	s.must(s.alice.SetUsers(s.ctx, ends(alice, 0)))
	s.must(s.alice.SetUsers(s.ctx, user(bob.Key())))
}

// TestLastAdminPresent: on a bus whose admins all have an end, the last who may connect stays.
func TestLastAdminPresent(t *testing.T) {
	s := newStraight(t)
	alice, over := s.alice.Key(), s.admin("over", 0).Key()
	s.refuses("both", s.alice.SetUsers(s.ctx, ends(alice, time.Hour), ends(over, time.Hour)))
	// What clients refuse, an entry of one that does not, or an earlier one, may have done.
	s.offer(ends(alice, time.Hour), ends(over, -time.Hour))
	s.must(s.alice.SetUsers(s.ctx, ends(alice, 2*time.Hour)))
	s.refuses("an end that is over", s.alice.SetUsers(s.ctx, ends(alice, -time.Hour)))
	s.refuses("another role", s.alice.SetUsers(s.ctx, unibus.UserChange{Key: alice, Role: unibus.RoleUser}))
	s.refuses("revoked", s.alice.RevokeUsers(s.ctx, "", alice))
	s.must(s.alice.SetUsers(s.ctx, ends(over, 0)))
	s.must(s.alice.RevokeUsers(s.ctx, "", alice))
}

// TestLastAdminRace: of two admins who take from each other at once what the other has for ever, one does.
func TestLastAdminRace(t *testing.T) {
	s := newStraight(t)
	alice, bob := s.alice.Key(), s.admin("bob", 0)
	bobs := s.connect(bob, "bob")
	for range 8 {
		var errs [2]error
		var both sync.WaitGroup
		start := make(chan struct{})
		for i, do := range []func() error{
			func() error { return s.alice.SetUsers(s.ctx, ends(bob.Key(), time.Hour)) },
			func() error { return bobs.SetUsers(s.ctx, ends(alice, time.Hour)) },
		} {
			both.Go(func() {
				<-start
				errs[i] = do()
			})
		}
		close(start)
		both.Wait()
		if first, second := errs[0], errs[1]; (first == nil) == (second == nil) || !errors.Is(errors.Join(first, second), unibus.ErrDenied) {
			t.Fatalf("%v, %v", first, second)
		}
		s.must(s.alice.SetUsers(s.ctx, ends(alice, 0), ends(bob.Key(), 0))) // it reads what bob has done
	}
}

// TestSyncReplacesAdmin: a list may have another admin in the place of the last one without an end, who goes when the other
// is there.
func TestSyncReplacesAdmin(t *testing.T) {
	s := newStraight(t)
	bob := s.admin("bob", time.Hour)
	bobs := s.connect(bob, "bob")
	_, late := s.user("late")
	late.Admin, late.Expires = true, time.Now().Add(time.Hour)
	list := func() unibus.UserDiff {
		d, err := unibus.CompareUsers(bobs.Users(), []unibus.NewUser{{Key: bob.Key(), Name: "bob"}, late})
		s.must(err)
		return d
	}
	d := list()
	s.refuses("one who has an end", d.Check(bobs))
	late.Expires = time.Time{}
	d = list()
	s.must(d.Apply(s.ctx, bobs))
	if u, err := bobs.User(s.ctx, s.alice.Key().String()); err != nil || u.Active {
		t.Errorf("alice is %+v, %v", u, err)
	}
}
