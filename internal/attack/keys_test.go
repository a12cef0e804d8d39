package attack

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// TestKeySubstitution: other sealed bytes than the one sealed for the reader open nothing.
func TestKeySubstitution(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, _ := s.share("keys")
		other, _ := s.share("other")
		s.must(alices.Rekey(s.ctx))
		s.say(alices, "secret")
		s.must(s.alice.Close())
		s.must(s.bob.Close())
		room, bob := alices.ID(), s.bob.id.Key()
		kept := s.copies(room)
		find := func(of []store.SealedCopy, epoch uint32, its bool) []byte {
			for _, k := range of {
				if k.Epoch == epoch && (k.Endpoint == bob) == its {
					return k.Sealed
				}
			}
			s.Fatalf("no copy of epoch %d", epoch)
			return nil
		}
		for name, lie := range map[string][]byte{
			"another room's":   find(s.copies(other.ID()), 1, true),
			"another epoch's":  find(kept, 1, true),
			"another member's": find(kept, 2, false),
			"garbage":          garbage(),
			"a short one":      {0},
		} {
			s.part(name, func(s *scene) {
				s.replace(room, func(k store.SealedCopy) []byte {
					if k.Epoch == 2 && k.Endpoint == bob {
						return lie
					}
					return nil
				})
				p, bobs := s.fresh(s.bob.id, "keys")
				if held, err := bobs.HoldsKey(s.ctx); held || !errors.Is(err, unibus.ErrIntegrity) {
					s.Errorf("holds the key: %v, %v", held, err)
				}
				if s.carries {
					got, _, err := s.stored(bobs, unibus.SubscribeOptions{All: true})
					if len(got) != 0 || !errors.Is(err, unibus.ErrIntegrity) {
						s.Errorf("%q, %v", got, err)
					}
				}
				s.must(p.Close())
			})
		}
		for _, k := range kept {
			s.overwrite(k, k.Sealed)
		}
		s.reads(s.bob.id, "keys", "secret") // with its own again
	})
}

// TestCardSubstitution: a key is sealed to nobody's card but the one its owner signed.
func TestCardSubstitution(t *testing.T) {
	over(t, ways, func(s *scene) {
		s.room("cards", unibus.DefaultPolicy())
		mallory := s.join("mallory")
		card, err := mallory.id.Card()
		s.must(err)
		s.must(s.bob.Close())
		s.backend(func(ctx context.Context, v store.Backend) {
			s.must(v.PutCards(ctx, store.Card{Endpoint: s.bob.id.Key(), Statement: card}))
		})
		alices := s.again(s.alice, "cards")
		if err := alices.Invite(s.ctx, unibus.RoleMember, s.bob.id.Key()); !errors.Is(err, unibus.ErrIntegrity) {
			s.Errorf("invited with another's card: %v", err)
		}
		if n := len(alices.Members()); n != 1 {
			s.Errorf("%d members", n)
		}
	})
}

// TestCommitmentMismatch: an admin hands a member another key than the one that the log commits to, sealed to it as
// it should be. It is not taken, and the fault names who sealed it.
func TestCommitmentMismatch(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, _, mallory, m := s.rogueAdmin("mismatch")
		key, another := crypto.RoomKey{1}, crypto.RoomKey{2}
		s.must(m.put(2, key.Commit(2), m.seal(key, 2, mallory), mallory.Key()))
		s.must(m.put(2, key.Commit(2), m.seal(another, 2, s.bob.id), s.bob.Key()))
		s.must(m.append(&ledger.Rekey{Epoch: 2, Commit: key.Commit(2), Previous: none}))
		p, r := s.fresh(s.bob.id, "mismatch")
		if held, err := r.HoldsKey(s.ctx); held || !errors.Is(err, unibus.ErrIntegrity) || !strings.Contains(err.Error(), "mallory") {
			s.Errorf("holds the key: %v, %v", held, err)
		}
		if s.carries {
			if err := r.PublishOnce(s.ctx, []byte("x")); !errors.Is(err, unibus.ErrIntegrity) {
				s.Errorf("publishes: %v", err)
			}
		}
		s.must(p.Close())
		s.must(alices.Refresh(s.ctx))
		s.must(alices.Kick(s.ctx, mallory.Key()))
		s.say(alices, "one")
		s.reads(s.bob.id, "mismatch", "one")
	})
}

// TestOverwrittenCopy: an admin writes zeros for everyone, before they have asked for their own. All read on; the
// owner removes it and rekeys.
func TestOverwrittenCopy(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, bobs, mallory, m := s.rogueAdmin("zeros")
		carol := s.add("carol")
		commit := m.log().Room.Epoch().Commit
		s.must(m.put(1, commit, zeros, s.alice.Key(), s.bob.Key(), carol.Key()))
		if err := m.put(1, commit, garbage(), s.alice.Key()); !errors.Is(err, store.ErrExists) {
			s.Errorf("a copy is replaced: %v", err)
		}
		s.say(alices, "one")
		s.must(alices.Invite(s.ctx, unibus.RoleMember, carol.Key())) // whose copy by mallory is there already
		for _, id := range []*unibus.Identity{s.alice.id, s.bob.id, carol} {
			s.reads(id, "zeros", "one")
		}
		_, again := s.fresh(s.alice.id, "zeros")
		s.must(again.Kick(s.ctx, mallory.Key()))
		s.say(again, "two")
		s.must(bobs.Refresh(s.ctx))
		s.say(bobs, "three")
		for _, id := range []*unibus.Identity{s.alice.id, s.bob.id, carol} {
			s.reads(id, "zeros", "one", "two", "three")
		}
	})
}

