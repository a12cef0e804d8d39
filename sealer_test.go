package unibus_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// rogue is someone in a room who speaks the API itself, and keeps none of a client's manners.
type rogue struct {
	*world
	id   *unibus.Identity
	peer *attack.Peer
	room unibus.ID
}

func (w *world) rogue(id *unibus.Identity, room unibus.ID) *rogue {
	w.Helper()
	p, err := attack.Dial(attack.Options{URL: w.node.URL(), Identity: id, Bus: w.alice.Bus(), Rooms: []unibus.ID{room}})
	w.must(err)
	w.Cleanup(p.Close)
	return &rogue{w, id, p, room}
}

// call makes a request.
func (r *rogue) call(method, path string, in any, want int) (answer []byte) {
	r.Helper()
	body, err := json.Marshal(in)
	r.must(err)
	answer, status, err := r.peer.Call(r.ctx, method, path, body)
	if err != nil || status != want {
		r.Fatalf("%s %s: %d %s, %v", method, path, status, answer, err)
	}
	return answer
}

// put keeps the same bytes as a copy for each.
func (r *rogue) put(want int, epoch uint32, commit crypto.Hash, sealed []byte, to ...unibus.PublicKey) {
	r.Helper()
	in := store.KeysBody{Epoch: epoch, Commit: commit}
	for _, key := range to {
		in.Keys = append(in.Keys, store.MembersCopy{Endpoint: key, Sealed: sealed})
	}
	r.call("PUT", "/rooms/"+r.room.String()+"/keys", in, want)
}

// copies is what the rogue is given of a key.
func (r *rogue) copies(epoch string) (b store.KeyBody) {
	r.Helper()
	r.must(json.Unmarshal(r.call("GET", "/rooms/"+r.room.String()+"/keys/"+epoch, nil, http.StatusOK), &b))
	return b
}

// log is the room's log.
func (r *rogue) log() *ledger.State {
	r.Helper()
	var page store.LogBody
	r.must(json.Unmarshal(r.call("GET", "/logs/"+r.room.String(), nil, http.StatusOK), &page))
	s, err := ledger.Fold(page.Entries)
	r.must(err)
	return s
}

// seal is a copy of a key for someone.
func (r *rogue) seal(key crypto.RoomKey, epoch uint32, to *unibus.Identity) []byte {
	r.Helper()
	statement, err := to.Card()
	r.must(err)
	card, err := crypto.OpenCard(statement, to.Key())
	r.must(err)
	sealed, err := crypto.SealKey(key, r.room, epoch, to.Key(), card.Sealing)
	r.must(err)
	return sealed
}

// rekey begins an epoch of the rogue's own making, with what it says the key before is, for those it likes.
func (r *rogue) rekey(previous []byte, to ...*unibus.Identity) {
	r.Helper()
	s := r.log()
	epoch := s.Room.Epoch().Number + 1
	key := crypto.RoomKey{0: 7, 31: byte(epoch)}
	for _, id := range to {
		r.put(http.StatusNoContent, epoch, key.Commit(epoch), r.seal(key, epoch, id), id.Key())
	}
	entry, err := s.Next(r.id, &ledger.Rekey{Epoch: epoch, Commit: key.Commit(epoch), Previous: previous}, time.Now())
	r.must(err)
	r.call("POST", "/logs/"+r.room.String(), store.EntryBody{Entry: entry}, http.StatusCreated)
}

var zeros = make([]byte, crypto.SealedSize)

// fresh is a client that knows nothing of before.
func (w *world) fresh(id *unibus.Identity, subject string) (*unibus.Client, *unibus.Room) {
	w.Helper()
	c, err := unibus.Connect(w.ctx, unibus.Options{Identity: id, StateDir: w.TempDir(), Server: w.node.URL()})
	w.must(err)
	w.Cleanup(func() { c.Close() })
	r, err := c.Room(w.ctx, subject)
	w.must(err)
	return c, r
}

// reads checks what somebody reads who knows nothing of before.
func (w *world) reads(id *unibus.Identity, subject string, want ...string) {
	w.Helper()
	c, r := w.fresh(id, subject)
	defer c.Close()
	if got, notices, err := w.read(r, unibus.SubscribeOptions{All: true}); err != nil || !slices.Equal(got, want) {
		w.Errorf("read %q, %v, %v; want %q", got, notices, err, want)
	}
}

