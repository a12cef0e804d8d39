package unibus_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/remedy"
)

// roomBegun makes rooms until the beginning of one's id is as wanted, of 6 characters.
func (s *straight) roomBegun(wanted func(begun string) bool) (r *unibus.Room, begun string) {
	s.Helper()
	for n := 0; ; n++ {
		r := s.room(fmt.Sprintf("made.%d", n))
		if begun := r.ID().String()[:6]; wanted(begun) {
			return r, begun
		}
		s.must(r.Archive(s.ctx))
	}
}

// word reports whether the beginning of an id may be a word.
func word(begun string) bool { return !strings.ContainsAny(begun, "234567") }

// TestSubjectLikeAnId: a name that is the subject of one room and begins the id of another is neither, whoever was there first,
// and in whatever case it is written; all of an id names the room.
func TestSubjectLikeAnId(t *testing.T) {
	s := newStraight(t)
	pay, begun := s.roomBegun(func(begun string) bool { return !word(begun) })
	bobID := s.add("bob")
	bob, mallory := s.connect(bobID, "bob"), s.connect(s.add("mallory"), "mallory")
	s.must(pay.Invite(s.ctx, unibus.RoleMember, bob.Key()))
	if r, err := bob.Room(s.ctx, begun); err != nil || r.ID() != pay.ID() {
		t.Fatalf("%s is %v, %v", begun, r, err)
	}
	for _, subject := range []string{begun, strings.ToUpper(begun)} {
		like, err := mallory.CreateRoom(s.ctx, subject, unibus.DefaultPolicy())
		s.must(err)
		s.must(like.Invite(s.ctx, unibus.RoleMember, bob.Key(), s.alice.Key()))
		says := fmt.Sprintf("it is the subject of the room %s, and the id of the room %s begins so", like.ID(), pay.ID())
		for _, c := range []*unibus.Client{s.alice, bob, s.connect(bobID, "bob elsewhere "+subject)} {
			_, err := c.Room(s.ctx, subject)
			s.fails(err, unibus.ErrInvalid, says, remedy.None)
			if _, err := c.ListMyRooms(s.ctx); err != nil { // which verifies both, and pins the subject
				t.Fatal(err)
			}
			_, err = c.Room(s.ctx, subject)
			s.fails(err, unibus.ErrInvalid, says, remedy.None)
			for _, id := range []unibus.ID{pay.ID(), like.ID()} {
				if r, err := c.Room(s.ctx, id.String()); err != nil || r.ID() != id {
					t.Errorf("%s is %v, %v", id, r, err)
				}
			}
		}
		// Whoever is not in the other room means the one that there is for them.
		if r, err := mallory.Room(s.ctx, subject); err != nil || r.ID() != like.ID() {
			t.Errorf("to who made it %s is %v, %v", subject, r, err)
		}
	}
	_, err := mallory.CreateRoom(s.ctx, pay.ID().String(), unibus.DefaultPolicy())
	s.fails(err, unibus.ErrInvalid, "must not look like an id", remedy.None)
}

// TestWordNamesNoOthersRoom: a word that begins the id of a room names it to who has made it alone: others may look for a room
// that has it for its subject, and that they are not in.
func TestWordNamesNoOthersRoom(t *testing.T) {
	s := newStraight(t)
	theirs, begun := s.roomBegun(word)
	bob := s.connect(s.add("bob"), "bob")
	s.must(theirs.Invite(s.ctx, unibus.RoleMember, bob.Key()))
	if r, err := s.alice.Room(s.ctx, strings.ToUpper(begun)); err != nil || r.ID() != theirs.ID() {
		t.Errorf("to who made it %s is %v, %v", begun, r, err)
	}
	_, err := bob.Room(s.ctx, begun)
	s.fails(err, unibus.ErrNotFound, begun, remedy.ListRooms)
	longer := theirs.ID().String()
	for n := 6; n < 32; n++ {
		r, err := bob.Room(s.ctx, longer[:n])
		if named := n >= 12 || !word(longer[:n]); named != (err == nil && r.ID() == theirs.ID()) {
			t.Errorf("%s is %v, %v", longer[:n], r, err)
		}
	}
	// As a subject it means the room that has it, also to who is in the other.
	carol := s.connect(s.add("carol"), "carol")
	like, err := carol.CreateRoom(s.ctx, begun, unibus.DefaultPolicy())
	s.must(err)
	s.must(like.Invite(s.ctx, unibus.RoleMember, bob.Key(), s.alice.Key()))
	if r, err := bob.Room(s.ctx, begun); err != nil || r.ID() != like.ID() {
		t.Errorf("%s is %v, %v", begun, r, err)
	}
	_, err = s.alice.Room(s.ctx, begun)
	s.fails(err, unibus.ErrInvalid, "begins so", remedy.None)
}
