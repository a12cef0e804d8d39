package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// small starts a bus where a user may create few rooms.
func small(t *testing.T, rooms int) (*attack.Peer, *crypto.Identity) {
	t.Helper()
	id := person(t, 'a')
	n, err := StartNode(t.Context(), NodeOptions{
		Listen: "127.0.0.1:0", Dir: t.TempDir(), Identity: id, Founder: "admin", MaxRooms: rooms, Sync: "60s", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return mustDial(t, n, id, n.Bus), id
}

// TestRoomQuota: who has created as many rooms as it may is told so, also when it asks for a room that it has
// already; one that is archived makes room.
func TestRoomQuota(t *testing.T) {
	p, id := small(t, 2)
	first, _, _ := createRoom(t, p, id, "one")
	second, status, answer := createRoom(t, p, id, "two")
	if status != http.StatusCreated {
		t.Fatalf("the second: %d %s", status, answer)
	}
	_, status, answer = createRoom(t, p, id, "three")
	if status != http.StatusForbidden || !strings.Contains(string(answer), "2 rooms") {
		t.Errorf("the third: %d %s", status, answer)
	}
	entry := store.EntryBody{Entry: firstEntry(t, p, second.ID)}
	body, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	if answer, status, err := p.Call(t.Context(), "POST", "/logs", body); err != nil || status != http.StatusCreated {
		t.Errorf("the second once more: %d %s, %v", status, answer, err)
	}
	statement, err := first.Next(id, &ledger.Archive{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if body, err = json.Marshal(store.EntryBody{Entry: statement}); err != nil {
		t.Fatal(err)
	}
	if answer, status, err := p.Call(t.Context(), "POST", "/logs/"+first.ID.String(), body); err != nil || status != http.StatusCreated {
		t.Fatalf("archive: %d %s, %v", status, answer, err)
	}
	if _, status, answer := createRoom(t, p, id, "three"); status != http.StatusCreated {
		t.Errorf("the third, with the first archived: %d %s", status, answer)
	}
}

func firstEntry(t *testing.T, p *attack.Peer, log crypto.ID) []byte {
	t.Helper()
	answer, _, err := p.Call(t.Context(), "GET", "/logs/"+log.String(), nil)
	var body store.LogBody
	if err == nil {
		err = json.Unmarshal(answer, &body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return body.Entries[0]
}

// TestRoomQuotaAtOnce: however many are made at once, they are as many as may be: no more, and no fewer.
func TestRoomQuotaAtOnce(t *testing.T) {
	const quota = 200 // more than are left when they are made one by one
	p, id := small(t, quota)
	var made atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for j := range 12 {
				if _, status, answer := createRoom(t, p, id, fmt.Sprintf("r.%d.%d", i, j)); status == http.StatusCreated {
					made.Add(1)
				} else if status != http.StatusForbidden {
					t.Errorf("%d %s", status, answer)
				}
			}
		})
	}
	all.Wait()
	if made.Load() != quota {
		t.Errorf("%d rooms, not %d", made.Load(), quota)
	}
}

// TestQuotaIsTheCreators: a room counts for who created it, also when that one handed it on; being made an owner
// costs nothing.
func TestQuotaIsTheCreators(t *testing.T) {
	p, id := small(t, 2)
	bob := person(t, 'b')
	do := func(s *ledger.State, by *crypto.Identity, body ledger.Body) {
		t.Helper()
		if status, answer := enter(t, p, s, by, body); status != http.StatusCreated {
			t.Fatalf("%d %s", status, answer)
		}
	}
	var page store.LogBody
	answer, _, err := p.Call(t.Context(), "GET", "/logs/"+p.Bus.String(), nil)
	if err == nil {
		err = json.Unmarshal(answer, &page)
	}
	if err != nil {
		t.Fatal(err)
	}
	theBus, err := ledger.Verify(page.Entries)
	if err != nil {
		t.Fatal(err)
	}
	do(theBus, id, &ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}}})
	for _, subject := range []string{"one", "two"} {
		room, status, answer := createRoom(t, p, id, subject)
		if status != http.StatusCreated {
			t.Fatalf("%s: %d %s", subject, status, answer)
		}
		do(room, id, &ledger.Invite{Members: []ledger.NewMember{{Key: bob.Key(), Role: ledger.RoleOwner}}})
		do(room, id, &ledger.Leave{})
	}
	if _, status, answer := createRoom(t, p, id, "three"); status != http.StatusForbidden {
		t.Errorf("a third, after two were handed on: %d %s", status, answer)
	}
	for _, subject := range []string{"three", "four"} { // bob's first entries, whoever brings them
		if _, status, answer := createRoom(t, p, bob, subject); status != http.StatusCreated {
			t.Errorf("%s, of one who owns two that another created: %d %s", subject, status, answer)
		}
	}
	if _, status, answer := createRoom(t, p, bob, "five"); status != http.StatusForbidden {
		t.Errorf("five: %d %s", status, answer)
	}
}

