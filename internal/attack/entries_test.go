package attack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	js "github.com/nats-io/nats.go/jetstream"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/jetstream"
	"github.com/unibus/unibus/internal/store/storetest"
)

// plant puts an entry behind the last of a log, whatever the rules say of it.
func (s *site) plant(log unibus.ID, seq uint64, statement []byte) {
	s.Helper()
	if s.kind == "jetstream" {
		_, err := s.js.Publish(s.ctx, fmt.Sprintf("$KV.%s.%s.%d", jetstream.Buckets[0], log, seq), statement)
		s.must(err)
		return
	}
	s.exec(`INSERT INTO entries (log, seq, statement) VALUES (?, ?, ?)`, log[:], seq, statement)
}

// forge signs an entry by the rules of a log that is not quite the real one.
func (s *site) forge(of *ledger.State, by *unibus.Identity, body ledger.Body, change func(fake *ledger.State)) []byte {
	s.Helper()
	snapshot, err := of.Snapshot()
	s.must(err)
	fake, err := ledger.LoadSnapshot(snapshot)
	s.must(err)
	change(fake)
	entry, err := fake.Next(by, body, time.Now())
	s.must(err)
	return entry
}

// falseEntries are such as the rules forbid behind the last of a room's log; foreign is the log of another room.
func (s *scene) falseEntries(real, foreign *ledger.State, mallory unibus.PublicKey) map[string][]byte {
	s.Helper()
	invite := &ledger.Invite{Members: []ledger.NewMember{{Key: mallory, Role: ledger.RoleAdmin}}}
	open := real.Room.Policy
	open.Encryption = ledger.EncryptionNone
	signed := s.forge(real, s.aliceID, invite, func(*ledger.State) {})
	altered := slices.Clone(signed)
	altered[len(altered)-1] ^= 1
	return map[string][]byte{
		"by a member": s.forge(real, s.bob.id, invite, func(fake *ledger.State) {
			_, err := storetest.Advance(fake, s.forge(real, s.aliceID, &ledger.MemberRole{Key: s.bob.id.Key(), Role: ledger.RoleOwner}, func(*ledger.State) {}))
			s.must(err)
			fake.Head = real.Head
		}),
		"after another entry": s.forge(real, s.aliceID, invite, func(fake *ledger.State) { fake.Head.Hash[0] ^= 1 }),
		"at another place":    s.forge(real, s.aliceID, invite, func(fake *ledger.State) { fake.Head.Seq++ }),
		"of another room":     s.forge(foreign, s.aliceID, invite, func(fake *ledger.State) { fake.Head = real.Head }),
		"a policy without encryption": s.forge(real, s.aliceID, &ledger.SetPolicy{Policy: open}, func(fake *ledger.State) {
			fake.Room.Policy.Encryption = ledger.EncryptionNone
		}),
		"altered":          altered,
		"without its end":  signed[:len(signed)-1],
		"with more behind": append(slices.Clone(signed), 0),
	}
}

// TestFalseEntries: a store shows an entry that the rules forbid, behind one that everyone has verified. Nobody
// follows it: it is a fault of the log, and a service that meets it first has nothing of that room to give.
func TestFalseEntries(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, _ := s.share("false")
		other, _ := s.share("another")
		mallory := s.add("mallory")
		var real, foreign *ledger.State
		s.backend(func(ctx context.Context, v store.Backend) {
			var err error
			real, err = store.Load(ctx, v, alices.ID())
			s.must(err)
			foreign, err = store.Load(ctx, v, other.ID())
			s.must(err)
		})
		for name, entry := range s.falseEntries(real, foreign, mallory.Key()) {
			s.part(name, func(s *scene) {
				s.must(s.alice.Close())
				s.must(s.bob.Close())
				s.plant(real.ID, real.Head.Seq+1, entry)
				for _, p := range []*person{s.open(s.alice), s.open(s.bob)} {
					r, err := p.Room(s.ctx, "false")
					if err == nil {
						err = r.Rekey(s.ctx)
					}
					if !errors.Is(err, unibus.ErrIntegrity) && (s.straight || !errors.Is(err, unibus.ErrUnavailable)) {
						s.Errorf("%s takes it: %v", p.state, err)
					}
					s.must(p.Close())
				}
				s.forget(real.ID)
			})
		}
		for _, p := range []*person{s.open(s.alice), s.open(s.bob)} {
			r := s.enter(p, "false")
			if n := len(r.Members()); n != 2 || !r.Info().Policy.Encrypted() {
				s.Errorf("afterwards %s sees %d members", p.state, n)
			}
		}
	})
}

