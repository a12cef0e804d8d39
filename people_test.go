package unibus_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// swap has two files, or folders, change places.
func swap(a, b string) error {
	return errors.Join(os.Rename(a, a+".x"), os.Rename(b, a), os.Rename(a+".x", b))
}

// TestIdentityFile: an identity is kept in a file of its own, never overwritten, which nobody else may read.
func TestIdentityFile(t *testing.T) {
	s := &straight{T: t}
	id, err := unibus.NewIdentity()
	s.must(err)
	path := filepath.Join(t.TempDir(), "folder", "id")
	s.must(unibus.SaveIdentity(path, id, "alice"))
	got, err := unibus.LoadIdentity(path)
	s.must(err)
	if got.Key() != id.Key() || unibus.IdentityName(path) != "alice" {
		t.Errorf("%s of %q, want %s of alice", got.Key(), unibus.IdentityName(path), id.Key())
	}
	s.fails(unibus.SaveIdentity(path, id, "alice"), unibus.ErrExists, path, remedy.None)
	s.fails(unibus.SaveIdentity(path+"2", id, "no name\n"), unibus.ErrInvalid, "name", remedy.None)
	_, err = unibus.LoadIdentity(path + "2")
	s.fails(err, unibus.ErrNotFound, "there is no file", remedy.MakeIdentity)

	s.must(os.Chmod(path, 0o644))
	_, err = unibus.LoadIdentity(path)
	if remedy.Of(err).Kind != remedy.MakePrivate || remedy.Of(err).Path != path || unibus.IdentityName(path) != "" {
		t.Errorf("others may read it: %v, of %q", err, unibus.IdentityName(path))
	}
	s.must(os.Chmod(path, 0o600))
	s.must(os.WriteFile(path, []byte("# name: alice\nrubbish\n"), 0o600))
	_, err = unibus.LoadIdentity(path)
	s.fails(err, unibus.ErrInvalid, path, remedy.None)
}

