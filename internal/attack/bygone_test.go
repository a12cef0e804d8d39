package attack

import (
	"errors"
	"testing"

	"github.com/unibus/unibus"
)

// TestLeftBeside: a bus is restored from a backup beside messages that are newer than it. What was sealed since fits
// nothing any more, and is told as what it may be, until an owner says that the room began anew; but of what is made
// after that everything is.
func TestLeftBeside(t *testing.T) {
	s := served(t)
	alices, bobs := s.share("beside")
	s.send(alices, "old")
	room := alices.ID()
	s.must(alices.Rekey(s.ctx))
	s.must(bobs.Refresh(s.ctx))
	s.send(alices, "by an owner, lost")
	s.send(bobs, "by a member, lost")
	s.must(s.alice.Close())
	s.must(s.bob.Close())
	s.forget(room)

	alice, alices := s.fresh(s.aliceID, "beside")
	s.must(alices.Rekey(s.ctx)) // another key, in the same place
	read := func(when string, wrong bool, want ...string) {
		s.Helper()
		_, r := s.fresh(s.bob.id, "beside")
		got, notices, err := s.stored(r, unibus.SubscribeOptions{All: true})
		if wrong != errors.Is(err, unibus.ErrIntegrity) || !wrong && err != nil || len(got) != len(want) {
			s.Errorf("%s: %q, %v, %v", when, got, notices, err)
		}
	}
	read("restored", true, "old")
	s.must(alices.SetPolicy(s.ctx, func(p *unibus.PolicyChange) { p.Anew = true }))
	read("anew", false, "old")
	s.send(alices, "new")
	read("goes on", false, "old", "new")
	s.forget(room) // and once more: what is sealed after that is no leftover
	s.must(alice.Close())
	read("restored again", true, "old")
}
