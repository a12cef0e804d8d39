package unibus_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// TestLostRoom: a room that was verified, and of which the store has nothing any more, is told of by whoever lists rooms,
// names it or makes another of its subject, until a person takes it for lost; one that was left is nobody's loss.
func TestLostRoom(t *testing.T) {
	s := newStraight(t)
	bob := s.connect(s.add("bob"), "bob")
	kept, lost := s.room("kept"), s.room("lost")
	s.must(lost.Invite(s.ctx, unibus.RoleMember, bob.Key()))
	if _, err := bob.MyRooms(s.ctx); err != nil {
		t.Fatal(err)
	}
	theirs, err := bob.Room(s.ctx, "lost")
	s.must(err)
	s.must(theirs.Leave(s.ctx))
	s.must(s.alice.Close())
	s.must(bob.Close())
	// As of a store that was restored from before the room was made.
	s.exec("DELETE FROM entries WHERE log = (SELECT id FROM rooms WHERE subject = 'lost')")
	s.exec("DELETE FROM members WHERE room = (SELECT id FROM rooms WHERE subject = 'lost')")
	s.exec("DELETE FROM rooms WHERE subject = 'lost'")
	s.must(os.Remove(filepath.Join(filepath.Dir(s.path()), "heads."+filepath.Base(s.path()))))

	again := s.connect(s.aliceID, "alice")
	denied := func(err error) {
		t.Helper()
		s.fails(err, unibus.ErrIntegrity, "the store denies the log that was verified up to entry 2", remedy.AcceptLoss)
	}
	_, err = again.MyRooms(s.ctx)
	denied(err)
	_, err = again.Room(s.ctx, "lost")
	denied(err)
	_, err = again.CreateRoom(s.ctx, "lost", unibus.DefaultPolicy())
	denied(err)
	s.fails(again.AcceptLoss(s.ctx, "kept"), unibus.ErrInvalid, "the store has it", remedy.None)
	s.fails(again.AcceptLoss(s.ctx, "never"), unibus.ErrNotFound, "nothing was verified", remedy.None)
	s.must(again.AcceptLoss(s.ctx, "lost"))
	s.must(again.AcceptLoss(s.ctx, lost.ID().String())) // twice is as once
	rooms, err := again.MyRooms(s.ctx)
	s.must(err)
	if len(rooms) != 1 || rooms[0].ID() != kept.ID() {
		t.Errorf("the rooms are %v", rooms)
	}
	_, err = again.Room(s.ctx, "lost")
	s.fails(err, unibus.ErrNotFound, "", remedy.ListRooms)
	anew, err := again.CreateRoom(s.ctx, "lost", unibus.DefaultPolicy())
	s.must(err)
	if r, err := again.Room(s.ctx, "lost"); err != nil || r.ID() != anew.ID() {
		t.Errorf("the subject means %v, %v", r, err)
	}
}
