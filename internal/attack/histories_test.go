package attack

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// TestTwoHistories: a store shows two people two entries at one place. Neither can tell from the log
// it is given; the first frame between them tells.
func TestTwoHistories(t *testing.T) {
	over(t, carrying, func(s *scene) {
		for _, c := range []struct {
			name string
			role unibus.Role // of the one who writes on the other history
			kind unibus.NoticeKind
			then func(s *scene, subject string, eve unibus.PublicKey)
		}{
			{"owner", unibus.RoleOwner, "", (*scene).decide}, // proof: the room is frozen
			{"admin", unibus.RoleAdmin, "", (*scene).decide}, // proof
			{"removed", unibus.RoleAdmin, "", (*scene).removeForker},
			{"member", unibus.RoleMember, unibus.NoticeFork, nil}, // an alarm, about that sender only
		} {
			s.part(c.name, func(s *scene) { s.twoHistories(c.name, c.role, c.kind, c.then) })
		}
	})
}

func (s *scene) twoHistories(name string, role unibus.Role, kind unibus.NoticeKind, then func(s *scene, subject string, eve unibus.PublicKey)) {
	subject := "two." + name
	s.must(s.alice.Close()) // the server may be another than in the part before
	s.open(s.alice)
	s.must(s.bob.Close())
	s.open(s.bob)
	alices, bobs := s.share(subject)
	carol, dave, eve := s.add("carol-"+name), s.add("dave-"+name), s.join("eve-"+name)
	s.must(alices.Invite(s.ctx, role, eve.Key()))
	s.must(alices.SetRole(s.ctx, s.bob.Key(), unibus.RoleOwner))
	s.must(bobs.Refresh(s.ctx))
	eves := s.enter(eve, subject)
	// Eve is shown a history with carol in it.
	s.must(alices.Invite(s.ctx, unibus.RoleMember, carol.Key()))
	s.must(eves.Refresh(s.ctx))
	s.send(eves, "seen by whom?")
	s.must(eve.Close())
	s.must(s.alice.Close())
	// Bob is shown one with dave.
	s.forget(alices.ID())
	bobs = s.again(s.bob, subject)
	s.must(bobs.Invite(s.ctx, unibus.RoleMember, dave.Key()))
	s.send(bobs, "by bob")

	got, notices, err := s.stored(bobs, unibus.SubscribeOptions{All: true})
	if !errors.Is(err, unibus.ErrIntegrity) || slices.Contains(got, "seen by whom?") {
		s.Errorf("%q, %v", got, err)
	}
	frozen := bobs.PublishOnce(s.ctx, []byte("more"))
	if kind == "" {
		if !errors.Is(frozen, unibus.ErrIntegrity) || len(got) != 0 {
			s.Errorf("a room with two histories takes messages: %q, %v", got, frozen)
		}
		then(s, subject, eve.Key())
		return
	}
	if frozen != nil || !slices.Equal(got, []string{"by bob"}) {
		s.Errorf("a member froze the room: %q, %v", got, frozen)
	}
	if !slices.ContainsFunc(notices, func(n unibus.Notice) bool { return n.Kind == kind && n.Finding }) {
		s.Errorf("notices %v", notices)
	}
}

// removeForker is an owner's part where two histories are proven: who wrote on both is removed, and with that the room
// goes on, for later processes too, and also when who was removed is invited again.
func (s *scene) removeForker(subject string, eve unibus.PublicKey) {
	s.Helper()
	bobs := s.again(s.bob, subject)
	s.must(bobs.Kick(s.ctx, eve))
	for _, step := range []string{"removed", "invited again"} {
		if step == "invited again" {
			s.must(bobs.Invite(s.ctx, unibus.RoleMember, eve))
		}
		bobs = s.again(s.bob, subject)
		if err := bobs.PublishOnce(s.ctx, []byte(step)); err != nil {
			s.Errorf("%s: bob writes: %v", step, err)
		}
		got, _, _ := s.stored(bobs, unibus.SubscribeOptions{All: true})
		if !slices.Contains(got, step) || slices.Contains(got, "seen by whom?") {
			s.Errorf("%s: bob reads %q", step, got)
		}
	}
}