// fault checks that a key cannot be had by the fault of someone.
func (w *world) fault(id *unibus.Identity, subject, who string) {
	w.Helper()
	c, r := w.fresh(id, subject)
	defer c.Close()
	_, notices, err := w.read(r, unibus.SubscribeOptions{All: true})
	if !errors.Is(err, unibus.ErrIntegrity) || !slices.ContainsFunc(notices, func(n unibus.Notice) bool {
		return n.Kind == unibus.NoticeKey && n.Finding && strings.Contains(n.Why, who)
	}) {
		w.Errorf("%v, %v; want one that names %s", err, notices, who)
	}
}

// TestOverwrittenCopy: an admin writes zeros for everyone, before they have asked for their own. All read on; the
// owner removes it and rekeys.
func TestOverwrittenCopy(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("zeros", unibus.DefaultPolicy())
	mallory, carol := w.add("mallory"), w.add("carol")
	w.must(alices.Invite(w.ctx, unibus.RoleAdmin, mallory.Key()))
	m := w.rogue(mallory, alices.ID())
	commit := m.copies("1").Commit
	m.put(http.StatusNoContent, 1, commit, zeros, w.aliceID.Key(), w.bobID.Key(), carol.Key())
	m.put(http.StatusConflict, 1, commit, bytes.Repeat([]byte{1}, crypto.SealedSize), w.aliceID.Key())
	w.send(alices, "one")
	w.must(alices.Invite(w.ctx, unibus.RoleMember, carol.Key())) // whose copy by mallory is there already
	for _, id := range []*unibus.Identity{w.aliceID, w.bobID, carol} {
		w.reads(id, "zeros", "one")
	}
	_, again := w.fresh(w.aliceID, "zeros")
	w.must(again.Kick(w.ctx, mallory.Key()))
	w.send(again, "two")
	w.must(bobs.Refresh(w.ctx))
	w.send(bobs, "three")
	for _, id := range []*unibus.Identity{w.aliceID, w.bobID, carol} {
		w.reads(id, "zeros", "one", "two", "three")
	}
}

// TestNothingOpens: when no copy opens that a member was given, the fault names who made them.
func TestNothingOpens(t *testing.T) {
	w := newWorld(t)
	alices, _ := w.room("nothing", unibus.DefaultPolicy())
	mallory := w.add("mallory")
	w.must(alices.Invite(w.ctx, unibus.RoleAdmin, mallory.Key()))
	w.send(alices, "one")
	m := w.rogue(mallory, alices.ID())
	s := m.log()
	key := crypto.RoomKey{1}
	m.put(http.StatusNoContent, 2, key.Commit(2), m.seal(key, 2, mallory), mallory.Key())
	m.put(http.StatusNoContent, 2, key.Commit(2), zeros, w.bobID.Key())
	entry, err := s.Next(mallory, &ledger.Rekey{Epoch: 2, Commit: key.Commit(2), Previous: make([]byte, crypto.PreviousSize)}, time.Now())
	w.must(err)
	m.call("POST", "/logs/"+m.room.String(), store.EntryBody{Entry: entry}, http.StatusCreated)
	c, r := w.fresh(w.bobID, "nothing")
	if held, err := r.HoldsKey(w.ctx); held || !errors.Is(err, unibus.ErrIntegrity) || !strings.Contains(err.Error(), "mallory") {
		t.Errorf("holds the key: %v, %v", held, err)
	}
	if err := r.PublishOnce(w.ctx, []byte("x")); !errors.Is(err, unibus.ErrIntegrity) {
		t.Errorf("publishes: %v", err)
	}
	w.must(c.Close())
	w.reads(w.bobID, "nothing", "one") // by its copy of the epoch before
}