// TestRaceLost: an admin who lost a race had staged copies of its own key, also for someone whom the winner removed.
// The one who was removed is given neither key, and everyone else the winner's.
func TestRaceLost(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, bobs, mallory, m := s.rogueAdmin("race")
		carol := s.add("carol")
		s.must(alices.Invite(s.ctx, unibus.RoleMember, carol.Key()))
		lost := crypto.RoomKey{7}
		for _, to := range []*unibus.Identity{mallory, s.alice.id, s.bob.id, carol} {
			s.must(m.put(2, lost.Commit(2), m.seal(lost, 2, to), to.Key()))
		}
		behind := m.log()
		entry, err := behind.Next(mallory, &ledger.Rekey{Epoch: 2, Commit: lost.Commit(2), Previous: none}, time.Now())
		s.must(err)
		change, err := storetest.Advance(behind, entry)
		s.must(err)
		s.must(alices.Kick(s.ctx, carol.Key())) // the winner
		if err := m.Append(s.ctx, change); !errors.Is(err, store.ErrConflict) {
			s.Errorf("the loser's entry: %v", err)
		}
		commit := m.log().Room.Epoch().Commit
		for _, k := range s.copies(alices.ID()) {
			if k.Epoch == 2 && (k.Commit != commit || k.Endpoint == carol.Key()) {
				s.Errorf("epoch 2 is sealed to %s, by %s", k.Endpoint, k.Sealer)
			}
		}
		s.must(bobs.Refresh(s.ctx))
		s.say(bobs, "after")
		for _, id := range []*unibus.Identity{s.alice.id, s.bob.id, mallory} {
			s.reads(id, "race", "after")
		}
		if s.straight { // the store itself; a service answers nobody who is no member
			s.backend(func(ctx context.Context, v store.Backend) {
				if copies, err := v.Key(ctx, alices.ID(), 2, carol.Key()); len(copies) > 0 || !errors.Is(err, store.ErrNotFound) {
					s.Errorf("carol is given %d copies, %v", len(copies), err)
				}
			})
		}
	})
}

// TestRepointedSubject: a store lets a subject mean another room than it did. Whoever knows what it meant refuses
// that, until a person says that it was meant.
func TestRepointedSubject(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices, _ := s.share("subject")
		other, _ := s.share("hostile")
		s.must(s.alice.Close())
		s.must(s.bob.Close())
		if s.kind == "jetstream" {
			_, err := s.js.Publish(s.ctx, "$KV.unibus_rooms.subject.subject", []byte(other.ID().String()))
			s.must(err)
		} else {
			theirs, its := other.ID(), alices.ID()
			s.exec(`UPDATE rooms SET subject = 'old' WHERE id = ?`, its[:])
			s.exec(`UPDATE rooms SET subject = 'subject' WHERE id = ?`, theirs[:])
		}
		for _, p := range []*person{s.open(s.alice), s.open(s.bob)} {
			if r, err := p.Room(s.ctx, "subject"); !errors.Is(err, unibus.ErrIntegrity) {
				s.Errorf("%s takes %s for %s: %v", p.state, r.ID(), alices.ID(), err)
			}
		}
	})
}

// TestTakenSubject: a store frees the subject of a room, so that somebody else makes another room of that subject. Whoever has
// verified the first, if only in a list, is not led into the second.
func TestTakenSubject(t *testing.T) {
	over(t, ways, func(s *scene) {
		alices := s.room("subject", unibus.DefaultPolicy())
		carol, mallory := s.join("carol"), s.join("mallory")
		s.must(alices.Invite(s.ctx, unibus.RoleMember, carol.Key()))
		if listed, err := carol.ListMyRooms(s.ctx); err != nil || len(listed) != 1 {
			s.Fatalf("carol lists %v, %v", listed, err)
		}
		s.must(carol.Close())
		if s.kind == "jetstream" {
			stream, err := s.js.Stream(s.ctx, "KV_unibus_rooms")
			s.must(err)
			s.must(stream.Purge(s.ctx, js.WithPurgeSubject("$KV.unibus_rooms.subject.subject")))
		} else {
			id := alices.ID()
			s.exec(`UPDATE rooms SET subject = 'old' WHERE id = ?`, id[:])
		}
		theirs, err := mallory.CreateRoom(s.ctx, "subject", unibus.DefaultPolicy())
		s.must(err)
		s.must(theirs.Invite(s.ctx, unibus.RoleMember, carol.Key()))
		again := s.open(carol)
		if r, err := again.Room(s.ctx, "subject"); !errors.Is(err, unibus.ErrIntegrity) {
			s.Errorf("carol takes %s for %s: %v", r.ID(), alices.ID(), err)
		}
		listed, err := again.MyRooms(s.ctx) // where a pattern would find it
		if !errors.Is(err, unibus.ErrIntegrity) || slices.ContainsFunc(listed, func(r *unibus.Room) bool { return r.ID() == theirs.ID() }) {
			s.Errorf("beside it carol lists the other: %v, %v", listed, err)
		}
	})
}

// TestOtherBus: at the address of a bus there is another one.
func TestOtherBus(t *testing.T) {
	over(t, ways, func(s *scene) {
		s.share("room")
		s.must(s.alice.Close())
		s.must(s.bob.Close())
		s.stop()
		s.must(os.RemoveAll(s.dir))
		if s.carries {
			s.listen = strings.TrimPrefix(s.url, "nats://")
		}
		s.start()
		again := s.open(&person{id: s.alice.id, state: "founder"})
		_, err := again.CreateRoom(s.ctx, "room", unibus.DefaultPolicy())
		s.must(err)
		for _, p := range []*person{s.alice, s.bob} {
			if _, err := s.connect(p); !errors.Is(err, unibus.ErrIntegrity) || !errors.Is(err, unibus.ErrOtherBus) {
				s.Errorf("another bus is taken for the one it was: %v", err)
			}
		}
	})
}
