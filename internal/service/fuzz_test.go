package service

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// FuzzAPI sends requests of an admin, who gets past every gate.
func FuzzAPI(f *testing.F) {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, filepath.Join(f.TempDir(), "bus.db"), sqlite.Options{Relaxed: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	id, err := crypto.NewIdentity([32]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	state, err := store.Found(ctx, s, id, "admin", time.Now())
	if err != nil {
		f.Fatal(err)
	}
	logs := newLogs(s)
	a := newAPI(apiOptions{
		store: s, logs: logs, users: &allowlist{s, logs, state.ID}, bus: state.ID, maxRooms: DefaultMaxRooms, now: time.Now,
		stream: func(context.Context, crypto.ID) error { return nil },
		drop:   func(context.Context, store.Notice) error { return nil },
	})
	token, err := id.Token(crypto.Token{Use: crypto.UseAPI, Bus: &state.ID, From: time.Now(), Until: time.Now().Add(23 * time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	h := a.handler(a.routes())
	for _, seed := range [][3]string{
		{"GET", "/bus", ""}, {"GET", "/logs/" + state.ID.String() + "?after=1&limit=2", ""}, {"GET", "/users?after=x", ""}, {"GET", "/rooms?subject=x", ""},
		{"POST", "/logs", `{"entry":"AAAA"}`}, {"POST", "/logs/" + state.ID.String(), `{"entry":""}`}, {"PUT", "/cards/" + id.Key().String(), `{"card":"AA=="}`},
		{"PUT", "/rooms/" + state.ID.String() + "/keys", `{"epoch":1,"commit":"00","keys":[{"endpoint":"U","sealed":""}]}`}, {"GET", "/rooms/" + state.ID.String() + "/keys/latest", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, method, path, body string) {
		r, err := http.NewRequest(method, "http://unibus"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusServiceUnavailable {
			t.Fatalf("%s %s: %s", method, path, w.Body)
		}
	})
}
