package service

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// TestFound: a store is taken for the bus that it holds, if that is the one that is meant; in an empty one a bus is founded,
// unless another is meant, which is waited for.
func TestFound(t *testing.T) {
	n, _ := node(t, "")
	streams, err := bus.NewStreams(n.links.Store, nil)
	if err != nil {
		t.Fatal(err)
	}
	bob := person(t, 'b')
	other := crypto.ID{9}
	full := newAudited(t)
	damaged := newAudited(t)
	damaged.damage(`UPDATE entries SET statement = zeroblob(99) WHERE log = ?`, damaged.bus.ID[:])
	closed := newAudited(t)
	if err := closed.store.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		store   store.Backend
		bus     crypto.ID
		kind    error
		founded bool
	}{
		"an empty one":                   {openStore(t), crypto.ID{}, nil, true},
		"an empty one, a bus is meant":   {openStore(t), other, store.ErrUnavailable, false},
		"one with a bus":                 {full.store, crypto.ID{}, nil, false},
		"one with the bus that is meant": {full.store, full.bus.ID, nil, false},
		"one with another bus":           {full.store, other, store.ErrExists, false},
		"a damaged one":                  {damaged.store, crypto.ID{}, store.ErrDamaged, false},
		"one that does not answer":       {closed.store, crypto.ID{}, store.ErrUnavailable, false},
	} {
		s := new(Service)
		err := s.found(t.Context(), Options{Store: c.store, Identity: bob, Name: "bob", Bus: c.bus}, streams)
		if !errors.Is(err, c.kind) || s.Founded != c.founded {
			t.Errorf("%s: %v, founded just now: %v", name, err, s.Founded)
		}
		if err == nil && (s.Bus.IsZero() || (s.Admin == bob.Key()) != c.founded) {
			t.Errorf("%s: the bus %s by %s", name, s.Bus, s.Admin)
		}
	}
}

// TestHealthz: a service is well while it can keep something, and its store can be relied on.
func TestHealthz(t *testing.T) {
	n, _ := node(t, "")
	defer http.DefaultClient.CloseIdleConnections()
	health := func(want int, says string) {
		t.Helper()
		answer, err := http.Get("http://" + n.HTTP + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != want || !strings.Contains(string(body), says) || !json.Valid(body) {
			t.Errorf("%d %s, want %d %s", answer.StatusCode, body, want, says)
		}
	}
	health(200, `"ok"`)
	why := "the disk of the server is full"
	n.watch.full.Store(&why)
	health(503, why)
	n.watch.full.Store(nil)
	health(200, `"ok"`)
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
	health(503, "the store cannot be relied on")
}
