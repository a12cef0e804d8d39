package unibus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// TestSubjectLikeAnId: a name that is the subject of one room and begins the id of another means neither, in whatever case it is
// written, whatever it was used for when there was only one of them. All of an id names the room.
func TestSubjectLikeAnId(t *testing.T) {
	s := newStraight(t)
	pay := s.room("pay.two")
	bobID := s.add("bob")
	bob, mallory := s.connect(bobID, "bob"), s.connect(s.add("mallory"), "mallory")
	s.must(pay.Invite(s.ctx, unibus.RoleMember, bob.Key()))
	is := func(c *unibus.Client, name string, want unibus.ID) {
		t.Helper()
		if r, err := c.Room(s.ctx, name); err != nil || r.ID() != want {
			t.Errorf("%s is %v, %v", name, r, err)
		}
	}
	n := 0
	for _, length := range []int{6, 8, 12, 31} {
		begun := pay.ID().String()[:length]
		for _, subject := range []string{begun, strings.ToUpper(begun)} {
			n++
			used := s.connect(s.aliceID, fmt.Sprint("used", n))
			is(used, subject, pay.ID())
			like, err := mallory.CreateRoom(s.ctx, subject, unibus.DefaultPolicy())
			s.must(err)
			is(mallory, subject, like.ID()) // who is not in the other
			s.must(like.Invite(s.ctx, unibus.RoleMember, bob.Key(), s.alice.Key()))
			for _, c := range []*unibus.Client{used, s.connect(s.aliceID, fmt.Sprint("alice", n)), bob, s.connect(bobID, fmt.Sprint("bob", n))} {
				for range 2 {
					_, err := c.Room(s.ctx, subject)
					s.fails(err, unibus.ErrInvalid, "it is the subject of the room "+like.ID().String()+", and the id of another begins so", remedy.None)
					if _, err := c.ListMyRooms(s.ctx); err != nil { // which verifies both, and pins the subject
						t.Fatal(err)
					}
				}
				is(c, pay.ID().String(), pay.ID())
				is(c, like.ID().String(), like.ID())
			}
		}
	}
	_, err := mallory.CreateRoom(s.ctx, pay.ID().String(), unibus.DefaultPolicy())
	s.fails(err, unibus.ErrInvalid, "a subject is not written like an id", remedy.None)
}

// TestSubjectLikeALeftId: to who has left a room, how its id begins does not come to mean another; nor to who is in it again.
func TestSubjectLikeALeftId(t *testing.T) {
	s := newStraight(t)
	pay := s.room("pay.two")
	bob, mallory := s.connect(s.add("bob"), "bob"), s.connect(s.add("mallory"), "mallory")
	s.must(pay.Invite(s.ctx, unibus.RoleMember, bob.Key()))
	in, err := bob.Room(s.ctx, "pay.two")
	s.must(err)
	s.must(in.Leave(s.ctx))
	subject := pay.ID().String()[:12]
	_, err = bob.Room(s.ctx, subject)
	s.fails(err, unibus.ErrNotFound, subject, remedy.ListRooms)
	like, err := mallory.CreateRoom(s.ctx, subject, unibus.DefaultPolicy())
	s.must(err)
	s.must(like.Invite(s.ctx, unibus.RoleMember, bob.Key()))
	for range 2 {
		_, err = bob.Room(s.ctx, subject)
		s.fails(err, unibus.ErrInvalid, "it is the subject of the room "+like.ID().String(), remedy.None)
		if err := pay.Invite(s.ctx, unibus.RoleMember, bob.Key()); err != nil && !errors.Is(err, unibus.ErrExists) {
			t.Fatal(err)
		}
	}
}

// TestSubjectBeforeTheId: who has used a subject that is the beginning of an id, and is let into the room of that id later, is told
// of both from then on; with as few characters as ids may be made for, the subject goes on meaning its room.
func TestSubjectBeforeTheId(t *testing.T) {
	s := newStraight(t)
	pay := s.room("pay.two")
	bob, mallory := s.connect(s.add("bob"), "bob"), s.connect(s.add("mallory"), "mallory")
	like := map[int]unibus.ID{}
	name := func(n int) string { return pay.ID().String()[:n] }
	for _, n := range []int{11, 12} {
		r, err := mallory.CreateRoom(s.ctx, name(n), unibus.DefaultPolicy())
		s.must(err)
		s.must(r.Invite(s.ctx, unibus.RoleMember, bob.Key()))
		like[n] = r.ID()
		if r, err := bob.Room(s.ctx, name(n)); err != nil || r.ID() != like[n] {
			t.Fatalf("%s is %v, %v", name(n), r, err)
		}
	}
	s.must(pay.Invite(s.ctx, unibus.RoleMember, bob.Key()))
	if r, err := bob.Room(s.ctx, name(11)); err != nil || r.ID() != like[11] {
		t.Errorf("%s is %v, %v", name(11), r, err)
	}
	_, err := bob.Room(s.ctx, name(12))
	s.fails(err, unibus.ErrInvalid, "it is the subject of the room "+like[12].String(), remedy.None)
}

// TestIdLikeASubject: how an id begins names a room that others have made only with so much of it that nobody has it begin so;
// and a subject goes on meaning what it did to who has used it, whatever rooms there are later.
func TestIdLikeASubject(t *testing.T) {
	s := newStraight(t)
	bobID := s.add("bob")
	bob, carol, mallory := s.connect(bobID, "bob"), s.connect(s.add("carol"), "carol"), s.connect(s.add("mallory"), "mallory")
	bait, err := mallory.CreateRoom(s.ctx, "bait", unibus.DefaultPolicy())
	s.must(err)
	s.must(bait.Invite(s.ctx, unibus.RoleMember, bob.Key()))
	id := bait.ID().String()
	for n := 5; n < 32; n++ {
		for who, c := range map[string]*unibus.Client{"who made it": mallory, "who is in it": bob, "an admin": s.alice, "someone else": carol} {
			named := n >= 12 && c != carol || n >= 6 && c == mallory
			r, err := c.Room(s.ctx, id[:n])
			if named && (err != nil || r.ID() != bait.ID()) {
				t.Errorf("to %s %s is %v, %v", who, id[:n], r, err)
			} else if !named {
				s.fails(err, unibus.ErrNotFound, id[:n], remedy.ListRooms)
			}
		}
	}
	subject := id[:7]
	honest, err := carol.CreateRoom(s.ctx, subject, unibus.DefaultPolicy())
	s.must(err)
	s.must(honest.Invite(s.ctx, unibus.RoleMember, bobID.Key()))
	used := s.connect(bobID, "used before it was there")
	if err := bait.Kick(s.ctx, bob.Key()); err != nil {
		t.Fatal(err)
	}
	if r, err := used.Room(s.ctx, subject); err != nil || r.ID() != honest.ID() {
		t.Fatalf("%s is %v, %v", subject, r, err)
	}
	s.must(bait.Invite(s.ctx, unibus.RoleMember, bob.Key()))
	for _, c := range []*unibus.Client{used, carol} {
		if r, err := c.Room(s.ctx, subject); err != nil || r.ID() != honest.ID() {
			t.Errorf("later %s is %v, %v", subject, r, err)
		}
	}
	_, err = bob.Room(s.ctx, subject)
	s.fails(err, unibus.ErrInvalid, "begins so", remedy.None)
}
