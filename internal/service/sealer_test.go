package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// sealing is a room with people who seal keys for each other, by the API of a service with a store of either kind.
type sealing struct {
	*testing.T
	n                               *Node
	room                            *ledger.State
	owner, admin, bob, carol        *crypto.Identity // the room's owner, an admin, a member, and one who is not in it
	owners, admins, bobs, strangers *attack.Peer
	key                             crypto.RoomKey
}

func newSealing(t *testing.T, kind string) *sealing {
	t.Helper()
	s := &sealing{T: t, room: new(ledger.State), admin: person(t, 'b'), bob: person(t, 'c'), carol: person(t, 'd'), key: crypto.RoomKey{1}}
	s.n, s.owner = node(t, kind)
	bus, err := store.Load(t.Context(), s.n.store, s.n.Bus)
	s.must(err)
	add := &ledger.Add{}
	for i, id := range []*crypto.Identity{s.admin, s.bob, s.carol} {
		add.Users = append(add.Users, ledger.NewUser{Key: id.Key(), Name: fmt.Sprint("user", i), Role: ledger.RoleUser})
	}
	storetest.Write(t, s.n.store, bus, s.owner, add)
	for id, peer := range map[*crypto.Identity]**attack.Peer{s.owner: &s.owners, s.admin: &s.admins, s.bob: &s.bobs, s.carol: &s.strangers} {
		*peer = mustDial(t, s.n, id, s.n.Bus)
	}
	return s
}

func (s *sealing) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// create is the room's first entry, which is not made yet.
func (s *sealing) create() (statement []byte, room crypto.ID) {
	s.Helper()
	commit := s.key.Commit(1)
	statement, err := new(ledger.State).Next(s.owner, &ledger.Create{
		Bus: s.n.Bus, Subject: "sealed", Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit,
	}, time.Now())
	s.must(err)
	room, _, _, err = ledger.Place(statement)
	s.must(err)
	return statement, room
}

// make makes the room.
func (s *sealing) make(statement []byte) {
	s.Helper()
	_, err := storetest.Advance(s.room, statement)
	s.must(err)
	raw, err := json.Marshal(store.EntryBody{Entry: statement})
	s.must(err)
	if answer, status, err := s.owners.Call(s.Context(), "POST", "/logs", raw); err != nil || status != http.StatusCreated {
		s.Fatalf("%d %s, %v", status, answer, err)
	}
}

// enter adds an entry by the owner.
func (s *sealing) enter(body ledger.Body) {
	s.Helper()
	if status, answer := enter(s.T, s.owners, s.room, s.owner, body); status != http.StatusCreated {
		s.Fatalf("%d %s", status, answer)
	}
}

// filled is the bytes of a copy.
func filled(with byte) []byte { return bytes.Repeat([]byte{with}, crypto.SealedSize) }

// puts checks how a request to keep copies, of the same bytes for each, is answered.
func (s *sealing) puts(want int, p *attack.Peer, room crypto.ID, epoch uint32, commit crypto.Hash, with byte, to ...*crypto.Identity) {
	s.Helper()
	in := store.KeysBody{Epoch: epoch, Commit: commit, Keys: []store.MembersCopy{}}
	for _, id := range to {
		in.Keys = append(in.Keys, store.MembersCopy{Endpoint: id.Key(), Sealed: filled(with)})
	}
	if got := put(s.T, p, "/rooms/"+room.String()+"/keys", in); got != want {
		s.Errorf("copies of epoch %d: %d, want %d", epoch, got, want)
	}
}

// copyBy is a copy and who made it.
type copyBy struct {
	sealer *crypto.Identity
	with   byte
}