// TestNothingOpens: when no copy opens that a member was given, the fault names who made them.
func TestNothingOpens(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, _, mallory, m := s.rogueAdmin("nothing")
		s.say(alices, "one")
		key := crypto.RoomKey{1}
		s.must(m.put(2, key.Commit(2), m.seal(key, 2, mallory), mallory.Key()))
		s.must(m.put(2, key.Commit(2), zeros, s.bob.Key()))
		s.must(m.append(&ledger.Rekey{Epoch: 2, Commit: key.Commit(2), Previous: none}))
		p, r := s.fresh(s.bob.id, "nothing")
		if held, err := r.HoldsKey(s.ctx); held || !errors.Is(err, unibus.ErrIntegrity) || !strings.Contains(err.Error(), "mallory") {
			s.Errorf("holds the key: %v, %v", held, err)
		}
		if !s.carries {
			return
		}
		if err := r.PublishOnce(s.ctx, []byte("x")); !errors.Is(err, unibus.ErrIntegrity) {
			s.Errorf("publishes: %v", err)
		}
		s.must(p.Close())
		s.reads(s.bob.id, "nothing", "one") // by its copy of the epoch before
	})
}

// TestOwnCopy: whoever opened what another sealed keeps a copy of its own, and needs no other any more.
func TestOwnCopy(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, bobs := s.share("own")
		s.must(alices.Rekey(s.ctx))
		s.say(alices, "one")
		b := s.rogue(s.bob.id, alices.ID())
		if n := len(b.own(2)); n != 1 {
			s.Errorf("before, bob has %d copies", n)
		}
		s.must(bobs.Refresh(s.ctx))
		if held, err := bobs.HoldsKey(s.ctx); !held || err != nil {
			s.Fatalf("holds the key: %v, %v", held, err)
		}
		copies := b.own(0)
		if len(copies) != 2 || copies[0].Sealer != s.bob.Key() || copies[1].Sealer != s.alice.Key() {
			s.Fatalf("afterwards bob has %d copies", len(copies))
		}
		if key, err := s.bob.id.OpenKey(copies[0].Sealed, alices.ID(), 2, b.log().Room.Epoch().Commit); err != nil || key == (crypto.RoomKey{}) {
			s.Errorf("its own does not open: %v", err)
		}
		s.must(s.alice.Close())
		s.must(s.bob.Close())
		s.replace(alices.ID(), func(k store.SealedCopy) []byte {
			if k.Sealer == k.Endpoint {
				return nil
			}
			return zeros
		})
		s.reads(s.bob.id, "own", "one")
		s.replace(alices.ID(), func(store.SealedCopy) []byte { return zeros })
		s.fault(s.bob.id, "own", "bob, alice")
	})
}

// TestBrokenChain: an admin begins an epoch with a key before that opens nothing, or none. Those who had their own
// copies of the epoch before read on; to those who come later it is told whose fault it is.
func TestBrokenChain(t *testing.T) {
	for name, c := range map[string]struct {
		previous []byte
		who      string
	}{
		"of rubbish":      {bytes.Repeat([]byte{9}, crypto.PreviousSize), "mallory"},
		"said to be none": {none, "alice"}, // as one writes who was given none by the author of the epoch before
	} {
		t.Run(name, func(t *testing.T) {
			over(t, carrying, func(s *scene) {
				alices, _, mallory, m := s.rogueAdmin("chain")
				carol := s.add("carol")
				s.send(alices, "one")
				m.rekey(c.previous, mallory, s.alice.id, s.bob.id)
				s.must(alices.Refresh(s.ctx))
				s.send(alices, "two")
				s.reads(s.bob.id, "chain", "one", "two")
				s.must(alices.Kick(s.ctx, mallory.Key()))
				s.must(alices.Invite(s.ctx, unibus.RoleMember, carol.Key()))
				s.send(alices, "three")
				for _, id := range []*unibus.Identity{s.alice.id, s.bob.id} {
					s.reads(id, "chain", "one", "two", "three")
				}
				s.fault(carol, "chain", c.who)
			})
		})
	}
}

// TestLeftOut: an admin begins an epoch and hands the owner nothing, or nothing that opens. The owner removes it and
// rekeys all the same, and what was written before and after that epoch is read by everyone who was there.
func TestLeftOut(t *testing.T) {
	for _, handed := range []string{"nothing", "garbage"} {
		t.Run(handed, func(t *testing.T) {
			over(t, carrying, func(s *scene) {
				alices, bobs, mallory, m := s.rogueAdmin("out")
				carol := s.add("carol")
				s.send(alices, "one")
				m.rekey(none, mallory, s.bob.id)
				if handed == "garbage" {
					s.must(m.put(2, m.log().Room.Epoch().Commit, zeros, s.alice.Key()))
				}
				s.must(bobs.Refresh(s.ctx))
				_, owners := s.fresh(s.alice.id, "out")
				if err := owners.PublishOnce(s.ctx, []byte("x")); err == nil {
					s.Error("the owner publishes in an epoch whose key it does not have")
				}
				s.must(owners.Kick(s.ctx, mallory.Key()))
				s.send(owners, "two")
				s.reads(s.alice.id, "out", "one", "two")
				s.reads(s.bob.id, "out", "one", "two")
				if e := s.rogue(s.alice.id, m.room).log().Room.Epoch(); e.Number != 3 || !slices.Equal(e.Previous, none) {
					s.Errorf("epoch %d says of the key before %x", e.Number, e.Previous)
				}
				// Who comes later is told who is to blame that "one" cannot be read.
				s.must(owners.Invite(s.ctx, unibus.RoleMember, carol.Key()))
				s.fault(carol, "out", "mallory")
			})
		})
	}
}
