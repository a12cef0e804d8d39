package unibus_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// losing is a store that has lost a room, as one that was restored from before it was made: alice made it, carol has seen it
// in a listing, bob has left it.
type losing struct {
	*straight
	kept, lost unibus.ID
	carol, bob *unibus.Identity
	whole      string // the database as it was before
}

func newLosing(t *testing.T) *losing {
	t.Helper()
	s := &losing{straight: newStraight(t)}
	s.carol, s.bob = s.add("carol"), s.add("bob")
	carol, bob := s.connect(s.carol, "carol"), s.connect(s.bob, "bob")
	kept, lost := s.room("kept"), s.room("lost")
	s.kept, s.lost = kept.ID(), lost.ID()
	s.must(lost.Invite(s.ctx, unibus.RoleMember, bob.Key(), carol.Key()))
	_, err := carol.MyRooms(s.ctx)
	s.must(err)
	theirs, err := bob.Room(s.ctx, "lost")
	s.must(err)
	s.must(theirs.Leave(s.ctx))
	for _, c := range []*unibus.Client{s.alice, bob, carol} {
		s.must(c.Close())
	}
	s.whole = filepath.Join(s.dir, "whole.db")
	s.exec("VACUUM INTO ?", s.whole)
	s.exec("DELETE FROM entries WHERE log = (SELECT id FROM rooms WHERE subject = 'lost')")
	s.exec("DELETE FROM members WHERE room = (SELECT id FROM rooms WHERE subject = 'lost')")
	s.exec("DELETE FROM rooms WHERE subject = 'lost'")
	s.must(os.Remove(filepath.Join(filepath.Dir(s.path()), "heads."+filepath.Base(s.path()))))
	return s
}

// denied fails unless an error says that the room is lost.
func (s *losing) denied(err error) {
	s.Helper()
	s.fails(err, unibus.ErrIntegrity, "the store denies the log that was verified up to entry", remedy.AcceptLoss)
}

// as connects to a database.
func (s *losing) as(id *unibus.Identity, name, database string) *unibus.Client {
	s.Helper()
	o := s.options(id, name)
	o.Store = "sqlite:" + database
	c, err := unibus.Connect(s.ctx, o)
	s.must(err)
	s.Cleanup(func() { c.Close() })
	return c
}

// lists checks which rooms a client is in.
func (s *losing) lists(c *unibus.Client, want ...unibus.ID) {
	s.Helper()
	rooms, err := c.MyRooms(s.ctx)
	if err != nil || len(rooms) != len(want) {
		s.Fatalf("the rooms are %v, %v", rooms, err)
	}
	for i, r := range rooms {
		if r.ID() != want[i] {
			s.Errorf("room %d is %s", i, r.Subject())
		}
	}
}

// TestLostRoom: a room that was verified, and of which the store has nothing any more, is told of by whoever lists rooms,
// names it or makes another of its subject, until a person takes it for lost; one that was left is nobody's loss.
func TestLostRoom(t *testing.T) {
	s := newLosing(t)
	again := s.connect(s.aliceID, "alice")
	rooms, err := again.MyRooms(s.ctx)
	s.denied(err)
	if len(rooms) != 1 || rooms[0].ID() != s.kept {
		t.Errorf("with it come %v", rooms)
	}
	rooms, err = again.AllRooms(s.ctx)
	s.denied(err)
	if len(rooms) != 1 || rooms[0].ID() != s.kept {
		t.Errorf("with it come %v of all", rooms)
	}
	_, err = again.RoomsOf(s.ctx, s.carol.Key())
	s.denied(err)
	_, err = again.Room(s.ctx, "lost")
	s.denied(err)
	_, err = again.CreateRoom(s.ctx, "lost", unibus.DefaultPolicy())
	s.denied(err)
	s.fails(again.AcceptLoss(s.ctx, "kept"), unibus.ErrInvalid, "the store has it", remedy.None)
	s.fails(again.AcceptLoss(s.ctx, "never"), unibus.ErrNotFound, "nothing was verified", remedy.None)
	s.must(again.AcceptLoss(s.ctx, s.lost.String()))
	s.must(again.AcceptLoss(s.ctx, "lost")) // twice is as once
	s.lists(again, s.kept)
	_, err = again.Room(s.ctx, "lost")
	s.fails(err, unibus.ErrNotFound, "", remedy.ListRooms)
	anew, err := again.CreateRoom(s.ctx, "lost", unibus.DefaultPolicy())
	s.must(err)
	if r, err := again.Room(s.ctx, "lost"); err != nil || r.ID() != anew.ID() {
		t.Errorf("the subject means %v, %v", r, err)
	}
	// It is told of to who knew the room by a listing alone, too.
	_, err = s.connect(s.carol, "carol").CreateRoom(s.ctx, "lost", unibus.DefaultPolicy())
	s.fails(err, unibus.ErrExists, "lost", remedy.None)
	// By its name it is the lost one that is taken for lost, though another room has that now.
	carol := s.connect(s.carol, "carol")
	s.must(carol.AcceptLoss(s.ctx, "lost"))
	s.lists(carol)
}