// revoking is a store in which somebody is revoked while somebody's rooms are counted.
type revoking struct {
	store.Backend
	revoke func()
}

func (r revoking) Created(ctx context.Context, key crypto.PublicKey) (int, error) {
	r.revoke()
	return r.Backend.Created(ctx, key)
}

// TestRevokedWhileWaiting: who is revoked while a room of theirs waits for its turn to be made makes none.
func TestRevokedWhileWaiting(t *testing.T) {
	s := openStore(t)
	admin, bob := person(t, 'a'), person(t, 'b')
	state, err := store.Found(t.Context(), s, admin, "admin", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	do := func(body ledger.Body) {
		statement, err := state.Next(admin, body, time.Now())
		var c store.Change
		if err == nil {
			c, err = storetest.Advance(state, statement)
		}
		if err == nil {
			err = s.Append(t.Context(), c)
		}
		if err != nil {
			t.Error(err)
		}
	}
	do(&ledger.Add{Users: []ledger.NewUser{{Key: bob.Key(), Name: "bob", Role: ledger.RoleUser}}})
	revoke := sync.OnceFunc(func() { do(&ledger.Revoke{Keys: []crypto.PublicKey{bob.Key()}}) })
	logs := newLogs(s)
	a := newAPI(apiOptions{
		store: revoking{s, revoke}, logs: logs, users: &allowlist{s, logs, state.ID}, bus: state.ID, maxRooms: DefaultMaxRooms, now: time.Now,
		stream: func(context.Context, crypto.ID) error { return nil },
	})
	room := new(ledger.State)
	policy := ledger.DefaultPolicy()
	policy.Encryption = "none"
	statement, err := room.Next(bob, &ledger.Create{Bus: state.ID, Subject: "r", Policy: policy, Nonce: make([]byte, 16)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(store.EntryBody{Entry: statement})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/logs", bytes.NewReader(body))
	token, err := (&attack.Peer{ID: bob, Bus: state.ID}).APIToken()
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	a.handler(a.routes()).ServeHTTP(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if _, err := s.RoomBySubject(t.Context(), "r"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the room: %v", err)
	}
}

// TestQuotaStoreSilent: while a store does not say how many rooms somebody has, or whether a room is there, none is made,
// and nobody is told that it has too many.
func TestQuotaStoreSilent(t *testing.T) {
	never := func() error { t.Error("a room is made"); return nil }
	s := &ailing{Backend: openStore(t), heads: true}
	full := newQuota(s, 0, time.Now)
	if err := full.create(t.Context(), crypto.PublicKey{1}, crypto.ID{1}, never); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("whether the room is there: %v", err)
	}
	s.heads = false
	if err := full.create(t.Context(), crypto.PublicKey{1}, crypto.ID{1}, never); !errors.Is(err, store.ErrDenied) {
		t.Errorf("once it answers: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := newQuota(s, 9, time.Now).create(t.Context(), crypto.PublicKey{1}, crypto.ID{1}, never); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("how many there are: %v", err)
	}
}

// TestTurnsEnd: who waits for a turn of its own that another request of it has waits no longer than its request does.
func TestTurnsEnd(t *testing.T) {
	turn := make(chan struct{}, 1)
	release, err := hold(t.Context(), turn)
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := hold(ended, turn); !errors.Is(err, context.Canceled) {
		t.Errorf("while another has it: %v", err)
	}
	release()
	if _, err := hold(t.Context(), turn); err != nil {
		t.Errorf("once it is free: %v", err)
	}
}
