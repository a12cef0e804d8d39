package remote

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// bodies are what the requests that an api was asked had as their bodies, of a method and a path that all of them have.
func bodies[T any](t *testing.T, a *api, request string) (list []T) {
	t.Helper()
	for _, asked := range a.requests() {
		body, ok := strings.CutPrefix(asked, request+" ")
		if !ok {
			t.Fatalf("asked %q, want %q", asked, request)
		}
		var b T
		if err := json.Unmarshal([]byte(body), &b); err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

// TestStored: what a room has stored is what the service says of its stream, and nothing where that says none.
func TestStored(t *testing.T) {
	room, stream := crypto.ID{3}, store.Stream{}
	for name, want := range map[string]*store.Stream{"a stream": &stream, "none": nil} {
		a := serve(t, says(store.RoomBody{Room: store.Room{ID: room}, Stream: want}))
		got, err := a.store(t, 0).Stored(t.Context(), room)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
		if asked := a.requests(); len(asked) != 1 || asked[0] != "GET /rooms/"+room.String()+"?stream=1" {
			t.Errorf("%s: asked %q", name, asked)
		}
	}
	got, err := serve(t, fails(403, "unibus:denied", "")).store(t, 0).Stored(t.Context(), room)
	is(t, "refused", err, store.ErrDenied)
	if got != nil {
		t.Errorf("refused, it gives %+v", got)
	}
}

// TestRequestsAreSigned: every request carries a token of the caller's for the bus and for its inbox, the same for many.
func TestRequestsAreSigned(t *testing.T) {
	bus, inbox := crypto.ID{1}, crypto.Inbox{7}
	var tokens []string
	s := New(Options{
		Transport: watched(func(r *http.Request) { tokens = append(tokens, r.Header.Get("Authorization")) }),
		Identity:  identity(t, 1), Bus: bus, Inbox: inbox,
	})
	t.Cleanup(func() { s.Close() })
	for range 2 {
		_, err := s.Bus(t.Context())
		is(t, "a transport that takes nothing", err, store.ErrInvalid)
	}
	if len(tokens) != 2 || tokens[0] != tokens[1] {
		t.Fatalf("two requests carry %q", tokens)
	}
	token, ok := strings.CutPrefix(tokens[0], "Bearer ")
	got, err := crypto.OpenToken(token, crypto.UseAPI, &bus, time.Now())
	if !ok || err != nil || got.Key != identity(t, 1).Key() || got.Inbox != inbox {
		t.Errorf("the token %q says %+v, %v", tokens[0], got, err)
	}
}

// TestKeysInParts: of many copies each is put once, under the epoch and the commitment of the key, and nothing more is put after
// one that failed for another reason than that a copy is there.
func TestKeysInParts(t *testing.T) {
	room, self, commit := crypto.ID{3}, identity(t, 1).Key(), crypto.Hash{9}
	copies := make([]store.SealedKey, keysPerRequest+1)
	for i := range copies {
		copies[i] = store.SealedKey{Endpoint: identity(t, byte(i)).Key(), Sealed: []byte{byte(i), byte(i >> 8)}}
	}
	a := serve(t, says(struct{}{}))
	if err := a.store(t, 0).PutKeys(t.Context(), room, 5, commit, self, copies); err != nil {
		t.Fatal(err)
	}
	var put []store.SealedKey
	for _, b := range bodies[store.KeysBody](t, a, "PUT /rooms/"+room.String()+"/keys") {
		if b.Epoch != 5 || b.Commit != commit || len(b.Keys) > keysPerRequest {
			t.Errorf("%d copies are put for epoch %d, %s", len(b.Keys), b.Epoch, b.Commit)
		}
		for _, k := range b.Keys {
			put = append(put, store.SealedKey{Endpoint: k.Endpoint, Sealed: k.Sealed})
		}
	}
	if !reflect.DeepEqual(put, copies) {
		t.Errorf("put are %d copies, want %d, the same", len(put), len(copies))
	}
	a = serve(t, fails(403, "unibus:denied", ""), says(struct{}{}))
	is(t, "the first part is refused", a.store(t, 0).PutKeys(t.Context(), room, 5, commit, self, copies), store.ErrDenied)
	if n := len(a.requests()); n != 1 {
		t.Errorf("%d requests were made, want 1", n)
	}
}

// TestGivenKeys: each of the caller's copies comes with who made it, in the order in which they are to be tried.
func TestGivenKeys(t *testing.T) {
	self := identity(t, 1).Key()
	one := store.SealersCopy{Sealer: self, Sealed: []byte("one")}
	two := store.SealersCopy{Sealer: identity(t, 2).Key(), Sealed: []byte("two")}
	s := serve(t, says(store.KeyBody{Sealed: []store.SealersCopy{two, one}})).store(t, 0)
	got, err := s.Key(t.Context(), crypto.ID{3}, 1, self)
	want := []store.SealedKey{
		{Endpoint: self, Sealer: two.Sealer, Sealed: two.Sealed}, {Endpoint: self, Sealer: self, Sealed: one.Sealed},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// TestCardsInParts: cards are put and asked for in requests that a service takes, each once, and what all of these give is given.
func TestCardsInParts(t *testing.T) {
	cards := make([]store.Card, store.MaxCards+1)
	keys := make([]crypto.PublicKey, len(cards))
	for i := range cards {
		keys[i] = identity(t, byte(i)).Key()
		cards[i] = store.Card{Endpoint: keys[i], Statement: []byte{byte(i), byte(i >> 8)}}
	}
	last := cards[store.MaxCards:]
	a := serve(t, says(struct{}{}))
	if err := a.store(t, 0).PutCards(t.Context(), cards...); err != nil {
		t.Fatal(err)
	}
	put := bodies[store.CardsBody](t, a, "POST /cards")
	if len(put) != 2 || !reflect.DeepEqual(slices.Concat(put[0].Cards, put[1].Cards), cards) {
		t.Errorf("cards are put in %d requests", len(put))
	}
	a = serve(t, says(store.CardsBody{Cards: cards[:3]}), says(store.CardsBody{Cards: last}))
	got, err := a.store(t, 0).Cards(t.Context(), keys...)
	if want := slices.Concat(cards[:3], last); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("given are %d cards, %v, want %d", len(got), err, len(want))
	}
	asked := bodies[store.EndpointsBody](t, a, "POST /cards/query")
	if len(asked) != 2 || !reflect.DeepEqual(slices.Concat(asked[0].Endpoints, asked[1].Endpoints), keys) {
		t.Errorf("asked for in %d requests", len(asked))
	}
	a = serve(t, says(store.CardsBody{Cards: cards[:3]}), fails(403, "unibus:denied", ""))
	got, err = a.store(t, 0).Cards(t.Context(), keys...)
	is(t, "the second part is refused", err, store.ErrDenied)
	if len(got) > 0 {
		t.Errorf("of what is refused %d cards are given", len(got))
	}
}

// TestAdmins: a bus has an admin if one of its users is an active admin, wherever among them, and no other user is one.
func TestAdmins(t *testing.T) {
	user := func(n byte, role ledger.Role, active bool) store.UserBody {
		return store.UserBody{Key: identity(t, n).Key(), Role: role, Active: active}
	}
	member, gone, admin := user(1, ledger.RoleUser, true), user(2, ledger.RoleAdmin, false), user(3, ledger.RoleAdmin, true)
	for _, c := range []struct {
		name  string
		pages [][]store.UserBody
		want  bool
	}{
		{"users alone", [][]store.UserBody{{member}, {}}, false},
		{"an admin who is revoked", [][]store.UserBody{{member, gone}, {}}, false},
		{"an admin on another page", [][]store.UserBody{{member, gone}, {admin}}, true},
	} {
		var answers []func(http.ResponseWriter)
		for _, page := range c.pages {
			answers = append(answers, says(page))
		}
		a := serve(t, answers...)
		if got, err := a.store(t, 0).HasAdmin(t.Context()); got != c.want || err != nil {
			t.Errorf("%s: the bus has an admin: %v, %v, want %v", c.name, got, err, c.want)
		}
		if n := len(a.requests()); n != len(c.pages) {
			t.Errorf("%s: %d requests, want %d", c.name, n, len(c.pages))
		}
	}
}

// TestUnreachable: what the connection itself says of the bus is kept, that there was no answer in time is told as that, and
// whatever else keeps a request from its answer is that the service is unavailable.
func TestUnreachable(t *testing.T) {
	for _, c := range []struct {
		name      string
		err, want error
		same      bool // nothing is added
	}{
		{"not allowed", store.ErrDenied, store.ErrDenied, true},
		{"nobody there", store.ErrUnavailable, store.ErrUnavailable, true},
		{"too large", store.ErrInvalid, store.ErrInvalid, true},
		{"anything else", http.ErrSchemeMismatch, store.ErrUnavailable, false},
	} {
		s := New(Options{Transport: failing{c.err}, Identity: identity(t, 1)})
		t.Cleanup(func() { s.Close() })
		_, err := s.Bus(t.Context())
		is(t, c.name, err, c.want)
		if (err == c.err) != c.same {
			t.Errorf("%s: got %q of %q", c.name, err, c.err)
		}
	}
	hold := make(chan struct{})
	defer close(hold)
	_, err := serve(t, func(http.ResponseWriter) { <-hold }).store(t, 20*time.Millisecond).Bus(t.Context())
	is(t, "no answer", err, store.ErrLate)
}

// failing is a transport that fails so.
type failing struct{ why error }

// RoundTrip fails.
func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.why }