// TestParseUser: an admin is given a key or a card, as people copy them; a seed is refused without being repeated.
func TestParseUser(t *testing.T) {
	s := &straight{T: t}
	id, err := unibus.NewIdentity()
	s.must(err)
	card, err := id.Card()
	s.must(err)
	for _, text := range []string{id.Key().String(), "  " + strings.ToLower(id.Key().String()) + "\n"} {
		if u, err := unibus.ParseUser(text); err != nil || u.Key != id.Key() || u.Card != nil {
			t.Errorf("%q is %+v, %v", text, u, err)
		}
	}
	text := base64.StdEncoding.EncodeToString(card)
	if u, err := unibus.ParseUser(text + "\n"); err != nil || u.Key != id.Key() || !slices.Equal(u.Card, card) {
		t.Errorf("a card is %+v, %v", u, err)
	}
	forged := slices.Clone(card)
	forged[len(forged)-1] ^= 1
	seed, err := id.Seed()
	s.must(err)
	for what, text := range map[string]string{
		"no key": "alice", "a forged card": base64.StdEncoding.EncodeToString(forged), "no card": strings.Repeat("x", 300), "a seed": string(seed),
	} {
		_, err := unibus.ParseUser(text)
		if !errors.Is(err, unibus.ErrInvalid) || strings.Contains(err.Error(), string(seed)) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestUsers: who is added is found by name and key.
func TestUsers(t *testing.T) {
	s := newStraight(t)
	bob, bobs := s.user("bob")
	_, carols := s.user("carol")
	carols.Expires, carols.Admin = time.Now().Add(time.Hour).Truncate(time.Millisecond), true
	s.must(s.alice.AddUsers(s.ctx, bobs, carols))
	var names []string
	for _, u := range s.alice.Users() {
		names = append(names, u.Name)
	}
	if !slices.Equal(names, []string{"alice", "bob", "carol"}) {
		t.Errorf("on the allowlist are %q", names)
	}
	for _, name := range []string{"bob", bob.Key().String(), strings.ToLower(bob.Key().String())} {
		if u, err := s.alice.User(s.ctx, name); err != nil || u.Key != bob.Key() || u.Role != unibus.RoleUser {
			t.Errorf("%s is %+v, %v", name, u, err)
		}
	}
	if u, err := s.alice.User(s.ctx, "carol"); err != nil || !u.Expires.Equal(carols.Expires) || u.Role != unibus.RoleAdmin {
		t.Errorf("carol is %+v, %v", u, err)
	}
}

// TestUsersRefused: what cannot be added leaves everything as it was; who is not there is not found.
func TestUsersRefused(t *testing.T) {
	s := newStraight(t)
	bob := s.add("bob")
	_, bobs := s.user("bob")
	bobs.Key = bob.Key()
	_, dave := s.user("dave")
	taken, another, bad, key := dave, bobs, dave, dave
	taken.Name, another.Name, bad.Name, key.Name = "bob", "robert", "no name\n", bob.Key().String()
	for what, c := range map[string]struct {
		user unibus.NewUser
		kind error
		says string
		help remedy.Kind
	}{
		"a name that is taken":      {taken, unibus.ErrExists, "the name is that of " + bob.Key().String(), remedy.NameOtherwise},
		"a key that is there":       {another, unibus.ErrExists, "on the allowlist as bob", remedy.None},
		"no name":                   {bad, unibus.ErrInvalid, "name", remedy.None},
		"a name that is like a key": {key, unibus.ErrInvalid, "look like a key", remedy.None},
	} {
		_, erin := s.user("erin")
		err := s.alice.AddUsers(s.ctx, erin, c.user)
		t.Log(what)
		s.fails(err, c.kind, c.says, c.help)
	}
	if list := s.alice.Users(); len(list) != 2 || list[0].Name != "alice" || list[1].Name != "bob" {
		t.Errorf("on the allowlist are %+v", list)
	}

	for name, c := range map[string]struct {
		kind error
		help remedy.Kind
	}{
		"nobody":                      {unibus.ErrNotFound, remedy.ListUsers},
		dave.Key.String():             {unibus.ErrNotFound, remedy.AllowUser},
		"no name\n":                   {unibus.ErrInvalid, remedy.None},
		"U" + strings.Repeat("A", 55): {unibus.ErrInvalid, remedy.None}, // of no key
	} {
		_, err := s.alice.User(s.ctx, name)
		s.fails(err, c.kind, "", c.help)
	}
}

// TestRevokeUsers: whoever is revoked is found by its key alone, and others than admins change nothing.
func TestRevokeUsers(t *testing.T) {
	s := newStraight(t)
	bob := s.add("bob")
	_, dave := s.user("dave")
	carol := s.add("carol")
	// Others than admins change nothing.
	his := s.connect(bob, "bob")
	s.fails(his.AddUsers(s.ctx, dave), unibus.ErrDenied, "", remedy.AskAdmin)
	s.fails(his.RevokeUsers(s.ctx, "", carol.Key()), unibus.ErrDenied, "", remedy.AskAdmin)

	s.fails(s.alice.RevokeUsers(s.ctx, "", bob.Key(), dave.Key), unibus.ErrNotFound, dave.Key.String(), remedy.None)
	s.must(s.alice.RevokeUsers(s.ctx, "left", bob.Key()))
	s.fails(s.alice.RevokeUsers(s.ctx, "", bob.Key()), unibus.ErrNotFound, bob.Key().String(), remedy.None)
	if u, err := s.alice.User(s.ctx, bob.Key().String()); err != nil || u.Active || u.Revoked.IsZero() {
		t.Errorf("bob is %+v, %v", u, err)
	}
	_, err := s.alice.User(s.ctx, "bob")
	s.fails(err, unibus.ErrNotFound, "bob: not found: revoked at 2", remedy.AllowFormer)
	name := "robert"
	s.fails(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: bob.Key(), Name: &name}), unibus.ErrNotFound, "revoked at 2", remedy.AllowFormer)
	// Of several who had the name it is the last one; whoever has it now goes before them.
	again := s.add("bob")
	if u, err := s.alice.User(s.ctx, "bob"); err != nil || u.Key != again.Key() {
		t.Errorf("bob is %+v, %v", u, err)
	}
	s.must(s.alice.RevokeUsers(s.ctx, "", again.Key()))
	_, err = s.alice.User(s.ctx, "bob")
	s.fails(err, unibus.ErrNotFound, "", remedy.AllowFormer)
	if help := remedy.Of(err); help.Key != again.Key() || help.User != "bob" {
		t.Errorf("the remedy names %+v", help)
	}
}

// TestExpiredIsThere: whoever has expired is on the allowlist: adding them again says so, and what helps instead.
func TestExpiredIsThere(t *testing.T) {
	s := newStraight(t)
	bob := s.add("bob").Key()
	past := time.Now().Add(-time.Hour)
	s.must(s.alice.SetUsers(s.ctx, unibus.UserChange{Key: bob, Expires: &past}))
	err := s.alice.AddUsers(s.ctx, unibus.NewUser{Key: bob, Name: "rob"})
	s.fails(err, unibus.ErrExists, "on the allowlist as bob, expired at "+past.UTC().Format(time.RFC3339), remedy.Extend)
	if help := remedy.Of(err); help.User != "bob" {
		t.Errorf("the remedy names %+v", help)
	}
}