// TestOwnCopy: whoever opened what another sealed keeps a copy of its own, and needs no other any more.
func TestOwnCopy(t *testing.T) {
	w := newWorld(t)
	alices, bobs := w.room("own", unibus.DefaultPolicy())
	w.must(alices.Rekey(w.ctx))
	w.send(alices, "one")
	b := w.rogue(w.bobID, alices.ID())
	if n := len(b.copies("2").Sealed); n != 1 {
		t.Errorf("before, bob has %d copies", n)
	}
	w.must(bobs.Refresh(w.ctx))
	if held, err := bobs.HoldsKey(w.ctx); !held || err != nil {
		t.Fatalf("holds the key: %v, %v", held, err)
	}
	copies := b.copies("latest").Sealed
	if len(copies) != 2 || copies[0].Sealer != w.bobID.Key() || copies[1].Sealer != w.aliceID.Key() {
		t.Fatalf("afterwards bob has %d copies", len(copies))
	}
	if key, err := w.bobID.OpenKey(copies[0].Sealed, alices.ID(), 2, b.log().Room.Epoch().Commit); err != nil || key == (crypto.RoomKey{}) {
		t.Errorf("its own does not open: %v", err)
	}
	w.must(w.alice.Close())
	w.must(w.bob.Close())
	w.tampered(`UPDATE room_keys SET sealed = zeroblob(1168) WHERE sealer <> endpoint`)
	w.reads(w.bobID, "own", "one")
	w.tampered(`UPDATE room_keys SET sealed = zeroblob(1168)`)
	w.fault(w.bobID, "own", "bob, alice")
}

// TestBrokenChain: an admin begins an epoch with a key before that opens nothing, or none. Those who had their own
// copies of the epoch before read on; to those who come later it is told whose fault it is.
func TestBrokenChain(t *testing.T) {
	for name, previous := range map[string][]byte{
		"of rubbish":      bytes.Repeat([]byte{9}, crypto.PreviousSize),
		"said to be none": make([]byte, crypto.PreviousSize),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alices, _ := w.room("chain", unibus.DefaultPolicy())
			mallory, carol := w.add("mallory"), w.add("carol")
			w.must(alices.Invite(w.ctx, unibus.RoleAdmin, mallory.Key()))
			w.send(alices, "one")
			m := w.rogue(mallory, alices.ID())
			m.rekey(previous, mallory, w.aliceID, w.bobID)
			w.must(alices.Refresh(w.ctx))
			w.send(alices, "two")
			w.reads(w.bobID, "chain", "one", "two")
			w.must(alices.Kick(w.ctx, mallory.Key()))
			w.must(alices.Invite(w.ctx, unibus.RoleMember, carol.Key()))
			w.send(alices, "three")
			for _, id := range []*unibus.Identity{w.aliceID, w.bobID} {
				w.reads(id, "chain", "one", "two", "three")
			}
			who := "mallory"
			if name == "said to be none" { // as one writes who was given none by the author of the epoch before
				who = "alice"
			}
			w.fault(carol, "chain", who)
		})
	}
}

// TestLeftOut: an admin begins an epoch and hands the owner nothing, or nothing that opens. The owner removes it and
// rekeys all the same, and what was written before and after that epoch is read by everyone who was there.
func TestLeftOut(t *testing.T) {
	for _, name := range []string{"nothing", "garbage"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alices, bobs := w.room("out", unibus.DefaultPolicy())
			mallory, carol := w.add("mallory"), w.add("carol")
			w.must(alices.Invite(w.ctx, unibus.RoleAdmin, mallory.Key()))
			w.send(alices, "one")
			m := w.rogue(mallory, alices.ID())
			m.rekey(make([]byte, crypto.PreviousSize), mallory, w.bobID)
			if name == "garbage" {
				m.put(http.StatusNoContent, 2, m.log().Room.Epoch().Commit, zeros, w.aliceID.Key())
			}
			w.must(bobs.Refresh(w.ctx))
			_, owners := w.fresh(w.aliceID, "out")
			if err := owners.PublishOnce(w.ctx, []byte("x")); err == nil {
				t.Error("the owner publishes in an epoch whose key it does not have")
			}
			w.must(owners.Kick(w.ctx, mallory.Key()))
			w.send(owners, "two")
			w.reads(w.aliceID, "out", "one", "two")
			w.reads(w.bobID, "out", "one", "two")
			if e := w.rogue(w.aliceID, m.room).log().Room.Epoch(); e.Number != 3 || !bytes.Equal(e.Previous, make([]byte, crypto.PreviousSize)) {
				t.Errorf("epoch %d says of the key before %x", e.Number, e.Previous)
			}
			// Who comes later is told who is to blame that "one" cannot be read.
			w.must(owners.Invite(w.ctx, unibus.RoleMember, carol.Key()))
			w.fault(carol, "out", "mallory")
		})
	}
}
