package service

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// small starts a bus where a user may own few rooms.
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

// TestRoomQuota: who owns as many rooms as it may is told so, also when it asks for a room that it has
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

// TestStagedKeys: keys of rooms that do not come are bounded; a room that comes makes room.
func TestStagedKeys(t *testing.T) {
	p, id := small(t, 3)
	stage := func(room crypto.ID) int {
		body, err := json.Marshal(store.KeysBody{Epoch: 1, Commit: crypto.Hash{1}, Keys: []store.SealedKey{{Endpoint: id.Key(), Sealed: make([]byte, crypto.SealedSize)}}})
		if err != nil {
			t.Fatal(err)
		}
		_, status, err := p.Call(t.Context(), "PUT", "/rooms/"+room.String()+"/keys", body)
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	room := func(i int) crypto.ID { return crypto.ID{byte(i), byte(i >> 8), 1} }
	for i := range 3 + stagedSpare {
		if status := stage(room(i)); status != http.StatusNoContent {
			t.Fatalf("room %d: %d", i, status)
		}
	}
	if status := stage(room(1000)); status != http.StatusForbidden {
		t.Errorf("one more: %d", status)
	}
	if _, status, answer := createRoom(t, p, id, "one"); status != http.StatusCreated {
		t.Fatalf("a room: %d %s", status, answer)
	}
	if status := stage(room(1000)); status != http.StatusNoContent {
		t.Errorf("one more, after a room has come: %d", status)
	}
}