// TestNameMeansAnother: a name that meant one key and now means another is a finding, until a person confirms it.
func TestNameMeansAnother(t *testing.T) {
	s := newStraight(t)
	bob := s.add("bob")
	carolID := s.add("carol")
	carol := s.connect(carolID, "carol")
	_, err := carol.User(s.ctx, "bob")
	s.must(err)
	s.must(carol.Close())
	s.must(s.alice.RevokeUsers(s.ctx, "", bob.Key()))
	another := s.add("bob")

	carol = s.connect(carolID, "carol")
	_, err = carol.User(s.ctx, "bob")
	s.fails(err, unibus.ErrIntegrity, "now means "+another.Key().String(), remedy.ConfirmName)
	o := s.options(carolID, "carol")
	o.Confirm = true
	confirming, err := unibus.Connect(s.ctx, o)
	s.must(err)
	defer confirming.Close()
	_, err = confirming.User(s.ctx, "bob")
	s.must(err)
	if u, err := carol.User(s.ctx, "bob"); err != nil || u.Key != another.Key() {
		t.Errorf("once it is confirmed bob is %+v, %v", u, err)
	}
}

// TestNameIsGivenAgain: whoever adds a user under a name that meant another before says by that what it means now.
func TestNameIsGivenAgain(t *testing.T) {
	s := newStraight(t)
	bob := s.add("bob").Key()
	if u, err := s.alice.User(s.ctx, "bob"); err != nil || u.Key != bob {
		t.Fatalf("bob is %+v, %v", u, err)
	}
	s.must(s.alice.RevokeUsers(s.ctx, "", bob))
	another := s.add("bob").Key()
	if u, err := s.alice.User(s.ctx, "bob"); err != nil || u.Key != another {
		t.Errorf("then bob is %+v, %v", u, err)
	}
}

// TestRevokedStraight: whoever is revoked is told so where it would do anything.
func TestRevokedStraight(t *testing.T) {
	s := newStraight(t)
	bob := s.add("bob")
	s.must(s.alice.RevokeUsers(s.ctx, "", bob.Key()))
	his := s.connect(bob, "bob")
	_, err := his.CreateRoom(s.ctx, "mine", unibus.DefaultPolicy())
	s.fails(err, unibus.ErrDenied, "", remedy.AllowAgain)
}

// TestCardsAreKept: the card of somebody whom a key was once sealed for is not asked for again, by later processes
// either: it never changes.
func TestCardsAreKept(t *testing.T) {
	s := newStraight(t)
	r := s.room("ops")
	bob := s.add("bob").Key()
	s.must(r.Invite(s.ctx, unibus.RoleMember, bob))
	s.must(r.Kick(s.ctx, bob))
	s.exec(`DELETE FROM cards`)
	s.must(s.alice.Close())
	s.alice = s.connect(s.aliceID, "alice")
	r, err := s.alice.Room(s.ctx, "ops")
	s.must(err)
	s.must(r.Invite(s.ctx, unibus.RoleMember, bob))
	fresh, err := s.connect(s.aliceID, "fresh").Room(s.ctx, "ops")
	s.must(err)
	s.must(fresh.Kick(s.ctx, bob))
	s.fails(fresh.Invite(s.ctx, unibus.RoleMember, bob), unibus.ErrNotFound, "has not connected yet", remedy.PublishCard)
}

// TestPublishCards: an admin gives the store the card of who was added without one; nobody else has anything done.
func TestPublishCards(t *testing.T) {
	s := newStraight(t)
	r, bob := s.room("ops"), s.connect(s.add("bob"), "bob")
	_, carol := s.user("carol")
	s.must(s.alice.AddUsers(s.ctx, unibus.NewUser{Key: carol.Key, Name: carol.Name}))
	s.must(unibus.PublishCards(s.ctx, bob, carol))
	s.fails(r.Invite(s.ctx, unibus.RoleMember, carol.Key), unibus.ErrNotFound, "has not connected yet", remedy.PublishCard)
	s.must(unibus.PublishCards(s.ctx, s.alice, carol))
	s.must(r.Invite(s.ctx, unibus.RoleMember, carol.Key))
}
