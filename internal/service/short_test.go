package service

import (
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
	"github.com/unibus/unibus/internal/store/storetest"
)

// kickedRoom is a room of alice's as of its third entry, which removes bob, whom the second had invited.
func kickedRoom(t *testing.T, s store.Backend, alice, bob *crypto.Identity) *ledger.State {
	t.Helper()
	bus, err := store.Found(t.Context(), s, alice, "alice", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	room := new(ledger.State)
	storetest.Write(t, s, room, alice, &ledger.Create{Bus: bus.ID, Subject: "ops", Policy: plainPolicy(), Nonce: make([]byte, 16)})
	storetest.Write(t, s, room, alice, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleMember}}})
	storetest.Write(t, s, room, alice, &ledger.Remove{Keys: []crypto.PublicKey{bob.Key()}})
	return room
}

// TestRoomLostEnd: a room whose log ends before what the store lists of it is closed to everyone, whom the lost end had
// kicked among them, until it is there again.
func TestRoomLostEnd(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "bus.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	must(err)
	defer s.Close()
	var ids [2]*crypto.Identity
	for i := range ids {
		ids[i], err = crypto.NewIdentity([32]byte{'a', byte(i)})
		must(err)
	}
	alice, bob := ids[0], ids[1]
	room := kickedRoom(t, s, alice, bob)
	hand, err := sql.Open("sqlite", sqlite.DSN(path, time.Second, sqlite.Full))
	must(err)
	defer hand.Close()
	var kick []byte
	must(hand.QueryRow(`SELECT statement FROM entries WHERE log = ? AND seq = 3`, room.ID[:]).Scan(&kick))
	_, err = hand.Exec(`DELETE FROM entries WHERE log = ? AND seq = 3`, room.ID[:])
	must(err)

	l := newLogs(s)
	for range 2 { // it is not forgotten
		if _, err := l.state(t.Context(), room.ID); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "ends at entry 2, and the store lists its room as of entry 3") {
			t.Fatalf("it is read: %v", err)
		}
	}
	a := &authorizer{logs: l}
	for _, id := range ids {
		if may, err := a.accessTo(t.Context(), room.ID, id.Key()); may != (access{}) || err != nil {
			t.Errorf("access to it: %+v, %v", may, err)
		}
	}
	_, err = hand.Exec(`INSERT INTO entries (log, seq, statement) VALUES (?, 3, ?)`, room.ID[:], kick)
	must(err)
	if may, err := a.accessTo(t.Context(), room.ID, alice.Key()); !may.read || err != nil {
		t.Errorf("once it is there again: %+v, %v", may, err)
	}
	if may, err := a.accessTo(t.Context(), room.ID, bob.Key()); may.read || may.write || err != nil {
		t.Errorf("whoever was kicked may %+v, %v", may, err)
	}
}
