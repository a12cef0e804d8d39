package attack

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// told checks that every way of reading a part of what a room has stored ends with a finding of a kind: each looks at
// frames before that part, too.
func (s *scene) told(id *unibus.Identity, subject string, since time.Time, kind unibus.NoticeKind) {
	s.Helper()
	for way, o := range map[string]unibus.SubscribeOptions{"all": {All: true}, "last": {Last: 2}, "since": {Since: since}} {
		_, r := s.fresh(id, subject)
		got, notices, err := s.stored(r, o)
		if !errors.Is(err, unibus.ErrIntegrity) || !slices.ContainsFunc(notices, func(n unibus.Notice) bool { return n.Kind == kind && n.Finding }) {
			s.Errorf("%s: %q, %v, %v", way, got, notices, err)
		}
	}
}

// several are texts, of which more than one look back takes in.
func several(what string) (texts []string) {
	for n := range 40 {
		texts = append(texts, fmt.Sprint(what, " ", n))
	}
	return texts
}

// TestWithheldKeyBefore: a key that is withheld is told of, also to a reader who met the first frames that need it
// before those that it wants, or in a try that did not reach back far enough.
func TestWithheldKeyBefore(t *testing.T) {
	s := served(t)
	alices, _ := s.share("withheld")
	s.send(alices, "old", "older")
	s.must(alices.Rekey(s.ctx))
	s.send(alices, several("before")...)
	since := time.Now()
	s.send(alices, several("after")...)
	bob := s.bob.Key()
	s.exec(`DELETE FROM room_keys WHERE epoch = 2 AND endpoint = ?`, bob[:])
	s.told(s.bob.id, "withheld", since, unibus.NoticeKey)

	_, r := s.fresh(s.bob.id, "withheld") // what was settled says nothing of what is stored later
	s.must(r.Accept(s.ctx, unibus.AcceptPlace(3+20)))
	if _, notices, err := s.stored(r, unibus.SubscribeOptions{All: true}); !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("%v, %v", notices, err)
	}
}

// TestAlarmBefore: that nothing of a sender's is read any more is told in the same way.
func TestAlarmBefore(t *testing.T) {
	s := served(t)
	alices, _ := s.share("alarm")
	s.send(alices, "old", "older")
	b := s.rogue(s.bob.id, alices.ID())
	key := b.key(1)
	another := *b.log()
	another.Head = ledger.Head{Seq: another.Head.Seq, Hash: crypto.Hash{1}} // that no entry has
	write := func(texts []string) {
		for _, text := range texts {
			_, err := s.js.Publish(s.ctx, bus.StoredSubject(alices.ID(), s.bob.Key()), b.frame(&another, 1, key, text))
			s.must(err)
		}
	}
	write(several("before"))
	since := time.Now()
	write(several("after"))
	s.told(s.aliceID, "alarm", since, unibus.NoticeFork)
}

// TestAlarmIsOver: a member who once wrote on another history, as somebody does who was shown one, is read again from
// where a person takes the room for what it is, and after it was removed and invited again.
func TestAlarmIsOver(t *testing.T) {
	s := served(t)
	for _, way := range []string{"accepted", "invited again"} {
		s.part(way, func(s *scene) {
			subject := "over." + way[:7]
			s.must(s.alice.Close())
			s.open(s.alice)
			s.must(s.bob.Close())
			s.open(s.bob)
			alices, bobs := s.share(subject)
			b := s.rogue(s.bob.id, alices.ID())
			another := *b.log()
			another.Head = ledger.Head{Seq: another.Head.Seq, Hash: crypto.Hash{1}} // that no entry has
			_, err := s.js.Publish(s.ctx, bus.StoredSubject(alices.ID(), s.bob.Key()), b.frame(&another, 1, b.key(1), "elsewhere"))
			s.must(err)
			if way == "accepted" {
				s.must(alices.Accept(s.ctx, unibus.AcceptPlace(1)))
			} else {
				s.must(alices.Kick(s.ctx, s.bob.Key()))
				s.must(alices.Invite(s.ctx, unibus.RoleMember, s.bob.Key()))
				s.must(bobs.Refresh(s.ctx))
			}
			s.must(bobs.PublishOnce(s.ctx, []byte("back")))
			alices = s.again(s.alice, subject)
			got, notices, err := s.stored(alices, unibus.SubscribeOptions{All: true})
			if !slices.Equal(got, []string{"back"}) || (err == nil) != (way == "accepted") {
				s.Errorf("%q, %v, %v", got, notices, err)
			}
		})
	}
}

// TestAheadForGood: a frame of entries that the log does not reach, of a key that nobody has, may be anything. In a
// stored room only its sender, the server or a damaged disk can have put it there: reading does not end as if well.
func TestAheadForGood(t *testing.T) {
	s := served(t)
	alices, bobs := s.share("ahead")
	s.send(alices, "before")
	b := s.rogue(s.bob.id, alices.ID())
	ahead := *b.log()
	ahead.Head = ledger.Head{Seq: ahead.Head.Seq + 1, Hash: crypto.Hash{1}}
	_, err := s.js.Publish(s.ctx, bus.StoredSubject(alices.ID(), s.bob.Key()), b.frame(&ahead, 2, crypto.RoomKey{7}, "of an epoch to come"))
	s.must(err)
	s.send(alices, "after")
	for way, o := range map[string]unibus.SubscribeOptions{"all": {All: true}, "last": {Last: 4}, "since": {Since: time.Now().Add(-time.Hour)}} {
		got, notices, err := s.stored(alices, o)
		found := slices.ContainsFunc(notices, func(n unibus.Notice) bool { return n.Kind == unibus.NoticeAhead && n.Finding && n.Sender == "bob" })
		if !slices.Equal(got, []string{"before", "after"}) || !found || !errors.Is(err, unibus.ErrIntegrity) {
			t.Errorf("%s: %q, %v, %v", way, got, notices, err)
		}
	}
	s.must(alices.Accept(s.ctx, unibus.AcceptPlace(3)))
	s.must(bobs.PublishOnce(s.ctx, []byte("on")))
	if got, notices, err := s.stored(alices, unibus.SubscribeOptions{All: true}); err != nil || len(got) != 3 {
		t.Errorf("accepted, and %q, %v, %v", got, notices, err)
	}
}