// decide is a person's part where two histories are proven: every way of reading and writing is closed to later
// processes too, until the one that was verified is accepted.
func (s *scene) decide(subject string, _ unibus.PublicKey) {
	s.Helper()
	bobs := s.again(s.bob, subject)
	for _, o := range []unibus.SubscribeOptions{{}, {All: true}, {Last: 1}, {Since: time.Now().Add(-time.Hour)}} {
		if _, _, err := s.stored(bobs, o); !errors.Is(err, unibus.ErrIntegrity) {
			s.Errorf("the next process reads with %+v: %v", o, err)
		}
	}
	if err := bobs.PublishOnce(s.ctx, []byte("more")); !errors.Is(err, unibus.ErrIntegrity) {
		s.Errorf("the next process writes: %v", err)
	}
	if _, err := bobs.Verify(s.ctx, nil); !errors.Is(err, unibus.ErrIntegrity) {
		s.Errorf("the next process verifies: %v", err)
	}
	log, err := bobs.Log(s.ctx)
	s.must(err)
	for _, hash := range []string{"", "12345678", log[0].Hash} {
		if err := bobs.Accept(s.ctx, unibus.AcceptHistory(hash)); err == nil {
			s.Errorf("the history %q is accepted", hash)
		}
	}
	s.must(bobs.Accept(s.ctx, unibus.AcceptHistory(log[len(log)-1].Hash)))
	for range 2 {
		got, notices, err := s.stored(bobs, unibus.SubscribeOptions{All: true})
		if err != nil || !slices.Contains(got, "by bob") || slices.Contains(got, "seen by whom?") {
			s.Errorf("accepted, and read %q, %v, %v", got, notices, err)
		}
		s.must(bobs.PublishOnce(s.ctx, []byte("more")))
		bobs = s.again(s.bob, subject)
	}
}

// TestShortLog: a newcomer is given a log without its end, where someone who may not be there any more
// still is. The first frame by someone who knows better names an entry it does not have.
func TestShortLog(t *testing.T) {
	over(t, carrying, func(s *scene) {
		alices, bobs := s.share("short")
		carol := s.add("carol")
		s.must(alices.Invite(s.ctx, unibus.RoleMember, carol.Key()))
		s.must(bobs.Refresh(s.ctx))
		s.send(bobs, "from before")
		s.must(alices.Invite(s.ctx, unibus.RoleReader, s.add("dave").Key()))
		s.send(alices, "from ahead")
		s.must(s.alice.Close())
		s.must(s.bob.Close())
		s.forget(alices.ID())
		_, carols := s.fresh(carol, "short")
		got, notices, err := s.stored(carols, unibus.SubscribeOptions{All: true})
		if !errors.Is(err, unibus.ErrIntegrity) || !slices.Equal(got, []string{"from before"}) {
			s.Errorf("%q, %v", got, err)
		}
		if len(notices) == 0 || notices[0].Kind != unibus.NoticeWithheld {
			s.Errorf("notices %v", notices)
		}
	})
}

// TestLoserServed: an entry that lost its place is shown to a newcomer instead of the one that won. Whoever signed
// the winner, or read what names it, refuses the other.
func TestLoserServed(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, bobs := s.share("lost")
		s.must(alices.SetRole(s.ctx, s.bob.Key(), unibus.RoleAdmin))
		s.must(bobs.Refresh(s.ctx))
		carol := s.add("carol")
		s.must(alices.Invite(s.ctx, unibus.RoleMember, carol.Key())) // the winner, as alice and her readers know
		if s.carries {
			s.send(alices, "by alice")
		}
		s.must(s.alice.Close())
		s.must(s.bob.Close())
		s.forget(alices.ID())
		bobs = s.enter(s.open(s.bob), "lost")
		s.must(bobs.Invite(s.ctx, unibus.RoleMember, carol.Key())) // the loser, served
		_, carols := s.fresh(carol, "lost")
		if s.carries {
			got, _, err := s.stored(carols, unibus.SubscribeOptions{All: true})
			if len(got) != 0 || !errors.Is(err, unibus.ErrIntegrity) {
				s.Errorf("%q, %v", got, err)
			}
		}
		if _, err := s.open(s.alice).Room(s.ctx, "lost"); !errors.Is(err, unibus.ErrIntegrity) {
			s.Errorf("alice takes another entry for the one she signed: %v", err)
		}
	})
}

