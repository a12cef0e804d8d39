package remote

import (
	"errors"
	"iter"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// all is what a sequence yields, and its first error.
func all[V any](seq iter.Seq2[V, error]) (list []V, err error) {
	for v, err := range seq {
		if err != nil {
			return list, err
		}
		list = append(list, v)
	}
	return list, nil
}

// TestRequests: each call asks what it is to ask, and gives what it is answered.
func TestRequests(t *testing.T) {
	room, bob, statement := crypto.ID{3}, identity(t, 2).Key(), []byte("signed")
	record := store.Room{ID: room, Subject: "a.b", Epoch: 2, Seq: 4, Members: 1}
	ref := store.RoomRef{ID: room, Subject: "a.b", Role: ledger.RoleOwner}
	member := store.Member{Endpoint: bob, Role: ledger.RoleMember}
	user := ledger.User{Key: bob, Name: "bob", Role: ledger.RoleUser, Active: true}
	appended := func(seq uint64) func(s *Store) (any, error) {
		return func(s *Store) (any, error) {
			return nil, s.Append(t.Context(), store.Change{Entry: &ledger.Entry{Log: room, Seq: seq, Statement: statement}})
		}
	}
	for _, c := range []struct {
		name, request string
		answer        any
		call          func(s *Store) (any, error)
		want          any
	}{
		{"Bus", "GET /bus", store.BusBody{Founded: statement}, func(s *Store) (any, error) { return s.Bus(t.Context()) }, statement},
		{"Append, the first of a log", `POST /logs {"entry":"c2lnbmVk"}`, store.PlaceBody{}, appended(1), nil},
		{"Append", "POST /logs/" + room.String() + ` {"entry":"c2lnbmVk"}`, store.PlaceBody{}, appended(2), nil},
		{"Room", "GET /rooms/" + room.String() + "?stream=0", record, func(s *Store) (any, error) { return s.Room(t.Context(), room) }, record},
		{"RoomBySubject", "GET /rooms?stream=0&subject=a.b%26c", record, func(s *Store) (any, error) { return s.RoomBySubject(t.Context(), "a.b&c") }, record},
		{"Members", "GET /rooms/" + room.String() + "/members", []store.Member{member}, func(s *Store) (any, error) { return s.Members(t.Context(), room) }, []store.Member{member}},
		{"Member", "GET /rooms/" + room.String() + "/members", []store.Member{{Endpoint: identity(t, 1).Key()}, member}, func(s *Store) (any, error) { return s.Member(t.Context(), room, bob) }, member},
		{"ListRoomsForEndpoint", "GET /members/" + bob.String() + "/rooms", []store.RoomRef{ref}, func(s *Store) (any, error) { return s.ListRoomsForEndpoint(t.Context(), bob) }, []store.RoomRef{ref}},
		{"PutCards", `POST /cards {"cards":[{"endpoint":"` + bob.String() + `","card":"c2lnbmVk"}]}`, struct{}{}, func(s *Store) (any, error) {
			return nil, s.PutCards(t.Context(), store.Card{Endpoint: bob, Statement: statement})
		}, nil},
		{"Cards", `POST /cards/query {"endpoints":["` + bob.String() + `"]}`, store.CardsBody{Cards: []store.Card{{Endpoint: bob, Statement: statement}}}, func(s *Store) (any, error) {
			return s.Cards(t.Context(), bob)
		}, []store.Card{{Endpoint: bob, Statement: statement}}},
		{"User", "GET /users/" + bob.String(), store.NewUserBody(&user), func(s *Store) (any, error) { return s.User(t.Context(), bob) }, user},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := serve(t, says(c.answer))
			got, err := c.call(a.store(t, 0))
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
			if asked := a.requests(); len(asked) != 1 || asked[0] != c.request {
				t.Errorf("asked %q, want %q", asked, c.request)
			}
		})
	}
}