// gets checks which copies somebody is given of an epoch's key; none: 404.
func (s *sealing) gets(p *attack.Peer, room crypto.ID, epoch string, want ...copyBy) {
	s.Helper()
	answer, status, err := p.Call(s.Context(), "GET", "/rooms/"+room.String()+"/keys/"+epoch, nil)
	s.must(err)
	if len(want) == 0 {
		if status != http.StatusNotFound {
			s.Errorf("epoch %s: %d %s", epoch, status, answer)
		}
		return
	}
	var body store.KeyBody
	s.must(json.Unmarshal(answer, &body))
	var sealed []store.SealersCopy
	for _, w := range want {
		sealed = append(sealed, store.SealersCopy{Sealer: w.sealer.Key(), Sealed: filled(w.with)})
	}
	same := slices.EqualFunc(body.Sealed, sealed, func(a, b store.SealersCopy) bool { return a.Sealer == b.Sealer && bytes.Equal(a.Sealed, b.Sealed) })
	if status != http.StatusOK || !same || body.Room != room || body.Commit != s.room.Room.Epochs[body.Epoch-1].Commit {
		s.Errorf("epoch %s: %d, %d copies of epoch %d: %v", epoch, status, len(body.Sealed), body.Epoch, body.Sealed)
	}
}

func onBothStores(t *testing.T, f func(s *sealing)) {
	for name, kind := range map[string]string{"sqlite": "", "jetstream": JetStream} {
		t.Run(name, func(t *testing.T) { f(newSealing(t, kind)) })
	}
}

// TestSealersPlaces: nobody takes the place of a copy that another made, or changes its own.
func TestSealersPlaces(t *testing.T) {
	onBothStores(t, func(s *sealing) {
		statement, room := s.create()
		first := s.key.Commit(1)
		s.puts(204, s.owners, room, 1, first, 1, s.owner)
		s.make(statement)
		s.puts(204, s.owners, room, 1, first, 1, s.admin, s.bob)
		s.enter(&ledger.Invite{Members: []ledger.NewMember{{Key: s.admin.Key(), Role: ledger.RoleAdmin}, {Key: s.bob.Key(), Role: ledger.RoleMember}}})

		// An admin writes zeros for everyone; once more they are the same, and then no others.
		s.puts(204, s.admins, room, 1, first, 0, s.owner, s.bob)
		s.puts(204, s.admins, room, 1, first, 0, s.owner, s.bob)
		s.puts(409, s.admins, room, 1, first, 2, s.owner)
		s.gets(s.owners, room, "1", copyBy{s.owner, 1}, copyBy{s.admin, 0})
		s.gets(s.bobs, room, "latest", copyBy{s.owner, 1}, copyBy{s.admin, 0})
		s.puts(409, s.owners, room, 1, first, 2, s.owner)

		// A member keeps a copy for itself, one at a time, of keys that the log has, and none for others.
		s.puts(403, s.bobs, room, 1, first, 3, s.owner)
		s.puts(403, s.bobs, room, 1, first, 3, s.bob, s.owner)
		s.puts(403, s.bobs, room, 1, first, 3)
		s.puts(403, s.bobs, room, 2, first, 3, s.bob)
		s.puts(409, s.bobs, room, 1, crypto.Hash{1}, 3, s.bob)
		s.puts(400, s.bobs, room, 0, first, 3, s.bob)
		s.puts(204, s.bobs, room, 1, first, 3, s.bob)
		s.puts(409, s.bobs, room, 1, first, 4, s.bob)
		s.gets(s.bobs, room, "1", copyBy{s.bob, 3}, copyBy{s.owner, 1}, copyBy{s.admin, 0})

		// Whoever is not in the room is told nothing of it, a bus admin no more than others of its keys.
		s.puts(404, s.strangers, room, 1, first, 5, s.carol)
		s.puts(404, s.strangers, room, 1, first, 5, s.owner)
		s.gets(s.strangers, room, "1")
		s.gets(s.strangers, room, "latest")
		s.gets(s.owners, room, "2")

		// The admin is removed: what it made while it was one counts, as does what a member makes of an epoch before.
		next := crypto.RoomKey{2}.Commit(2)
		s.puts(204, s.owners, room, 2, next, 6, s.owner)
		s.puts(204, s.admins, room, 2, next, 7, s.owner)
		s.enter(&ledger.Remove{Keys: []crypto.PublicKey{s.admin.Key()}, Rekey: &ledger.Rekey{Epoch: 2, Commit: next, Previous: make([]byte, crypto.PreviousSize)}})
		s.gets(s.owners, room, "1", copyBy{s.owner, 1}, copyBy{s.admin, 0})
		s.gets(s.owners, room, "latest", copyBy{s.owner, 6}) // of the epoch that its removal began it was no admin
		s.gets(s.bobs, room, "2")
		s.puts(403, s.admins, room, 2, next, 8, s.bob)
		s.puts(403, s.admins, room, 1, first, 8, s.admin)
		s.puts(409, s.owners, room, 1, first, 8, s.bob) // of an epoch before each only for itself
		s.gets(s.admins, room, "1", copyBy{s.owner, 1})
	})
}

