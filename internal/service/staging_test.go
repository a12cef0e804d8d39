package service

import (
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

// stagedFrom is a key with some copies, staged at a time.
func stagedFrom(room, key byte, copies int, at time.Time) stagedKey {
	return stagedKey{crypto.ID{room}, 2, crypto.Hash{key}, copies, at}
}

// TestSealer: of what one user has staged as much stays as may be, the newest; and what is of no use goes.
func TestSealer(t *testing.T) {
	now := time.Unix(1e9, 0)
	many := func(n int, key func(i int) stagedKey) (keys []stagedKey) {
		for i := range n {
			keys = append(keys, key(i))
		}
		return keys
	}
	inRoom := func(n int) []stagedKey {
		return many(n, func(i int) stagedKey { return stagedFrom(1, byte(i), 1, now) })
	}
	everywhere := many(maxStaged, func(i int) stagedKey { return stagedFrom(byte(i), 1, 1, now) })
	for _, c := range []struct {
		name    string
		before  []stagedKey
		key     stagedKey
		present uint32
		gone    []byte // the first bytes of the commitments of those that go, the newest first; of their rooms for one key each
		kept    int
		refused bool
	}{
		{"the first", nil, stagedFrom(1, 9, 1, now), 1, nil, 1, false},
		{"as many as may be", inRoom(maxStagedInRoom - 1), stagedFrom(1, 99, 1, now), 1, nil, maxStagedInRoom, false},
		{"one more goes for one more", inRoom(maxStagedInRoom), stagedFrom(1, 99, 1, now), 1, []byte{0}, maxStagedInRoom, false},
		{"other rooms have their own", inRoom(maxStagedInRoom), stagedFrom(2, 99, 1, now), 1, nil, maxStagedInRoom + 1, false},
		{"more copies of one", inRoom(maxStagedInRoom), stagedFrom(1, 3, 1, now), 1, nil, maxStagedInRoom, false},
		{"an epoch has begun", inRoom(3), stagedKey{crypto.ID{1}, 3, crypto.Hash{9}, 1, now}, 2, []byte{2, 1, 0}, 1, false},
		{"one of another room has not", inRoom(3), stagedKey{crypto.ID{2}, 3, crypto.Hash{9}, 1, now}, 2, nil, 4, false},
		{"rooms without end", everywhere, stagedFrom(1, 9, 1, now), 1, []byte{1}, maxStaged, false},
		{"copies without end", many(4, func(i int) stagedKey { return stagedFrom(byte(i), byte(i), ledger.MaxMembers, now) }),
			stagedFrom(9, 9, ledger.MaxMembers, now), 1, []byte{0}, 4, false},
		{"copies of one without end", []stagedKey{stagedFrom(1, 1, maxStagedCopies, now)}, stagedFrom(1, 1, 1, now), 1, nil, 1, true},
		{"an hour later", inRoom(3), stagedFrom(1, 9, 1, now.Add(stagedFor)), 1, nil, 1, false},
	} {
		s := sealer{keys: c.before}
		gone, ok := s.add(c.key, c.present)
		if ok == c.refused || len(s.keys) != c.kept || len(gone) != len(c.gone) {
			t.Errorf("%s: %v, %d are kept, %d go", c.name, ok, len(s.keys), len(gone))
			continue
		}
		for i, k := range gone {
			if k.commit[0] != c.gone[i] {
				t.Errorf("%s: %d goes, not %d", c.name, k.commit[0], c.gone[i])
			}
		}
		if last := s.keys[len(s.keys)-1]; !c.refused && !last.is(c.key) {
			t.Errorf("%s: the last is another", c.name)
		}
	}
}

// TestStagingRefused: more copies of one key than a room can have members are refused, and what cannot make room for more
// keeps none.
func TestStagingRefused(t *testing.T) {
	s := openStore(t)
	now := time.Unix(1e9, 0)
	g := newStaging(s, func() time.Time { return now })
	put := func(room byte, copies int) error {
		in := &store.KeysBody{Epoch: 2, Commit: crypto.Hash{room}, Keys: make([]store.MembersCopy, copies)}
		return g.put(t.Context(), crypto.PublicKey{1}, crypto.ID{room}, 1, in, nil)
	}
	if err := put(1, maxStagedCopies+1); !errors.Is(err, store.ErrDenied) {
		t.Errorf("too many copies: %v", err)
	}
	if err := put(1, maxStagedCopies); err != nil {
		t.Errorf("as many as may be: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := put(2, 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("with a store that cannot drop what is too much: %v", err)
	}
}

// stager is a bus in a file, with an encrypted room of its admin, who stages keys.
type stager struct {
	t     *testing.T
	n     *Node
	p     *attack.Peer
	admin *crypto.Identity
	room  *ledger.State
	db    *sql.DB
}

func newStager(t *testing.T) *stager {
	t.Helper()
	s := &stager{t: t, admin: person(t, 'a')}
	dir := t.TempDir()
	var err error
	s.n, err = StartNode(t.Context(), NodeOptions{
		Listen: "127.0.0.1:0", Dir: dir, Identity: s.admin, Founder: "admin", Sync: "60s", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.n.Stop)
	s.p = mustDial(t, s.n, s.admin, s.n.Bus)
	s.room = encrypted(t, s.p, s.admin)
	if s.db, err = sql.Open("sqlite", sqlite.DSN(filepath.Join(dir, SQLiteFile), longest, sqlite.Normal)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	return s
}

// stage stages a copy of a key for someone, and wants a status.
func (s *stager) stage(want int, of crypto.ID, epoch uint32, key crypto.RoomKey, to crypto.PublicKey) {
	s.t.Helper()
	in := store.KeysBody{Epoch: epoch, Commit: key.Commit(epoch), Keys: []store.MembersCopy{{Endpoint: to, Sealed: make([]byte, crypto.SealedSize)}}}
	if status := put(s.t, s.p, "/rooms/"+of.String()+"/keys", in); status != want {
		s.t.Fatalf("a copy of epoch %d of room %s for %s: %d, want %d", epoch, of, to, status, want)
	}
}

// kept is how many copies are staged.
func (s *stager) kept() (n int) {
	s.t.Helper()
	if err := s.db.QueryRow(`SELECT count(*) FROM room_keys WHERE staged_at > 0`).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// has wants the store to have the admin's copy of a key of the room that an entry names.
func (s *stager) has(epoch uint32) {
	s.t.Helper()
	if k, err := s.n.store.Key(s.t.Context(), s.room.ID, epoch, s.admin.Key()); err != nil || len(k) != 1 {
		s.t.Errorf("the key of epoch %d: %d copies, %v", epoch, len(k), err)
	}
}

// TestStagedKeys: however many keys one user stages, of a room that is there or of rooms that are not, few are
// kept, none of them is refused, and the last one is the next epoch's if the user wants it to be.
func TestStagedKeys(t *testing.T) {
	s := newStager(t)
	own := s.admin.Key()
	var last crypto.RoomKey
	for i := range byte(3 * maxStagedInRoom) {
		last = crypto.RoomKey{2, i}
		s.stage(http.StatusNoContent, s.room.ID, 2, last, own)
	}
	if n := s.kept(); n != maxStagedInRoom {
		t.Errorf("%d keys of one room are kept", n)
	}
	for i := range 2 * maxStaged {
		s.stage(http.StatusNoContent, crypto.ID{1, byte(i), byte(i >> 8)}, 1, crypto.RoomKey{3}, own)
	}
	if n := s.kept(); n != maxStaged {
		t.Errorf("%d keys are kept", n)
	}
	s.stage(http.StatusNoContent, s.room.ID, 2, last, own)
	rekey := &ledger.Rekey{Epoch: 2, Commit: last.Commit(2), Previous: make([]byte, crypto.PreviousSize)}
	if status, answer := enter(t, s.p, s.room, s.admin, rekey); status != http.StatusCreated {
		t.Fatalf("%d %s", status, answer)
	}
	s.has(2)
	// Those of the epoch that has begun are not the oldest any more: they are gone.
	s.stage(http.StatusNoContent, s.room.ID, 3, crypto.RoomKey{4}, own)
	s.has(2)
	for epoch, key := range map[uint32]crypto.RoomKey{2: last, 3: {4}} { // for one who is no user
		s.stage(http.StatusForbidden, s.room.ID, epoch, key, person(t, 'x').Key())
	}
}

// encrypted makes an encrypted room.
func encrypted(t *testing.T, p *attack.Peer, id *crypto.Identity) *ledger.State {
	t.Helper()
	room := new(ledger.State)
	commit := crypto.RoomKey{1}.Commit(1)
	statement, err := room.Next(id, &ledger.Create{Bus: p.Bus, Subject: "staged", Policy: ledger.DefaultPolicy(), Nonce: make([]byte, 16), Commit: &commit}, time.Now())
	if err == nil {
		_, err = storetest.Advance(room, statement)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(store.EntryBody{Entry: statement})
	if err != nil {
		t.Fatal(err)
	}
	if answer, status, err := p.Call(t.Context(), "POST", "/logs", raw); err != nil || status != http.StatusCreated {
		t.Fatalf("%d %s, %v", status, answer, err)
	}
	return room
}

// put makes a PUT request, and returns its status.
func put(t *testing.T, p *attack.Peer, path string, in any) int {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	_, status, err := p.Call(t.Context(), "PUT", path, body)
	if err != nil {
		t.Fatal(err)
	}
	return status
}