// TestRefused: what the service refuses is an error of every call, and nothing is given.
func TestRefused(t *testing.T) {
	s := serve(t, fails(403, "unibus:denied", "")).store(t, 0)
	id, key := crypto.ID{3}, identity(t, 1).Key()
	for name, call := range map[string]func() (int, error){
		"Entries":              func() (int, error) { l, err := all(s.Entries(t.Context(), id, 0)); return len(l), err },
		"Heads":                func() (int, error) { l, err := s.Heads(t.Context(), id); return len(l), err },
		"Rooms":                func() (int, error) { l, err := all(s.Rooms(t.Context(), id)); return len(l), err },
		"Members":              func() (int, error) { l, err := s.Members(t.Context(), id); return len(l), err },
		"Member":               func() (int, error) { _, err := s.Member(t.Context(), id, key); return 0, err },
		"ListRoomsForEndpoint": func() (int, error) { l, err := s.ListRoomsForEndpoint(t.Context(), key); return len(l), err },
		"PutKeys": func() (int, error) {
			return 0, s.PutKeys(t.Context(), id, 1, crypto.Hash{}, key, make([]store.SealedKey, 1))
		},
		"Key":      func() (int, error) { l, err := s.Key(t.Context(), id, 0, key); return len(l), err },
		"PutCards": func() (int, error) { return 0, s.PutCards(t.Context(), store.Card{}) },
		"Cards":    func() (int, error) { l, err := s.Cards(t.Context(), key); return len(l), err },
		"Users":    func() (int, error) { l, err := all(s.Users(t.Context(), key)); return len(l), err },
		"HasAdmin": func() (int, error) {
			ok, err := s.HasAdmin(t.Context())
			if ok {
				t.Error("HasAdmin: granted")
			}
			return 0, err
		},
		"Frames": func() (int, error) {
			p, err := s.Frames(t.Context(), id, store.FramesQuery{})
			return len(p.Frames), err
		},
	} {
		n, err := call()
		is(t, name, err, store.ErrDenied)
		if n > 0 {
			t.Errorf("%s gives %d", name, n)
		}
	}
}

// TestMember: who is not in the list of members is no member.
func TestMember(t *testing.T) {
	_, err := serve(t, says([]store.Member{})).store(t, 0).Member(t.Context(), crypto.ID{3}, identity(t, 1).Key())
	is(t, "not in the list", err, store.ErrNotFound)
}