// TestStrangersStaging: before a room is there anyone may stage a copy for it, for itself. It counts for nobody else,
// and for itself not before it is let in.
func TestStrangersStaging(t *testing.T) {
	onBothStores(t, func(s *sealing) {
		statement, room := s.create()
		first := s.key.Commit(1)
		s.puts(403, s.strangers, room, 1, first, 1, s.owner)
		s.puts(403, s.strangers, room, 1, first, 1, s.carol, s.owner)
		s.puts(403, s.strangers, room, 2, first, 1, s.carol)
		s.puts(204, s.strangers, room, 1, first, 1, s.carol)
		// If one for the owner had come there all the same:
		s.must(s.n.store.PutKeys(s.Context(), room, 1, first, s.carol.Key(), []store.SealedKey{{Endpoint: s.owner.Key(), Sealed: filled(1)}}))
		s.gets(s.strangers, room, "1")
		s.puts(204, s.owners, room, 1, first, 2, s.owner)
		s.make(statement)
		s.gets(s.owners, room, "1", copyBy{s.owner, 2})
		s.gets(s.strangers, room, "1")
		s.gets(s.strangers, room, "latest")
		s.enter(&ledger.Invite{Members: []ledger.NewMember{{Key: s.carol.Key(), Role: ledger.RoleMember}}})
		s.gets(s.owners, room, "1", copyBy{s.owner, 2})
		s.puts(204, s.owners, room, 1, first, 3, s.carol)
		s.gets(s.strangers, room, "1", copyBy{s.carol, 1}, copyBy{s.owner, 3})
	})
}

// TestUnstageOthers: whoever stages copies of a key that another is about to use cannot have that one's copies
// removed with its own.
func TestUnstageOthers(t *testing.T) {
	onBothStores(t, func(s *sealing) {
		statement, room := s.create()
		s.puts(204, s.owners, room, 1, s.key.Commit(1), 1, s.owner)
		s.make(statement)
		s.enter(&ledger.Invite{Members: []ledger.NewMember{{Key: s.admin.Key(), Role: ledger.RoleAdmin}}})
		next := crypto.RoomKey{2}.Commit(2)
		s.puts(204, s.owners, room, 2, next, 1, s.owner, s.admin)
		s.puts(204, s.admins, room, 2, next, 2, s.owner)
		for i := range byte(maxStagedInRoom) { // the admin's own go, one by one
			s.puts(204, s.admins, room, 2, crypto.Hash{i}, 2, s.admin)
		}
		// An entry that names the key and loses its place is not its author's either.
		behind, err := s.room.Snapshot()
		s.must(err)
		loser, err := ledger.LoadSnapshot(behind)
		s.must(err)
		s.enter(&ledger.MemberRole{Key: s.admin.Key(), Role: ledger.RoleAdmin})
		lost, err := loser.Next(s.admin, &ledger.Rekey{Epoch: 2, Commit: next, Previous: make([]byte, crypto.PreviousSize)}, time.Now())
		s.must(err)
		change, err := storetest.Advance(loser, lost)
		s.must(err)
		if err := s.n.store.Append(s.Context(), change); err == nil {
			s.Error("two entries at one place")
		}
		s.enter(&ledger.Rekey{Epoch: 2, Commit: next, Previous: make([]byte, crypto.PreviousSize)})
		s.gets(s.owners, room, "2", copyBy{s.owner, 1})
		s.gets(s.admins, room, "2", copyBy{s.owner, 1})
	})
}

