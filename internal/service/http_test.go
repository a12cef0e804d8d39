package service

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// TestRouted: a path that is none is not found, and one that takes other methods says which, with a token and
// without; of what there is, who has none is told to bring one.
func TestRouted(t *testing.T) {
	n, admin := node(t, "")
	now := time.Now()
	token, err := admin.Token(crypto.Token{Use: crypto.UseAPI, Bus: &n.Bus, From: now, Until: now.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, token string) (*http.Response, store.Problem) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.HTTP+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var p store.Problem
		if method != "HEAD" && strings.HasPrefix(answer.Header.Get("Content-Type"), problemType) {
			if err := json.NewDecoder(answer.Body).Decode(&p); err != nil {
				t.Fatal(err)
			}
		}
		return answer, p
	}
	defer http.DefaultClient.CloseIdleConnections()
	for _, c := range []struct {
		request          string
		without, with    int
		problem, allowed string // with the token
	}{
		{"GET /users", 401, 200, "", ""},
		{"POST /users", 405, 405, "unibus:invalid", "GET, HEAD"},
		{"DELETE /rooms/x/keys/1", 405, 405, "unibus:invalid", "GET, HEAD"},
		{"PATCH /cards/x", 405, 405, "unibus:invalid", "GET, HEAD, PUT"},
		{"GET /token", 404, 404, "unibus:not-found", ""},
		{"POST /", 405, 405, "unibus:invalid", "GET, HEAD"},
		{"GET /users/x/y", 404, 404, "unibus:not-found", ""},
		{"GET /healthz", 200, 200, "", ""},
		{"POST /healthz", 405, 405, "unibus:invalid", "GET, HEAD"},
		{"PUT /metrics", 405, 405, "unibus:invalid", "GET, HEAD"},
		{"HEAD /users", 401, 200, "", ""},
		{"GET //bus", 404, 404, "unibus:not-found", ""},
		{"POST //heads", 404, 404, "unibus:not-found", ""},
		{"GET /bus/../users", 404, 404, "unibus:not-found", ""},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		if answer, _ := ask(method, path, ""); answer.StatusCode != c.without {
			t.Errorf("%s without a token: %s", c.request, answer.Status)
		}
		answer, p := ask(method, path, token)
		if answer.StatusCode != c.with || p.Type != c.problem || answer.Header.Get("Allow") != c.allowed {
			t.Errorf("%s with a token: %s, %q, Allow %q", c.request, answer.Status, p.Type, answer.Header.Get("Allow"))
		}
	}
}

// TestLargeAlone: while a caller's large body is worked on, another of the caller waits; what is asked, and small bodies, do
// not, nor do others.
func TestLargeAlone(t *testing.T) {
	r := newRouter(crypto.ID{}, nil, time.Now)
	const answered, gaveUp = http.StatusOK, 0
	answer := func(*call) (int, any, error) { return answered, nil, nil }
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	waits, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request := func(ctx context.Context, size int64, caller byte) *call {
		c := &call{Request: httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil), caller: crypto.PublicKey{caller}}
		c.ContentLength = size
		return c
	}
	for name, c := range map[string]struct {
		handle handle
		call   *call
		want   int
	}{
		"another":             {r.oneLargeAtATime(answer), request(gone, largeBody+1, 1), gaveUp},
		"one of unknown size": {r.oneLargeAtATime(answer), request(gone, -1, 1), gaveUp},
		"a small one":         {r.oneLargeAtATime(answer), request(waits, largeBody, 1), answered},
		"a question":          {r.oneAtATime(answer), request(waits, 0, 1), answered},
		"another's":           {r.oneLargeAtATime(answer), request(waits, largeBody+1, 2), answered},
	} {
		working := r.oneLargeAtATime(func(*call) (int, any, error) { return c.handle(c.call) })
		if status, _, err := working(request(waits, largeBody+1, 1)); status != c.want || (err == nil) != (c.want == answered) {
			t.Errorf("%s: %d, %v", name, status, err)
		}
	}
}

// TestHeavyCalledOff: a request that is much work, and whose caller has gone before it is its turn, is not worked on.
func TestHeavyCalledOff(t *testing.T) {
	r := newRouter(crypto.ID{}, nil, time.Now)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	called := func(ctx context.Context) *call {
		return &call{Request: httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)}
	}
	worked := 0
	heavy := r.oneAtATime(func(*call) (int, any, error) { worked++; return http.StatusOK, nil, nil })
	first := r.oneAtATime(func(*call) (int, any, error) { return heavy(called(gone)) })
	if _, _, err := first(called(t.Context())); !errors.Is(err, context.Canceled) || worked > 0 {
		t.Errorf("%v, worked on %d times", err, worked)
	}
	if status, _, err := heavy(called(t.Context())); status != http.StatusOK || err != nil || worked != 1 {
		t.Errorf("the next: %d, %v, worked on %d times", status, err, worked)
	}
}