// TestEntries: pages are asked for until the head is reached; a log that is not there has none.
func TestEntries(t *testing.T) {
	log := crypto.ID{3}
	page := func(head uint64, entries ...string) func(http.ResponseWriter) {
		b := store.LogBody{Log: log, Head: ledger.Head{Seq: head}}
		for _, e := range entries {
			b.Entries = append(b.Entries, []byte(e))
		}
		return says(b)
	}
	a := serve(t, page(5, "c", "d"), page(5, "e"))
	got, err := all(a.store(t, 0).Entries(t.Context(), log, 2))
	want := []store.Entry{{Log: log, Seq: 3, Statement: []byte("c")}, {Log: log, Seq: 4, Statement: []byte("d")}, {Log: log, Seq: 5, Statement: []byte("e")}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	path := "GET /logs/" + log.String() + "?after="
	if asked := a.requests(); !reflect.DeepEqual(asked, []string{path + "2", path + "4"}) {
		t.Errorf("asked %q", asked)
	}
	a = serve(t, page(9, "a", "b"))
	for range a.store(t, 0).Entries(t.Context(), log, 0) {
		break // a reader may stop
	}
	if len(a.requests()) != 1 {
		t.Errorf("whoever stops has asked %q", a.requests())
	}
	// A service that promises more, and gives none, is not asked for ever.
	if got, err := all(serve(t, page(9)).store(t, 0).Entries(t.Context(), log, 0)); err != nil || len(got) > 0 {
		t.Errorf("an empty page: %v, %v", got, err)
	}
	if got, err := all(serve(t, fails(404, "unibus:not-found", "")).store(t, 0).Entries(t.Context(), log, 0)); err != nil || len(got) > 0 {
		t.Errorf("an unknown log: %v, %v", got, err)
	}
}

// TestHeads: heads come in the order asked, whatever the order of the answer; a log that is left out has the zero one.
func TestHeads(t *testing.T) {
	a, b, c := crypto.ID{1}, crypto.ID{2}, crypto.ID{3}
	s := serve(t, says([]store.PlaceBody{{Log: c, Seq: 3}, {Log: a, Seq: 1}})).store(t, 0)
	heads, err := s.Heads(t.Context(), a, b, c)
	if err != nil || !reflect.DeepEqual(heads, []ledger.Head{{Seq: 1}, {}, {Seq: 3}}) {
		t.Errorf("got %v, %v", heads, err)
	}
	many := serve(t, says([]store.PlaceBody{}))
	heads, err = many.store(t, 0).Heads(t.Context(), make([]crypto.ID, store.MaxHeads+1)...)
	if err != nil || len(heads) != store.MaxHeads+1 || len(many.requests()) != 2 {
		t.Errorf("%d heads in %d requests, %v", len(heads), len(many.requests()), err)
	}
}

// TestPages: rooms and users are asked for after the last one, until none comes.
func TestPages(t *testing.T) {
	one, two := crypto.ID{1}, crypto.ID{2}
	a := serve(t, says([]store.Room{{ID: one}, {ID: two}}), says([]store.Room{}))
	rooms, err := all(a.store(t, 0).Rooms(t.Context(), crypto.ID{}))
	if err != nil || len(rooms) != 2 || a.requests()[1] != "GET /rooms?after="+two.String() {
		t.Errorf("%d rooms, %v, asked %q", len(rooms), err, a.requests())
	}
	alice, bob := identity(t, 1).Key(), identity(t, 2).Key()
	a = serve(t, says([]store.UserBody{{Key: alice}, {Key: bob}}), says([]store.UserBody{}))
	users, err := all(a.store(t, 0).Users(t.Context(), crypto.PublicKey{}))
	if asked := a.requests(); err != nil || len(users) != 2 || asked[0] != "GET /users?after=" || asked[1] != "GET /users?after="+bob.String() {
		t.Errorf("%d users, %v, asked %q", len(users), err, asked)
	}
	a = serve(t, says([]store.UserBody{{Key: alice}, {Key: bob}}))
	for range a.store(t, 0).Users(t.Context(), bob) {
		break // a reader may stop
	}
	if asked := a.requests(); len(asked) != 1 || asked[0] != "GET /users?after="+bob.String() {
		t.Errorf("whoever stops has asked %q", asked)
	}
}

// TestAllowlist: who is revoked, expired or unknown is not authorized, and is no admin.
func TestAllowlist(t *testing.T) {
	key, past := identity(t, 1).Key(), time.Now().Add(-time.Minute)
	for _, c := range []struct {
		name string
		user store.UserBody
		in   bool
	}{
		{"active", store.UserBody{Key: key, Role: ledger.RoleAdmin, Active: true}, true},
		{"revoked", store.UserBody{Key: key, Role: ledger.RoleAdmin}, false},
		{"expired", store.UserBody{Key: key, Role: ledger.RoleAdmin, Active: true, Expires: &past}, false},
	} {
		if ok, err := serve(t, says(c.user)).store(t, 0).IsAuthorized(t.Context(), key); ok != c.in || err != nil {
			t.Errorf("%s: authorized: %v, %v", c.name, ok, err)
		}
		ok, err := serve(t, says([]store.UserBody{c.user}), says([]store.UserBody{})).store(t, 0).HasAdmin(t.Context())
		if ok != c.in || err != nil {
			t.Errorf("%s: the bus has an admin: %v, %v", c.name, ok, err)
		}
	}
	if ok, err := serve(t, fails(404, "unibus:not-found", "")).store(t, 0).IsAuthorized(t.Context(), key); ok || err != nil {
		t.Errorf("unknown: %v, %v", ok, err)
	}
}

// TestKeys: a caller puts what it made itself and is given its own, as many as are kept at most; a part that is there
// already keeps the rest from nobody.
func TestKeys(t *testing.T) {
	room, self, other := crypto.ID{3}, identity(t, 1).Key(), identity(t, 2).Key()
	a := serve(t, fails(409, "unibus:exists", ""), says(struct{}{}))
	s := a.store(t, 0)
	copies := make([]store.SealedKey, keysPerRequest+1)
	is(t, "a part is there", s.PutKeys(t.Context(), room, 1, crypto.Hash{}, self, copies), store.ErrExists)
	if asked := a.requests(); len(asked) != 2 || !strings.HasPrefix(asked[1], "PUT /rooms/"+room.String()+"/keys {") {
		t.Errorf("%d requests", len(asked))
	}
	is(t, "made by another", s.PutKeys(t.Context(), room, 1, crypto.Hash{}, other, copies), store.ErrDenied)
	_, err := s.Key(t.Context(), room, 1, other)
	is(t, "another's", err, store.ErrDenied)
	if len(a.requests()) != 2 {
		t.Error("the service is asked for what it may not give")
	}
	given := make([]store.SealersCopy, store.MaxSealers+3)
	for i := range given {
		given[i].Sealer = identity(t, byte(i+1)).Key()
	}
	for epoch, path := range map[uint32]string{0: "/keys/latest", 7: "/keys/7"} {
		a := serve(t, says(store.KeyBody{Sealed: given}))
		got, err := a.store(t, 0).Key(t.Context(), room, epoch, self)
		if err != nil || len(got) != store.MaxSealers || got[0].Endpoint != self {
			t.Errorf("%d copies, %v", len(got), err)
		}
		if asked := a.requests()[0]; asked != "GET /rooms/"+room.String()+path {
			t.Errorf("asked %q", asked)
		}
	}
}

// frames answers with frames, and how far the room reaches.
func frames(first, last, lost string, fs ...store.Frame) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for name, value := range map[string]string{"First": first, "Last": last, "Lost": lost} {
			if value != "" {
				w.Header().Set(name, value)
			}
		}
		var b []byte
		for i := range fs {
			b = store.AppendFrame(b, &fs[i])
		}
		_, _ = w.Write(b)
	}
}