// TestPlainKeys: a room without encryption has no keys to keep.
func TestPlainKeys(t *testing.T) {
	s := newSealing(t, "")
	p := ledger.DefaultPolicy()
	p.Encryption = ledger.EncryptionNone
	statement, err := new(ledger.State).Next(s.owner, &ledger.Create{Bus: s.n.Bus, Subject: "plain", Policy: p, Nonce: make([]byte, 16)}, time.Now())
	s.must(err)
	s.make(statement)
	s.puts(400, s.owners, s.room.ID, 1, crypto.Hash{}, 1, s.owner)
	s.puts(400, s.owners, s.room.ID, 2, crypto.Hash{1}, 1, s.owner)
	s.gets(s.owners, s.room.ID, "1")
	s.gets(s.owners, s.room.ID, "latest")
}

// TestAuthorsOwnCopy: nobody begins an epoch of which its own copy of the key is not there, for nobody might ever have
// it. That someone whom an entry lets in is on the allowlist no more refuses nothing: its author may sign no other.
func TestAuthorsOwnCopy(t *testing.T) {
	onBothStores(t, func(s *sealing) {
		statement, room := s.create()
		s.puts(204, s.owners, room, 1, s.key.Commit(1), 1, s.owner)
		s.make(statement)
		s.enter(&ledger.Invite{Members: []ledger.NewMember{{Key: s.admin.Key(), Role: ledger.RoleOwner}, {Key: s.bob.Key(), Role: ledger.RoleMember}}})
		refused := func(body ledger.Body) {
			s.Helper()
			if status, answer := enter(s.T, s.owners, s.room, s.owner, body); status != http.StatusBadRequest {
				s.Errorf("%T: %d %s", body, status, answer)
			}
		}
		next := crypto.RoomKey{2}.Commit(2)
		rekey := &ledger.Rekey{Epoch: 2, Commit: next, Previous: make([]byte, crypto.PreviousSize)}
		s.puts(204, s.owners, room, 2, next, 1, s.admin, s.bob)
		s.puts(204, s.admins, room, 2, next, 1, s.owner)
		refused(rekey)
		refused(&ledger.Remove{Keys: []crypto.PublicKey{s.bob.Key()}, Rekey: rekey})
		joined := s.room.Room.Policy
		joined.History = ledger.HistoryJoined
		refused(&ledger.SetPolicy{Policy: joined, Rekey: &ledger.Rekey{Epoch: 2, Commit: next}})
		refused(&ledger.Invite{Members: []ledger.NewMember{{Key: s.carol.Key(), Role: ledger.RoleMember}}, Rekey: rekey})
		s.puts(204, s.owners, room, 2, next, 1, s.owner)
		s.enter(rekey)

		bus, err := store.Load(s.Context(), s.n.store, s.n.Bus)
		s.must(err)
		if status, answer := enter(s.T, s.owners, bus, s.owner, &ledger.Revoke{Keys: []crypto.PublicKey{s.carol.Key()}}); status != http.StatusCreated {
			s.Fatalf("%d %s", status, answer)
		}
		s.enter(&ledger.Invite{Members: []ledger.NewMember{{Key: s.carol.Key(), Role: ledger.RoleMember}}})
		// Who removes itself has no copy of what is for the others.
		after := crypto.RoomKey{3}.Commit(3)
		s.enter(&ledger.Remove{Keys: []crypto.PublicKey{s.owner.Key()}, Rekey: &ledger.Rekey{Epoch: 3, Commit: after, Previous: make([]byte, crypto.PreviousSize)}})
	})
}
