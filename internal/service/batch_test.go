package service

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// TestBatchLimits: one request asks for no more than an answer holds; nothing asked for is a list of nothing.
func TestBatchLimits(t *testing.T) {
	n, id := node(t, "")
	now := time.Now()
	token, err := id.Token(crypto.Token{Use: crypto.UseAPI, Bus: &n.Bus, From: now, Until: now.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	post := func(path string, body any) (int, string) {
		t.Helper()
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+n.HTTP+path, bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		reply, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		var answer bytes.Buffer
		if _, err := answer.ReadFrom(reply.Body); err != nil {
			t.Fatal(err)
		}
		return reply.StatusCode, answer.String()
	}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	for _, c := range []struct {
		path   string
		body   any
		status int
		answer string
	}{
		{"/heads", store.LogsBody{Logs: slices.Repeat([]crypto.ID{{1}}, store.MaxHeads+1)}, http.StatusBadRequest, ""},
		{"/heads", store.LogsBody{Logs: slices.Repeat([]crypto.ID{{1}}, store.MaxHeads)}, http.StatusOK, "[]\n"},
		{"/heads", store.LogsBody{Logs: []crypto.ID{}}, http.StatusOK, "[]\n"},
		{"/cards", store.CardsBody{Cards: make([]store.Card, store.MaxCards+1)}, http.StatusBadRequest, ""},
		{"/cards/query", store.EndpointsBody{Endpoints: make([]crypto.PublicKey, store.MaxCards+1)}, http.StatusBadRequest, ""},
		{"/cards/query", store.EndpointsBody{Endpoints: []crypto.PublicKey{}}, http.StatusOK, "{\"cards\":[]}\n"},
	} {
		status, answer := post(c.path, c.body)
		if status != c.status || c.answer != "" && answer != c.answer {
			t.Errorf("%s: %d %q", c.path, status, answer)
		}
	}
}
