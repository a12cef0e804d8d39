package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/store/storetest"
)

// front is the API over a store in a file, asked directly: without NATS, and without turns. On its bus are an admin, bob and
// carol; mallory is nobody. The admin's room has bob in it, the room it left has nobody of them but bob.
type front struct {
	*testing.T
	store                      *ailing
	handler                    http.Handler
	bus                        *ledger.State
	room                       *ledger.State
	admin, bob, carol, mallory *crypto.Identity
	drops                      []store.Notice // entries whose authors waited until connections were dropped
	streams                    []crypto.ID    // rooms whose streams were made what their logs say
	failing                    error          // of both
}

func newFront(t *testing.T) *front {
	t.Helper()
	f := &front{
		T: t, store: &ailing{Backend: openStore(t)},
		admin: person(t, 'a'), bob: person(t, 'b'), carol: person(t, 'c'), mallory: person(t, 'm'),
	}
	bus, err := store.Found(t.Context(), f.store, f.admin, "admin", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f.bus = bus
	storetest.Write(t, f.store, bus, f.admin, &ledger.Add{Users: []ledger.NewUser{
		{Key: f.bob.Key(), Name: "bob", Role: ledger.RoleUser}, {Key: f.carol.Key(), Name: "carol", Role: ledger.RoleUser},
	}})
	f.room = f.newRoom("theirs")
	storetest.Write(t, f.store, f.room, f.admin, &ledger.Invite{Members: []ledger.NewMember{{Key: f.bob.Key(), Role: ledger.RoleMember}}})
	logs := newLogs(f.store)
	a := newAPI(apiOptions{
		store: f.store, logs: logs, users: &allowlist{f.store, logs, bus.ID}, bus: bus.ID, maxRooms: DefaultMaxRooms, now: time.Now,
		stream: func(_ context.Context, room crypto.ID) error { f.streams = append(f.streams, room); return f.failing },
		drop:   func(_ context.Context, n store.Notice) error { f.drops = append(f.drops, n); return f.failing },
	})
	f.handler = a.handler(a.routes())
	return f
}

// newRoom makes a room of the admin without encryption.
func (f *front) newRoom(subject string) *ledger.State {
	f.Helper()
	s := new(ledger.State)
	storetest.Write(f.T, f.store, s, f.admin, &ledger.Create{Bus: f.bus.ID, Subject: subject, Policy: plainPolicy(), Nonce: make([]byte, 16)})
	return s
}

// entry is the next of a log by someone, as the body of a request. The log stays as it is.
func (f *front) entry(log *ledger.State, by *crypto.Identity, body ledger.Body) store.EntryBody {
	f.Helper()
	statement, err := log.Next(by, body, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	return store.EntryBody{Entry: statement}
}

// forged is an entry that names the admin and is signed by bob.
func (f *front) forged(log *ledger.State, body ledger.Body) store.EntryBody {
	f.Helper()
	d, err := log.Draft(f.admin.Key(), body, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	return store.EntryBody{Entry: d.Sign(f.bob)}
}

// first is the first entry of a room.
func (f *front) first(bus crypto.ID, subject string) store.EntryBody {
	f.Helper()
	return f.entry(new(ledger.State), f.admin, &ledger.Create{Bus: bus, Subject: subject, Policy: plainPolicy(), Nonce: make([]byte, 16)})
}

// ask asks as someone. A body that is a string is sent as it is, any other as JSON.
func (f *front) ask(by *crypto.Identity, method, path string, in any) *httptest.ResponseRecorder {
	f.Helper()
	body, raw := in.(string)
	if !raw {
		text, err := json.Marshal(in)
		if err != nil {
			f.Fatal(err)
		}
		body = string(text)
	}
	r := httptest.NewRequestWithContext(f.Context(), method, path, strings.NewReader(body))
	if by != nil {
		token, err := by.Token(crypto.Token{Use: crypto.UseAPI, Bus: &f.bus.ID, From: time.Now(), Until: time.Now().Add(time.Minute)})
		if err != nil {
			f.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

// refusal is a request that is refused, and how.
type refusal struct {
	by           *crypto.Identity
	method, path string
	in           any
	status       int
	says         string
}

// refuses has each of the requests made, by name.
func (f *front) refuses(requests map[string]refusal) {
	f.Helper()
	for name, c := range requests {
		w := f.ask(c.by, c.method, c.path, c.in)
		var p store.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			f.Errorf("%s: %d, %q is no problem", name, w.Code, w.Body)
			continue
		}
		if w.Code != c.status || p.Status != c.status || w.Header().Get("Content-Type") != problemType || !strings.Contains(p.Detail, c.says) {
			f.Errorf("%s: %d %s, want %d %s", name, w.Code, p.Detail, c.status, c.says)
		}
	}
}

// TestAPIUnread: what cannot be read of a request is refused as not valid, and named.
func TestAPIUnread(t *testing.T) {
	f := newFront(t)
	f.refuses(map[string]refusal{
		"no token":              {nil, "GET", "/bus", nil, 401, "no bearer token"},
		"nobody's token":        {f.mallory, "GET", "/bus", nil, 403, "is not on the allowlist"},
		"a body that is none":   {f.admin, "POST", "/heads", "{", 400, "the body is not as expected"},
		"a body of other form":  {f.admin, "POST", "/logs", `{"entry":7}`, 400, "the body is not as expected"},
		"a body without end":    {f.admin, "POST", "/logs", strings.Repeat(" ", maxRequest+1), 413, "the limit is"},
		"no id of a log":        {f.admin, "GET", "/logs/x", nil, 400, ""},
		"nor to write to":       {f.admin, "POST", "/logs/x", nil, 400, ""},
		"no id of a room":       {f.admin, "GET", "/rooms/x", nil, 400, ""},
		"nor of its members":    {f.admin, "GET", "/rooms/x/members", nil, 400, ""},
		"nor of its keys":       {f.admin, "GET", "/rooms/x/keys/1", nil, 400, ""},
		"nor to keep keys of":   {f.admin, "PUT", "/rooms/x/keys", nil, 400, ""},
		"no key of a card":      {f.admin, "GET", "/cards/x", nil, 400, ""},
		"nor to put one of":     {f.admin, "PUT", "/cards/x", nil, 400, ""},
		"no key of a user":      {f.admin, "GET", "/users/x", nil, 400, ""},
		"nor of a member":       {f.admin, "GET", "/members/x/rooms", nil, 400, ""},
		"after what is no id":   {f.admin, "GET", "/rooms?after=x", nil, 400, ""},
		"after what is no key":  {f.admin, "GET", "/users?after=x", nil, 400, ""},
		"a limit that is none":  {f.admin, "GET", "/users?limit=x", nil, 400, "limit is not a number"},
		"nor of entries":        {f.admin, "GET", "/logs/" + f.bus.ID.String() + "?limit=-1", nil, 400, "limit is not a number"},
		"after what is no seq":  {f.admin, "GET", "/logs/" + f.bus.ID.String() + "?after=x", nil, 400, "after is not a number"},
		"an epoch that is none": {f.admin, "GET", "/rooms/" + f.room.ID.String() + "/keys/0", nil, 400, "an epoch is a number from 1, or latest"},
		"nor a word for one":    {f.admin, "GET", "/rooms/" + f.room.ID.String() + "/keys/last", nil, 400, "an epoch is a number from 1, or latest"},
	})
	for _, route := range []string{
		"POST /logs/" + f.bus.ID.String(), "PUT /rooms/" + f.room.ID.String() + "/keys", "POST /cards", "POST /cards/query", "PUT /cards/" + f.admin.Key().String(),
	} {
		method, path, _ := strings.Cut(route, " ")
		f.refuses(map[string]refusal{route: {f.admin, method, path, "[", 400, "the body is not as expected"}})
	}
}

// TestAPIStrangers: what is not the caller's to see is not there, and what is not the caller's to do is refused; an admin of
// the bus sees all of it.
func TestAPIStrangers(t *testing.T) {
	f := newFront(t)
	room := "/rooms/" + f.room.ID.String()
	card, err := f.bob.Card()
	if err != nil {
		t.Fatal(err)
	}
	f.refuses(map[string]refusal{
		"a room":                    {f.carol, "GET", room, nil, 404, "not found"},
		"its members":               {f.carol, "GET", room + "/members", nil, 404, "not found"},
		"its keys":                  {f.carol, "GET", room + "/keys/1", nil, 404, "not found"},
		"the latest of them":        {f.carol, "GET", room + "/keys/latest", nil, 404, "not found"},
		"its log":                   {f.carol, "GET", "/logs/" + f.room.ID.String(), nil, 404, "not found"},
		"an entry of it":            {f.carol, "POST", "/logs/" + f.room.ID.String(), f.entry(f.room, f.bob, &ledger.Leave{}), 404, "not found"},
		"its subject":               {f.carol, "GET", "/rooms?subject=theirs", nil, 404, "room theirs: not found"},
		"a subject of none":         {f.carol, "GET", "/rooms?subject=none", nil, 404, "room none: not found"},
		"all rooms":                 {f.carol, "GET", "/rooms", nil, 403, "only an admin lists all rooms"},
		"another's rooms":           {f.carol, "GET", "/members/" + f.bob.Key().String() + "/rooms", nil, 403, "only an admin lists the rooms of someone else"},
		"another's card":            {f.carol, "PUT", "/cards/" + f.bob.Key().String(), store.CardBody{Card: card}, 403, "only an admin puts the card of someone else"},
		"a card of none":            {f.carol, "GET", "/cards/" + f.bob.Key().String(), nil, 404, "not found"},
		"one who never was a user":  {f.carol, "GET", "/users/" + f.mallory.Key().String(), nil, 404, "not found"},
		"a log that is not there":   {f.admin, "GET", "/logs/" + crypto.ID{1}.String(), nil, 404, "not found"},
		"a room that is not there":  {f.admin, "GET", "/rooms/" + crypto.ID{1}.String(), nil, 404, "not found"},
		"the bus, asked for as one": {f.admin, "GET", "/rooms/" + f.bus.ID.String(), nil, 404, "not found"},
	})
	for path, by := range map[string]*crypto.Identity{
		room + "?stream=0": f.admin, room + "/members": f.admin, "/rooms?stream=0&subject=theirs": f.admin, "/rooms": f.admin,
		"/members/" + f.bob.Key().String() + "/rooms": f.bob, "/logs/" + f.room.ID.String(): f.bob, "/users?limit=2": f.carol, "/bus": f.carol,
	} {
		if w := f.ask(by, "GET", path, nil); w.Code != 200 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := f.ask(f.carol, "GET", "/members/"+f.carol.Key().String()+"/rooms", nil); w.Code != 200 || strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("the rooms of one who is in none: %d %s", w.Code, w.Body)
	}
}

// TestAPIEntries: what may not be the next entry is refused, in which case nothing is dropped for it; what may be is answered
// when its room has its stream and whoever it concerns is disconnected.
func TestAPIEntries(t *testing.T) {
	f := newFront(t)
	log, bus := "/logs/"+f.room.ID.String(), "/logs/"+f.bus.ID.String()
	invite := &ledger.Invite{Members: []ledger.NewMember{{Key: f.carol.Key(), Role: ledger.RoleMember}}}
	good := f.entry(f.room, f.admin, invite)
	behind := new(ledger.State).With(mustCheck(t, f.first(f.bus.ID, "another").Entry))
	f.refuses(map[string]refusal{
		"no entry":              {f.admin, "POST", log, store.EntryBody{Entry: []byte("none")}, 400, ""},
		"of another log":        {f.admin, "POST", log, f.entry(f.bus, f.admin, &ledger.Revoke{Keys: []crypto.PublicKey{f.carol.Key()}}), 400, "the entry is of another log"},
		"of no log that stands": {f.admin, "POST", "/logs/" + behind.ID.String(), f.entry(behind, f.admin, invite), 404, "not found"},
		"signed by another":     {f.bob, "POST", log, f.forged(f.room, &ledger.Archive{}), 400, "signature"},
		"no first entry":        {f.admin, "POST", "/logs", good, 400, "entry 1 is not valid"},
		"of another bus":        {f.admin, "POST", "/logs", f.first(crypto.ID{9}, "elsewhere"), 400, "it is not the first entry of a room of this bus"},
		"a subject that is had": {f.admin, "POST", "/logs", f.first(f.bus.ID, "theirs"), 409, "already exists"},
		"by nobody":             {f.admin, "POST", "/logs", f.byMallory(), 403, "is not on the allowlist"},
	})
	if len(f.drops)+len(f.streams) > 0 {
		t.Errorf("for what was refused %d connections were dropped and %d streams were made", len(f.drops), len(f.streams))
	}
	if w := f.ask(f.admin, "POST", log, good); w.Code != 201 || len(f.drops) != 1 || len(f.streams) != 0 {
		t.Errorf("a good one: %d %s, %d dropped, %d streams", w.Code, w.Body, len(f.drops), len(f.streams))
	}
	if w := f.ask(f.admin, "POST", log, good); w.Code != 200 {
		t.Errorf("once more: %d %s", w.Code, w.Body)
	}
	w := f.ask(f.admin, "POST", log, f.entry(f.room, f.bob, &ledger.Leave{}))
	var p store.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 409 || p.Head == nil || p.Head.Seq != 3 {
		t.Errorf("one that came too late: %d %+v, %v", w.Code, p, err)
	}
	f.failing = store.ErrUnavailable
	f.refuses(map[string]refusal{
		"dropped in vain":  {f.admin, "POST", bus, f.entry(f.bus, f.admin, &ledger.Revoke{Keys: []crypto.PublicKey{f.carol.Key()}}), 503, "entry 3 is stored, but not everyone it concerns is disconnected yet"},
		"without a stream": {f.admin, "POST", "/logs", f.first(f.bus.ID, "streamless"), 503, "unavailable"},
	})
}

// TestAPIPolicy: a change of a room's policy is answered when the room's stream is what it says, and not before.
func TestAPIPolicy(t *testing.T) {
	f := newFront(t)
	policy := plainPolicy()
	policy.Retain = nil
	in := f.entry(f.room, f.admin, &ledger.SetPolicy{Policy: policy})
	f.failing = store.ErrUnavailable
	f.refuses(map[string]refusal{"its stream cannot be changed": {f.admin, "POST", "/logs/" + f.room.ID.String(), in, 503, "unavailable"}})
	if !slices.Equal(f.streams, []crypto.ID{f.room.ID}) || len(f.drops) > 0 {
		t.Errorf("streams of %v, %d dropped", f.streams, len(f.drops))
	}
}

// mustCheck is the first entry of a log.
func mustCheck(t *testing.T, statement []byte) *ledger.Entry {
	t.Helper()
	e, err := new(ledger.State).Check(statement)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// byMallory is the first entry of a room by one who is nobody on the bus.
func (f *front) byMallory() store.EntryBody {
	f.Helper()
	return f.entry(new(ledger.State), f.mallory, &ledger.Create{Bus: f.bus.ID, Subject: "mallorys", Policy: plainPolicy(), Nonce: make([]byte, 16)})
}

// TestAPICards: many cards are kept or none, each of whoever it says; those of people who said hello before they were on
// the allowlist are given out once they are, and not before.
func TestAPICards(t *testing.T) {
	f := newFront(t)
	card := func(of *crypto.Identity) store.Card {
		t.Helper()
		statement, err := of.Card()
		if err != nil {
			t.Fatal(err)
		}
		return store.Card{Endpoint: of.Key(), Statement: statement}
	}
	many := slices.Repeat([]store.Card{card(f.admin)}, store.MaxCards+1)
	keys := []crypto.PublicKey{f.bob.Key(), f.bob.Key(), f.mallory.Key(), f.carol.Key()}
	f.refuses(map[string]refusal{
		"another's card":     {f.carol, "POST", "/cards", store.CardsBody{Cards: []store.Card{card(f.carol), card(f.bob)}}, 403, "only an admin"},
		"under another's":    {f.admin, "POST", "/cards", store.CardsBody{Cards: []store.Card{card(f.carol), {Endpoint: f.bob.Key(), Statement: card(f.carol).Statement}}}, 400, ""},
		"too many":           {f.admin, "POST", "/cards", store.CardsBody{Cards: many}, 400, "at most 500 cards"},
		"too many to ask of": {f.admin, "POST", "/cards/query", store.EndpointsBody{Endpoints: slices.Repeat(keys, store.MaxCards)}, 400, "at most 500 cards"},
		"none was kept":      {f.carol, "GET", "/cards/" + f.carol.Key().String(), nil, 404, "not found"},
	})
	if w := f.ask(f.admin, "POST", "/cards/query", store.EndpointsBody{Endpoints: []crypto.PublicKey{f.bob.Key()}}); strings.TrimSpace(w.Body.String()) != `{"cards":[]}` {
		t.Errorf("none that is asked for is known: %d %s", w.Code, w.Body)
	}
	c := &cardAPI{keyring: f.store, users: f.store, waiting: &waitingCards{}}
	for _, who := range []*crypto.Identity{f.bob, f.bob, f.mallory} {
		c.waiting.offer(card(who).Statement)
	}
	c.waiting.offer([]byte("no card"))
	for range 2 { // from memory, then from the store
		cards, err := c.find(t.Context(), keys...)
		if err != nil || len(cards) != 1 || cards[0].Endpoint != f.bob.Key() || !bytes.Equal(cards[0].Statement, card(f.bob).Statement) {
			t.Errorf("%d cards, %v", len(cards), err)
		}
		c.waiting = &waitingCards{}
	}
}

// TestAPIStoreSilent: what a store does not answer is unavailable, and nothing that is not there.
func TestAPIStoreSilent(t *testing.T) {
	f := newFront(t)
	if w := f.ask(f.carol, "GET", "/bus", nil); w.Code != 200 { // the roster is known from here on
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	in := store.KeysBody{Epoch: 1, Keys: []store.MembersCopy{{Endpoint: f.carol.Key(), Sealed: make([]byte, crypto.SealedSize)}}}
	put := refusal{f.carol, "PUT", "/rooms/" + crypto.ID{7}.String() + "/keys", in, 503, "unavailable"}
	f.store.heads = true
	f.refuses(map[string]refusal{
		"a key of a room that is not there": put,
		"where logs end":                    {f.carol, "POST", "/heads", store.LogsBody{Logs: []crypto.ID{f.bus.ID}}, 503, "unavailable"},
		"where a log ends":                  {f.carol, "GET", "/logs/" + f.bus.ID.String(), nil, 503, "unavailable"},
	})
	f.store.heads = false
	if w := f.ask(put.by, put.method, put.path, put.in); w.Code != 204 {
		t.Errorf("once it answers: %d %s", w.Code, w.Body)
	}
	f.store.entries = true
	f.refuses(map[string]refusal{
		"entries": {f.carol, "GET", "/logs/" + f.bus.ID.String(), nil, 503, "unavailable"},
		"a room":  {f.bob, "GET", "/rooms/" + f.room.ID.String(), nil, 503, "unavailable"},
		"heads":   {f.carol, "POST", "/heads", store.LogsBody{Logs: []crypto.ID{f.room.ID}}, 503, "unavailable"},
		"the bus": {f.bob, "GET", "/bus", nil, 503, "unavailable"},
	})
}

// TestAPIHeads: where logs end is told of those that the caller may read, once for each that it asks for.
func TestAPIHeads(t *testing.T) {
	f := newFront(t)
	logs := []crypto.ID{f.room.ID, f.bus.ID, f.room.ID, {1}}
	for name, c := range map[string]struct {
		by   *crypto.Identity
		want int
	}{"an admin": {f.admin, 2}, "a member": {f.bob, 2}, "a stranger": {f.carol, 1}} {
		var places []store.PlaceBody
		w := f.ask(c.by, "POST", "/heads", store.LogsBody{Logs: logs})
		if err := json.Unmarshal(w.Body.Bytes(), &places); err != nil || len(places) != c.want {
			t.Errorf("%s is told of %d: %s", name, len(places), w.Body)
		}
		for _, p := range places {
			if p.Log == f.bus.ID && (p.Seq != 2 || p.Hash != f.bus.Head.Hash) || p.Log == f.room.ID && p.Hash != f.room.Head.Hash {
				t.Errorf("%s is told that %s ends at %d", name, p.Log, p.Seq)
			}
		}
	}
	f.refuses(map[string]refusal{
		"of too many": {f.admin, "POST", "/heads", store.LogsBody{Logs: make([]crypto.ID, store.MaxHeads+1)}, 400, "at most 1000 logs"},
	})
}

// TestAPILogParts: an answer with entries has as many as were asked for, no more than fit it, and none behind the end
// that it tells of.
func TestAPILogParts(t *testing.T) {
	f := newFront(t)
	part := func(query string, entries int, end uint64) {
		t.Helper()
		var body store.LogBody
		w := f.ask(f.admin, "GET", "/logs/"+f.bus.ID.String()+query, nil)
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 200 {
			t.Fatalf("%d, %v", w.Code, err)
		}
		if len(body.Entries) != entries || body.Head.Seq != end {
			t.Errorf("%q: %d entries of a log that ends at %d, not %d of %d", query, len(body.Entries), body.Head.Seq, entries, end)
		}
	}
	part("?limit=1", 1, 2)
	f.store.reading = func() {
		f.store.reading = nil
		storetest.Write(t, f.store, f.bus, f.admin, &ledger.Revoke{Keys: []crypto.PublicKey{f.carol.Key()}})
	}
	part("?after=0", 2, 2)
	for part := range byte(2) { // a little less than one entry may have
		var many []ledger.NewUser
		for i := range 4000 {
			many = append(many, ledger.NewUser{Key: f.key(i, part), Name: fmt.Sprintf("%063d%d", i, part), Role: ledger.RoleUser})
		}
		storetest.Write(t, f.store, f.bus, f.admin, &ledger.Add{Users: many})
	}
	part("", 4, 5)
	part("?after=3", 1, 5)
	part("?after=4", 1, 5)
}

// key is one of many keys.
func (f *front) key(i int, of byte) crypto.PublicKey {
	f.Helper()
	id, err := crypto.NewIdentity([32]byte{'k', byte(i), byte(i >> 8), of})
	if err != nil {
		f.Fatal(err)
	}
	return id.Key()
}