// TestListedWithoutLog: a room that the store lists, and of which it has no log, is named to who has never verified it, and
// keeps nobody from the others, nor from a pattern that does not mean it.
func TestListedWithoutLog(t *testing.T) {
	s := newStraight(t)
	kept, lost := s.room("a.kept"), s.room("b.lost")
	carol := s.add("carol")
	s.must(kept.Invite(s.ctx, unibus.RoleMember, carol.Key()))
	s.must(lost.Invite(s.ctx, unibus.RoleMember, carol.Key()))
	s.must(s.alice.Close())
	s.exec("DELETE FROM entries WHERE log = (SELECT id FROM rooms WHERE subject = 'b.lost')")
	s.must(os.Remove(filepath.Join(filepath.Dir(s.path()), "heads."+filepath.Base(s.path()))))
	c := s.connect(carol, "carol")
	rooms, err := c.MyRooms(s.ctx)
	s.fails(err, unibus.ErrIntegrity, "room b.lost: integrity: the store lists it, and has no log of it", remedy.LookAtStore)
	if len(rooms) != 1 || rooms[0].ID() != kept.ID() {
		t.Errorf("with it come %v", rooms)
	}
	all, err := c.AllRooms(s.ctx)
	s.fails(err, unibus.ErrIntegrity, "room b.lost: ", remedy.LookAtStore)
	if len(all) != 1 {
		t.Errorf("with it come %v of all", all)
	}
	if rooms, err := unibus.RoomsMatching(s.ctx, c, "a.*"); err != nil || len(rooms) != 1 {
		t.Errorf("by a pattern come %v, %v", rooms, err)
	}
	if _, err := unibus.RoomsMatching(s.ctx, c, "b.*"); !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("by its pattern: %v", err)
	}
}

// TestLostSubject: who knew a lost room by a listing alone makes no other of its subject; nor of a room that is there, when the
// store has lost which subject it has.
func TestLostSubject(t *testing.T) {
	s := newLosing(t)
	carol := s.connect(s.carol, "carol")
	_, err := carol.CreateRoom(s.ctx, "lost", unibus.DefaultPolicy())
	s.denied(err)
	s.must(carol.Close())
	s.exec("DELETE FROM rooms WHERE subject = 'kept'")
	_, err = s.connect(s.aliceID, "alice").CreateRoom(s.ctx, "kept", unibus.DefaultPolicy())
	s.fails(err, unibus.ErrExists, "kept", remedy.None)
}

// TestLostNamed: who knew a lost room by a listing alone is told of it by its name, too; once a person has taken it for lost, its
// subject may mean another room.
func TestLostNamed(t *testing.T) {
	s := newLosing(t)
	carol := s.connect(s.carol, "carol")
	_, err := carol.Room(s.ctx, "lost")
	s.denied(err)
	again := s.connect(s.aliceID, "alice")
	s.must(again.AcceptLoss(s.ctx, "lost"))
	anew, err := again.CreateRoom(s.ctx, "lost", unibus.DefaultPolicy())
	s.must(err)
	s.must(anew.Invite(s.ctx, unibus.RoleMember, s.carol.Key()))
	_, err = carol.Room(s.ctx, "lost")
	s.fails(err, unibus.ErrIntegrity, "the subject meant the room "+s.lost.String(), remedy.ConfirmSubject)
	s.must(carol.AcceptLoss(s.ctx, "lost"))
	for range 2 {
		if r, err := carol.Room(s.ctx, "lost"); err != nil || r.ID() != anew.ID() {
			t.Errorf("it means %v, %v", r, err)
		}
	}
}

// TestLostToAdmin: an admin of the bus, who was not in a lost room, may take it for lost, and is then free to make another.
func TestLostToAdmin(t *testing.T) {
	s := newLosing(t)
	s.must(s.connect(s.aliceID, "alice").SetUsers(s.ctx, unibus.UserChange{Key: s.bob.Key(), Role: unibus.RoleAdmin})) // who had left it
	bob := s.connect(s.bob, "bob")
	_, err := bob.CreateRoom(s.ctx, "lost", unibus.DefaultPolicy())
	s.denied(err)
	s.must(bob.AcceptLoss(s.ctx, "lost"))
	_, err = bob.CreateRoom(s.ctx, "lost", unibus.DefaultPolicy())
	s.must(err)
}

// TestLostOnceLeft: the subject of a lost room is free for who had left that room.
func TestLostOnceLeft(t *testing.T) {
	s := newLosing(t)
	r, err := s.connect(s.bob, "bob").CreateRoom(s.ctx, "lost", unibus.DefaultPolicy())
	s.must(err)
	if r.ID() == s.lost {
		t.Error("it is the room that was lost")
	}
}

// TestLostMeanwhile: a room that a client has open is missed when the store lists it no more.
func TestLostMeanwhile(t *testing.T) {
	s := newStraight(t)
	r := s.room("room")
	if rooms, err := s.alice.MyRooms(s.ctx); err != nil || len(rooms) != 1 {
		t.Fatalf("the rooms are %v, %v", rooms, err)
	}
	s.exec("DELETE FROM members")
	if rooms, err := s.alice.MyRooms(s.ctx); err != nil || len(rooms) != 1 || rooms[0].ID() != r.ID() {
		t.Errorf("as its log says the rooms are %v, %v", rooms, err)
	}
	s.exec("DELETE FROM rooms")
	if rooms, err := s.alice.AllRooms(s.ctx); err != nil || len(rooms) != 1 || rooms[0].ID() != r.ID() {
		t.Errorf("as its log says all rooms are %v, %v", rooms, err)
	}
	s.exec("DELETE FROM entries WHERE log NOT IN (SELECT log FROM bus)")
	_, err := s.alice.MyRooms(s.ctx)
	s.fails(err, unibus.ErrIntegrity, "the store denies the log", remedy.AcceptLoss)
}

// TestLostAgain: a room that was taken for lost, and came back, is told of when it is lost once more.
func TestLostAgain(t *testing.T) {
	s := newLosing(t)
	s.must(s.as(s.carol, "carol", s.path()).AcceptLoss(s.ctx, "lost"))
	s.lists(s.as(s.carol, "carol", s.path()))
	s.lists(s.as(s.carol, "carol", s.whole), s.lost)
	_, err := s.as(s.carol, "carol", s.path()).MyRooms(s.ctx)
	s.denied(err)
}
