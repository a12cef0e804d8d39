package unibus_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// TestRoomsByName: a room is found by its subject, its id, and how that begins if that is enough to tell it.
func TestRoomsByName(t *testing.T) {
	s := newStraight(t)
	ops, dev := s.room("ops.alerts"), s.room("dev")
	bob := s.connect(s.add("bob"), "bob")
	for _, name := range []string{"ops.alerts", ops.ID().String(), ops.ID().String()[:6], strings.ToUpper(ops.ID().String()[:20])} {
		if r, err := s.alice.Room(s.ctx, name); err != nil || r.ID() != ops.ID() || r.Subject() != "ops.alerts" {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		kind error
		says string
		help remedy.Kind
	}{
		"nothing.there":           {unibus.ErrNotFound, "nothing.there", remedy.ListRooms},
		ops.ID().String()[:5]:     {unibus.ErrNotFound, "", remedy.ListRooms}, // too little
		unibus.ID{1}.String():     {unibus.ErrNotFound, "", remedy.ListRooms},
		"no subject":              {unibus.ErrInvalid, "neither a subject nor an id", remedy.ListRooms},
		s.alice.Bus().String():    {unibus.ErrInvalid, "the id of the bus", remedy.None},
		"zzzzzzzzzzzzzzzzzzzzzzz": {unibus.ErrNotFound, "", remedy.ListRooms},
	} {
		_, err := s.alice.Room(s.ctx, name)
		s.fails(err, c.kind, c.says, c.help)
	}
	// Others' rooms are not found, as those that are not there.
	for _, name := range []string{ops.ID().String()[:6], "dev"} {
		if _, err := bob.Room(s.ctx, name); err == nil && name != "dev" {
			t.Errorf("bob finds %q", name)
		}
	}
	s.must(dev.Invite(s.ctx, unibus.RoleReader, bob.Key()))
	if r, err := bob.Room(s.ctx, "dev"); err != nil || r.ID() != dev.ID() {
		t.Errorf("bob does not find dev: %v", err)
	}
}

// TestSubjectMeansAnother: a subject that meant one room here and now means another is a finding, until a person
// confirms it.
func TestSubjectMeansAnother(t *testing.T) {
	s := newStraight(t)
	one, two := s.room("one"), s.room("two")
	id := two.ID()
	s.exec(`UPDATE rooms SET subject = 'three' WHERE id = ?`, id[:])
	id = one.ID()
	s.exec(`UPDATE rooms SET subject = 'two' WHERE id = ?`, id[:])
	_, err := s.alice.Room(s.ctx, "two")
	s.fails(err, unibus.ErrIntegrity, "meant the room "+two.ID().String()+" and now means "+one.ID().String(), remedy.ConfirmSubject)
	// A client that does not know it meets a room that calls itself otherwise.
	s.must(s.alice.Close())
	s.alice = s.connect(s.aliceID, "fresh")
	_, err = s.alice.Room(s.ctx, "two")
	s.fails(err, unibus.ErrIntegrity, "the store gave the room one instead", remedy.None)
}

// TestLists: one's rooms are those whose logs say so: what a store lists besides is a finding, and what it leaves out is
// not listed.
func TestLists(t *testing.T) {
	s := newStraight(t)
	for _, subject := range []string{"one", "two", "three"} {
		s.room(subject)
	}
	bobID := s.add("bob")
	bob := s.connect(bobID, "bob")
	refs, err := s.alice.ListMyRooms(s.ctx)
	s.must(err)
	subjects := func(refs []unibus.RoomRef) (out []string) {
		for _, r := range refs {
			out = append(out, r.Subject)
			if r.Role != unibus.RoleOwner || r.Epoch != 1 {
				t.Errorf("%+v", r)
			}
		}
		slices.Sort(out)
		return out
	}
	if got := subjects(refs); !slices.Equal(got, []string{"one", "three", "two"}) || !slices.IsSortedFunc(refs, func(a, b unibus.RoomRef) int { return a.ID.Compare(b.ID) }) {
		t.Errorf("listed are %q", got)
	}
	all, err := s.alice.AllRooms(s.ctx)
	if err != nil || len(all) != 3 {
		t.Errorf("%d rooms on the bus, %v", len(all), err)
	}
	if refs, err := bob.ListMyRooms(s.ctx); err != nil || len(refs) != 0 {
		t.Errorf("bob is in %v, %v", refs, err)
	}
	// The store lists bob where he is not.
	key, id := bobID.Key(), all[0].ID()
	s.exec(`INSERT INTO members (room, endpoint, role) VALUES (?, ?, 'member')`, id[:], key[:])
	_, err = bob.ListMyRooms(s.ctx)
	s.fails(err, unibus.ErrIntegrity, "the store lists it for "+key.String(), remedy.None)
	if _, err := s.alice.RoomsOf(s.ctx, bob.Key()); !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("of bob's rooms alice is told %v", err)
	}
}