// TestTruncatedLog: a store that forgets the end of a log, a room's or the bus's own, is refused by whoever has
// verified it.
func TestTruncatedLog(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, bobs := s.share("cut")
		s.must(alices.Invite(s.ctx, unibus.RoleReader, s.add("carol").Key()))
		s.must(bobs.Refresh(s.ctx))
		s.must(s.alice.Close())
		s.must(s.bob.Close())
		s.forget(alices.ID())
		if _, err := s.open(s.bob).Room(s.ctx, "cut"); !errors.Is(err, unibus.ErrIntegrity) {
			s.Errorf("the room's log is taken: %v", err)
		}
		s.must(s.bob.Close())
		s.forget(s.bob.Bus())
		if _, err := s.connect(s.bob); !errors.Is(err, unibus.ErrIntegrity) {
			s.Errorf("the bus log is taken: %v", err)
		}
	})
}

// TestMemberInViews: someone whom the views list in a room, and the log does not, is nobody there.
func TestMemberInViews(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, _ := s.share("views")
		mallory := s.join("mallory")
		s.backend(func(ctx context.Context, v store.Backend) {
			state, err := store.Load(ctx, v, alices.ID())
			s.must(err)
			head := state.Head
			entry, err := state.Next(s.aliceID, &ledger.Invite{Members: []ledger.NewMember{{Key: mallory.Key(), Role: ledger.RoleAdmin}}}, time.Now())
			s.must(err)
			_, err = storetest.Advance(state, entry)
			s.must(err)
			state.Head = head
			_, err = v.Rebuild(ctx, state)
			s.must(err)
			members, err := v.Members(ctx, alices.ID())
			s.must(err)
			if len(members) != 3 {
				s.Fatalf("the views list %v", members)
			}
		})
		for _, p := range []*person{s.alice, s.bob} {
			r := s.again(p, "views")
			if slices.ContainsFunc(r.Members(), func(m unibus.Member) bool { return m.Key == mallory.Key() }) {
				s.Errorf("%s sees mallory in the room", p.state)
			}
		}
		r := s.enter(s.alice, "views")
		s.must(r.Rekey(s.ctx))
		for _, k := range s.copies(r.ID()) {
			if k.Endpoint == mallory.Key() {
				s.Errorf("epoch %d is sealed to mallory", k.Epoch)
			}
		}
		if m, err := mallory.Room(s.ctx, "views"); err == nil {
			if held, err := m.HoldsKey(s.ctx); held {
				s.Errorf("mallory holds the key, %v", err)
			}
			if err := m.Invite(s.ctx, unibus.RoleMember, s.add("friend").Key()); err == nil {
				s.Error("mallory invites")
			}
		}
	})
}

// TestRacingAdmins: two admins who rekey at once both end in one history, and both can read.
func TestRacingAdmins(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, bobs := s.share("race")
		s.must(alices.SetRole(s.ctx, s.bob.Key(), unibus.RoleAdmin))
		errs := make(chan error, 2)
		for _, r := range []*unibus.Room{alices, bobs} {
			go func() {
				for range 5 {
					if err := r.Rekey(s.ctx); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		s.must(<-errs)
		s.must(<-errs)
		for _, r := range []*unibus.Room{alices, bobs} {
			s.must(r.Refresh(s.ctx))
			if held, err := r.HoldsKey(s.ctx); !held || err != nil || r.Info().Epoch != 11 {
				s.Errorf("epoch %d, held %v, %v", r.Info().Epoch, held, err)
			}
		}
		if !s.carries {
			return
		}
		s.send(alices, "after")
		got, _, err := s.stored(bobs, unibus.SubscribeOptions{All: true})
		if err != nil || !slices.Equal(got, []string{"after"}) {
			s.Errorf("%q, %v", got, err)
		}
	})
}