// TestFrames: what is stored comes with how far the room reaches; an answer that does not say so is none.
func TestFrames(t *testing.T) {
	f := store.Frame{Seq: 4, Time: time.UnixMicro(7), Data: []byte("frame")}
	past, err := serve(t, frames("2", "9", "3", f)).store(t, 0).Frames(t.Context(), crypto.ID{3}, store.FramesQuery{})
	if want := (store.Past{First: 2, Last: 9, Lost: 3, Frames: []store.Frame{f}}); err != nil || !reflect.DeepEqual(past, want) {
		t.Errorf("got %+v, %v", past, err)
	}
	for name, answer := range map[string]func(http.ResponseWriter){
		"no first place":           frames("", "9", ""),
		"no last place":            frames("1", "", ""),
		"a place that is none":     frames("1", "nine", ""),
		"more lost than there was": frames("1", "9", "10"),
		"lost what is no place":    frames("1", "9", "x"),
		"frames that break off":    func(w http.ResponseWriter) { frames("1", "9", "", f)(w); _, _ = w.Write([]byte("x")) },
		"frames out of order":      frames("1", "9", "", f, f),
	} {
		_, err := serve(t, answer).store(t, 0).Frames(t.Context(), crypto.ID{3}, store.FramesQuery{})
		is(t, name, err, store.ErrUnavailable)
	}
	for want, q := range map[string]store.FramesQuery{
		"after=5":           {After: 5},
		"bytes=100&after=0": {Bytes: 100},
		"last=0":            {None: true, After: 5},
		"last=3":            {Last: 3},
		"since=7":           {Since: time.UnixMicro(7)},
	} {
		got := framesQuery(q)
		for _, pair := range strings.Split(want, "&") {
			key, value, _ := strings.Cut(pair, "=")
			if got.Get(key) != value || len(got) != len(strings.Split(want, "&")) {
				t.Errorf("%+v asks for %q, want %q", q, got.Encode(), want)
			}
		}
	}
}

// TestNoAddress: what is no address is asked nothing.
func TestNoAddress(t *testing.T) {
	_, err := New(Options{Identity: identity(t, 1), URL: "http://["}).Bus(t.Context())
	if err == nil || errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}