// TestRoomsOfUnlisted: among somebody's rooms are those of this client's whose logs say so, whatever the store lists.
func TestRoomsOfUnlisted(t *testing.T) {
	s := newStraight(t)
	bob := s.add("bob")
	for _, subject := range []string{"one", "two", "three"} {
		r := s.room(subject)
		if subject != "three" {
			s.must(r.Invite(s.ctx, unibus.RoleMember, bob.Key()))
		}
	}
	key := bob.Key()
	s.exec(`DELETE FROM members WHERE endpoint = ? AND room = (SELECT id FROM rooms WHERE subject = 'one')`, key[:])
	rooms, err := s.alice.RoomsOf(s.ctx, key)
	s.must(err)
	var subjects []string
	for _, r := range rooms {
		subjects = append(subjects, r.Subject())
	}
	slices.Sort(subjects)
	if !slices.Equal(subjects, []string{"one", "two"}) {
		t.Errorf("bob is in %q", subjects)
	}
}

// TestCreateRoom: a subject is of one room; what cannot be one is refused.
func TestCreateRoom(t *testing.T) {
	s := newStraight(t)
	s.room("ops")
	_, err := s.alice.CreateRoom(s.ctx, "ops", unibus.DefaultPolicy())
	s.fails(err, unibus.ErrExists, "room ops", remedy.None)
	for _, subject := range []string{"", "a b", "a.*", "$SYS.x", ".a"} {
		if _, err := s.alice.CreateRoom(s.ctx, subject, unibus.DefaultPolicy()); !errors.Is(err, unibus.ErrInvalid) {
			t.Errorf("%q: %v", subject, err)
		}
	}
	p := unibus.DefaultPolicy()
	p.History = "as it pleases"
	if _, err := s.alice.CreateRoom(s.ctx, "odd", p); err == nil {
		t.Error("a policy that is none is taken")
	}
	open := unibus.DefaultPolicy()
	open.Encryption = "none"
	r, err := s.alice.CreateRoom(s.ctx, "open", open)
	s.must(err)
	if held, err := r.HoldsKey(s.ctx); !held || err != nil {
		t.Errorf("in a room without encryption: %v, %v", held, err)
	}
}

// TestMembers: each change of who is in a room is seen by all, and those who may not make it are refused.
func TestMembers(t *testing.T) {
	s := newStraight(t)
	r := s.room("ops")
	bobID, carolID := s.add("bob"), s.add("carol")
	bob, carol := s.connect(bobID, "bob"), s.connect(carolID, "carol")
	s.must(r.Invite(s.ctx, unibus.RoleMember, bob.Key(), carol.Key()))
	his, err := bob.Room(s.ctx, "ops")
	s.must(err)
	listed := func(want string) {
		t.Helper()
		s.must(his.Refresh(s.ctx))
		var out []string
		for _, m := range his.Members() {
			out = append(out, fmt.Sprintf("%s:%s:%v", m.Name, m.Role, m.Active))
		}
		if got := strings.Join(out, " "); got != want {
			t.Errorf("members are %s, want %s", got, want)
		}
	}
	listed("alice:owner:true bob:member:true carol:member:true")
	s.fails(r.Invite(s.ctx, unibus.RoleMember, bob.Key()), unibus.ErrExists, "in the room already", remedy.None)
	s.fails(his.Kick(s.ctx, carol.Key()), unibus.ErrDenied, "only an owner or admin", remedy.AskOwner)
	s.fails(his.SetPolicy(s.ctx, func(*unibus.PolicyChange) {}), unibus.ErrDenied, "only an owner", remedy.AskOwner)
	s.must(r.SetRole(s.ctx, carol.Key(), unibus.RoleAdmin))
	listed("alice:owner:true carol:admin:true bob:member:true")
	s.fails(r.SetRole(s.ctx, s.add("dave").Key(), unibus.RoleAdmin), unibus.ErrNotFound, "", remedy.ListMembers)

	s.must(s.alice.RevokeUsers(s.ctx, "", carol.Key()))
	his, err = s.connect(bobID, "bob2").Room(s.ctx, "ops")
	s.must(err)
	listed("alice:owner:true carol:admin:false bob:member:true")
	if !his.Info().Stale {
		t.Error("a room with someone revoked in it is not stale")
	}
	s.must(r.Rekey(s.ctx))
	listed("alice:owner:true bob:member:true")
	if held, err := his.HoldsKey(s.ctx); !held || err != nil {
		t.Errorf("bob holds its key: %v, %v", held, err)
	}
	s.must(his.Leave(s.ctx))
	s.must(r.Refresh(s.ctx))
	if info := r.Info(); info.Members != 1 || info.Role != unibus.RoleOwner || info.Archived {
		t.Errorf("%+v", info)
	}
	s.must(r.Archive(s.ctx))
	if !r.Info().Archived {
		t.Error("it is not archived")
	}
	s.fails(r.Archive(s.ctx), unibus.ErrExists, "archived", remedy.None)
}

// TestMembersInOrder: members of one role are listed by name.
func TestMembersInOrder(t *testing.T) {
	s := newStraight(t)
	r := s.room("ops")
	_, one := s.user("adam")
	_, two := s.user("zoe")
	if one.Key.String() < two.Key.String() { // the order of keys is another
		one.Name, two.Name = two.Name, one.Name
	}
	s.must(s.alice.AddUsers(s.ctx, one, two))
	s.must(r.Invite(s.ctx, unibus.RoleMember, one.Key, two.Key))
	if m := r.Members(); len(m) != 3 || m[1].Name != "adam" || m[2].Name != "zoe" {
		t.Errorf("members are %+v", m)
	}
}
