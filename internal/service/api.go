package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

const (
	maxRequest = 1 << 20
	maxPage    = 600 << 10 // bytes of statements in one answer
	maxRecords = 1000      // users or rooms in one answer
	maxCallers = 4096      // remembered as listing something
)

// api answers the membership API.
type api struct {
	store   store.Backend
	logs    *logs
	bus     crypto.ID
	cards   *waitingCards
	stream  func(ctx context.Context, room crypto.ID) error // makes a room's stream what its log says
	drop    func(ctx context.Context, n store.Notice) error // ends connections of those whose access an entry ended
	past    *bus.Past
	frames  int                                      // bytes of a room's past in one answer
	endings *rates[crypto.PublicKey]                 // of entries that end others' connections, by author
	lists   *recent[crypto.PublicKey, chan struct{}] // held by the one request of a caller that lists something
	quota   *quota
	staging *staging
	log     *slog.Logger
	now     func() time.Time
}

// call is one authenticated request.
type call struct {
	*http.Request
	caller crypto.PublicKey
	admin  bool
}

// routes are the API, as docs/openapi.yaml describes it.
func (a *api) routes() map[string]func(*call) (int, any, error) {
	return map[string]func(*call) (int, any, error){
		"GET /bus":                       a.getBus,
		"GET /logs/{log}":                a.onOneCore(a.getLog),
		"POST /heads":                    a.large(a.postHeads),
		"POST /logs":                     a.large(a.createRoom),
		"POST /logs/{log}":               a.large(a.appendEntry),
		"PUT /rooms/{room}/keys":         a.large(a.putKeys),
		"GET /rooms/{room}/keys/{epoch}": a.getKey,
		"POST /cards":                    a.large(a.postCards),
		"POST /cards/query":              a.large(a.queryCards),
		"PUT /cards/{endpoint}":          a.large(a.putCard),
		"GET /cards/{endpoint}":          a.getCard,
		"GET /members/{endpoint}/rooms":  a.onOneCore(a.getRoomsOf),
		"GET /rooms":                     a.onOneCore(a.getRooms),
		"GET /rooms/{room}":              a.getRoom,
		"GET /rooms/{room}/members":      a.getMembers,
		"GET /rooms/{room}/frames":       a.getFrames,
		"GET /users":                     a.onOneCore(a.getUsers),
		"GET /users/{endpoint}":          a.getUser,
	}
}

// handler answers requests to the routes.
func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range a.routes() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, h) })
	}
	return routed(mux)
}

// routed answers requests to paths that a mux does not have, and with methods that a path does not take, before
// anyone is asked for a token: what routes there are is no secret.
func routed(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		said := httptest.NewRecorder() // only the mux knows which methods it would take
		h.ServeHTTP(said, r)
		if allow := said.Header().Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
			writeProblem(w, fmt.Errorf("%s %s: %w: %s", r.Method, r.URL.Path, errMethod, allow))
			return
		}
		writeProblem(w, fmt.Errorf("%s %s: %w: no such route", r.Method, r.URL.Path, store.ErrNotFound))
	})
}

func (a *api) serve(w http.ResponseWriter, r *http.Request, h func(*call) (int, any, error)) {
	c, err := a.authenticate(r)
	if err != nil {
		writeProblem(w, err)
		return
	}
	status, body, err := h(c)
	switch {
	case err != nil:
		writeProblem(w, err)
	case body == nil:
		w.WriteHeader(status)
	case isFrames(body):
		writeFrames(w, body.(*store.Past))
	default:
		writeJSON(w, status, body)
	}
}

// onOneCore lets each caller have one request at a time of those that are nothing but work: more at once
// would not be answered any sooner, and take the processor from others.
func (a *api) onOneCore(h func(*call) (int, any, error)) func(*call) (int, any, error) {
	return func(c *call) (int, any, error) {
		release, err := hold(c.Context(), a.lists.getOrMake(c.caller, func() chan struct{} { return make(chan struct{}, 1) }))
		if err != nil {
			return 0, nil, err
		}
		defer release()
		return h(c)
	}
}

// large is onOneCore for requests with a large body, which are work to read, check and store.
func (a *api) large(h func(*call) (int, any, error)) func(*call) (int, any, error) {
	one := a.onOneCore(h)
	return func(c *call) (int, any, error) {
		if c.ContentLength < 0 || c.ContentLength > largeBody {
			return one(c)
		}
		return h(c)
	}
}

// largeBody is how many bytes of a request make it more work than most.
const largeBody = 4 << 10

// authenticate knows a caller by its token, and the allowlist by asking the store every time.
func (a *api) authenticate(r *http.Request) (*call, error) {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, fmt.Errorf("%w: no bearer token", errUnauthenticated)
	}
	t, err := crypto.OpenToken(bearer, crypto.UseAPI, &a.bus, a.now())
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errUnauthenticated, err)
	}
	u, err := a.logs.user(r.Context(), a.bus, t.Key, a.now())
	if err != nil {
		return nil, err
	}
	return &call{r, t.Key, u.admin}, nil
}

// body reads a request's JSON body.
func (c *call) body(v any) error {
	raw, err := io.ReadAll(io.LimitReader(c.Body, maxRequest+1))
	if err != nil {
		return fmt.Errorf("%w: %v", store.ErrInvalid, err)
	}
	if len(raw) > maxRequest {
		return fmt.Errorf("%w: the limit is %d bytes", errTooLarge, maxRequest)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%w: the body is not as expected: %v", store.ErrInvalid, err)
	}
	return nil
}

func (c *call) id(name string) (crypto.ID, error) {
	id, err := crypto.ParseID(c.PathValue(name))
	if err != nil {
		return id, fmt.Errorf("%w: %v", store.ErrInvalid, err)
	}
	return id, nil
}

func (c *call) endpoint() (crypto.PublicKey, error) {
	key, err := crypto.ParsePublicKey(c.PathValue("endpoint"))
	if err != nil {
		return key, fmt.Errorf("%w: %v", store.ErrInvalid, err)
	}
	return key, nil
}

func (c *call) number(name string, otherwise uint64) (uint64, error) {
	s := c.URL.Query().Get(name)
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%w: %s is not a number", store.ErrInvalid, name)
	}
	return n, nil
}

// member returns a room that the caller is or was in, or that an admin reads. To anyone else there is no such room.
func (a *api) member(c *call, room crypto.ID) (*ledger.Room, error) {
	s, err := a.logs.state(c.Context(), room)
	if err == nil && (s.Room == nil || !c.admin && !s.Room.Known(c.caller)) {
		err = fmt.Errorf("room %s: %w", room, store.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return s.Room, nil
}

func (a *api) getBus(c *call) (int, any, error) {
	body, err := a.busBody(c.Context())
	return http.StatusOK, body, err
}

func (a *api) busBody(ctx context.Context) (store.BusBody, error) {
	s, err := a.logs.state(ctx, a.bus)
	if err != nil {
		return store.BusBody{}, err
	}
	return store.BusBody{ID: s.ID, Name: s.Bus.Name, Founded: s.Bus.Founded}, nil
}

func (a *api) getLog(c *call) (int, any, error) {
	log, err := c.id("log")
	if err != nil {
		return 0, nil, err
	}
	after, err := c.number("after", 0)
	if err != nil {
		return 0, nil, err
	}
	limit, err := c.number("limit", maxRecords)
	if err != nil {
		return 0, nil, err
	}
	body := store.LogBody{Log: log, Entries: [][]byte{}}
	if log != a.bus {
		if _, err := a.member(c, log); err != nil {
			return 0, nil, err
		}
	}
	was := a.logs.reached(log)
	body.Head, err = store.HeadOf(c.Context(), a.store, log)
	if err == nil {
		err = goesOn(log, was, body.Head)
	}
	if err != nil || limit == 0 {
		return http.StatusOK, body, err
	}
	size, whole := 0, true
	for e, err := range a.store.Entries(c.Context(), log, after) {
		if err != nil {
			return 0, nil, err
		}
		size += len(e.Statement)
		if len(body.Entries) > 0 && size > maxPage || e.Seq > body.Head.Seq {
			whole = false
			break
		}
		if body.Entries = append(body.Entries, e.Statement); uint64(len(body.Entries)) == limit {
			whole = false
			break
		}
	}
	if next := after + uint64(len(body.Entries)) + 1; whole && next <= body.Head.Seq {
		return 0, nil, fmt.Errorf("log %s: %w: entry %d is missing, and the log goes to entry %d", log, store.ErrDamaged, next, body.Head.Seq)
	}
	return http.StatusOK, body, nil
}

// postHeads answers for the logs that the caller may read, and leaves the others out.
func (a *api) postHeads(c *call) (int, any, error) {
	var in store.LogsBody
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if len(in.Logs) > store.MaxHeads {
		return 0, nil, fmt.Errorf("%w: the heads of at most %d logs in one request", store.ErrInvalid, store.MaxHeads)
	}
	slices.SortFunc(in.Logs, crypto.ID.Compare)
	logs := slices.Compact(in.Logs)
	was := make([]ledger.Head, len(logs))
	for i, log := range logs {
		was[i] = a.logs.reached(log)
	}
	heads, err := a.store.Heads(c.Context(), logs...)
	if err != nil {
		return 0, nil, err
	}
	may, err := a.readable(c)
	if err != nil {
		return 0, nil, err
	}
	places := []store.PlaceBody{}
	for i, log := range logs {
		if heads[i].Seq == 0 {
			continue
		}
		ok, err := may(log)
		if ok && err == nil {
			err = goesOn(log, was[i], heads[i])
		}
		if err != nil {
			return 0, nil, err
		}
		if ok {
			places = append(places, store.PlaceBody{Log: log, Seq: heads[i].Seq, Hash: heads[i].Hash})
		}
	}
	return http.StatusOK, places, nil
}

// readable says which logs the caller may read, as member does. The views know the caller's rooms; only of a
// room that the caller is not in the log is asked whether that was different once.
func (a *api) readable(c *call) (may func(log crypto.ID) (bool, error), err error) {
	in := map[crypto.ID]bool{a.bus: true}
	if !c.admin {
		rooms, err := a.store.ListRoomsForEndpoint(c.Context(), c.caller)
		if err != nil {
			return nil, err
		}
		for _, r := range rooms {
			in[r.ID] = true
		}
	}
	return func(log crypto.ID) (bool, error) {
		if c.admin || in[log] {
			return true, nil
		}
		_, err := a.member(c, log)
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}, nil
}

// active checks that the author of an entry is on the allowlist. What else an honest author may not have known when it
// signed, as that someone invited is on it no more, refuses nothing: it may sign no other entry for the place.
func (a *api) active(ctx context.Context, e *ledger.Entry) error {
	if e.Log == a.bus { // its own rules say who may, and it is being read
		return a.logs.listed(ctx, e.By)
	}
	_, err := a.logs.user(ctx, a.bus, e.By, a.now())
	return err
}

// keyed checks that whoever begins an epoch has its own copy of the key: without one nobody may ever have it.
func (a *api) keyed(ctx context.Context, room crypto.ID, e *ledger.Entry) error {
	k := e.NewEpoch()
	if k == nil {
		return nil
	}
	if remove, ok := e.Body.(*ledger.Remove); ok && slices.Contains(remove.Keys, e.By) {
		return nil // it is for the others
	}
	of := store.SealedCopy{Room: room, Epoch: k.Epoch, Commit: k.Commit, SealedKey: store.SealedKey{Endpoint: e.By, Sealer: e.By}}
	has, err := a.store.HasCopy(ctx, of)
	if err == nil && !has {
		err = fmt.Errorf("%w: the key of epoch %d is not there for its own author; it is staged before the entry", store.ErrInvalid, k.Epoch)
	}
	return err
}

func (a *api) createRoom(c *call) (int, any, error) {
	var in store.EntryBody
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	var fold ledger.Fold
	change, err := store.Advance(&fold, in.Entry)
	if err != nil {
		return 0, nil, err
	}
	s := fold.State()
	if s.Room == nil || s.Room.Bus != a.bus {
		return 0, nil, fmt.Errorf("%w: it is not the first entry of a room of this bus", store.ErrInvalid)
	}
	commit := func() error { // when its author's turn has come, which may be no user any more by then
		if err := a.active(c.Context(), change.Entry); err != nil {
			return err
		}
		return a.store.Append(c.Context(), change)
	}
	if err := a.quota.create(c.Context(), change.Entry.By, s.ID, commit); err != nil {
		return 0, nil, err
	}
	if err := a.stream(c.Context(), s.ID); err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, store.PlaceBody{Log: s.ID, Seq: 1, Hash: s.Head.Hash}, nil
}

func (a *api) appendEntry(c *call) (int, any, error) {
	log, err := c.id("log")
	if err != nil {
		return 0, nil, err
	}
	var in store.EntryBody
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	policy := false
	place, fresh, err := a.logs.append(c.Context(), log, in.Entry, func(s *ledger.State, e *ledger.Entry) error {
		if s.Room != nil && !c.admin && !s.Room.Known(c.caller) {
			return fmt.Errorf("room %s: %w", log, store.ErrNotFound)
		}
		_, policy = e.Body.(*ledger.SetPolicy)
		if s.Room != nil && endsConnections(s.Room, e) && !a.endings.of(e.By).AllowN(a.now(), 1) {
			return fmt.Errorf("%w: so many changes that end others' connections", errBusy)
		}
		if err := a.active(c.Context(), e); err != nil {
			return err
		}
		return a.keyed(c.Context(), log, e)
	})
	if err != nil {
		return 0, nil, err
	}
	if policy {
		if err := a.stream(c.Context(), log); err != nil {
			return 0, nil, err
		}
	}
	if err := a.drop(c.Context(), store.Notice{Log: log, Seq: place.Seq}); err != nil {
		return 0, nil, fmt.Errorf("entry %d is stored, but not everyone it concerns is disconnected yet: %w", place.Seq, err)
	}
	if fresh {
		return http.StatusCreated, place, nil
	}
	return http.StatusOK, place, nil
}

// Anyone can invite anyone into a room of its own, and then do there what ends their connections: so each author
// has only so many of such entries.
const (
	endingRate  = 2 // in a second
	endingBurst = 256
)

// endsConnections reports whether the next entry of a room may end connections of others than its author.
func endsConnections(r *ledger.Room, e *ledger.Entry) bool {
	switch b := e.Body.(type) {
	case *ledger.Remove, *ledger.Archive:
		return true
	case *ledger.MemberRole:
		return !b.Role.Writes()
	case *ledger.SetPolicy:
		return b.Policy.Stored() != r.Policy.Stored()
	}
	return false
}

func (a *api) putKeys(c *call) (int, any, error) {
	room, err := c.id("room")
	if err != nil {
		return 0, nil, err
	}
	var in store.KeysBody
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	copies := make([]store.SealedKey, len(in.Keys))
	for i, k := range in.Keys {
		if len(k.Sealed) != crypto.SealedSize {
			return 0, nil, fmt.Errorf("%w: a sealed key has %d bytes", store.ErrInvalid, crypto.SealedSize)
		}
		copies[i] = store.SealedKey{Endpoint: k.Endpoint, Sealer: c.caller, Sealed: k.Sealed}
	}
	present := uint32(0) // there is no such room yet
	r, err := a.member(c, room)
	if err == nil {
		present = r.Epoch().Number
		err = maySeal(r, c.caller, &in)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = a.creatorToBe(c, room, in)
	}
	if err == nil {
		err = a.users(c.Context(), in.Keys)
	}
	if err != nil {
		return 0, nil, err
	}
	if in.Epoch <= present { // an entry names it: a few copies for each user
		return http.StatusNoContent, nil, a.store.PutKeys(c.Context(), room, in.Epoch, in.Commit, c.caller, copies)
	}
	return http.StatusNoContent, nil, a.staging.put(c.Context(), c.caller, room, present, &in, copies)
}

// maySeal checks that somebody may keep copies of a key of a room that is there: an owner or admin those of the
// present and the next epoch, for anyone, a member its own of any epoch that the log has.
func maySeal(r *ledger.Room, sealer crypto.PublicKey, in *store.KeysBody) error {
	now := r.Epoch().Number
	manages := r.Role(sealer).Manages()
	own := r.Role(sealer) != "" && len(in.Keys) == 1 && in.Keys[0].Endpoint == sealer && in.Epoch <= now
	switch {
	case !manages && !own:
		return fmt.Errorf("%w: only an owner or admin of the room hands out keys; a member keeps its own copy of one", store.ErrDenied)
	case !r.Policy.Encrypted():
		return fmt.Errorf("%w: a room without encryption has no keys", store.ErrInvalid)
	case in.Epoch == 0 || in.Epoch > now+1 || in.Epoch < now && !own:
		return fmt.Errorf("%w: the room is at epoch %d", store.ErrConflict, now)
	case in.Epoch <= now && in.Commit != r.Epochs[in.Epoch-1].Commit:
		return fmt.Errorf("%w: epoch %d of the room has another key", store.ErrConflict, in.Epoch)
	}
	return nil
}

// users checks that copies are for people of whom the bus log knows: they are kept as long as the room.
func (a *api) users(ctx context.Context, keys []store.MembersCopy) error {
	s, err := a.logs.state(ctx, a.bus)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if s.Bus.User(k.Endpoint) == nil {
			return fmt.Errorf("%w: %s is not on the allowlist, and needs no key", store.ErrDenied, k.Endpoint)
		}
	}
	return nil
}

// creatorToBe allows the one copy that a room needs before its first entry: its creator's own. Who will sign that
// entry nobody knows yet; a copy that someone else puts there for itself is of no use to it unless it is let in, and
// never to anyone else.
func (a *api) creatorToBe(c *call, room crypto.ID, in store.KeysBody) error {
	if _, err := store.HeadOf(c.Context(), a.store, room); !errors.Is(err, store.ErrNotFound) {
		return errors.Join(err, fmt.Errorf("room %s: %w", room, store.ErrNotFound))
	}
	if in.Epoch != 1 || len(in.Keys) != 1 || in.Keys[0].Endpoint != c.caller {
		return fmt.Errorf("%w: a room begins with its creator's own key", store.ErrDenied)
	}
	return nil
}

// getKey gives a member its copies of a key. A bus admin, who may read everything else, is given none of a room
// that it was never in.
func (a *api) getKey(c *call) (int, any, error) {
	room, err := c.id("room")
	if err != nil {
		return 0, nil, err
	}
	var epoch uint64
	if s := c.PathValue("epoch"); s != "latest" {
		if epoch, err = strconv.ParseUint(s, 10, 32); err != nil || epoch == 0 {
			return 0, nil, fmt.Errorf("%w: an epoch is a number from 1, or latest", store.ErrInvalid)
		}
	} else {
		r, err := a.member(c, room)
		if err != nil {
			return 0, nil, err
		}
		epoch = uint64(r.Epoch().Number)
	}
	copies, err := a.store.Key(c.Context(), room, uint32(epoch), c.caller)
	if err != nil {
		return 0, nil, err
	}
	body := store.KeyBody{Room: room, Epoch: uint32(epoch)}
	r, err := a.member(c, room)
	if err != nil {
		return 0, nil, err
	}
	for _, k := range copies {
		if r.Known(c.caller) && r.MaySeal(k.Sealer, c.caller, body.Epoch) {
			body.Commit = r.Epochs[body.Epoch-1].Commit
			body.Sealed = append(body.Sealed, store.SealersCopy{Sealer: k.Sealer, Sealed: k.Sealed})
		}
	}
	if len(body.Sealed) == 0 {
		return 0, nil, fmt.Errorf("key of room %s: %w", room, store.ErrNotFound)
	}
	return http.StatusOK, body, nil
}

func (a *api) putCard(c *call) (int, any, error) {
	key, err := c.endpoint()
	if err != nil {
		return 0, nil, err
	}
	var in store.CardBody
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	return a.keepCards(c, store.Card{Endpoint: key, Statement: in.Card})
}

func (a *api) postCards(c *call) (int, any, error) {
	var in store.CardsBody
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	return a.keepCards(c, in.Cards...)
}

// keepCards keeps all of the cards, or none when the caller may not put one of them.
func (a *api) keepCards(c *call, cards ...store.Card) (int, any, error) {
	if err := fewCards(len(cards)); err != nil {
		return 0, nil, err
	}
	for _, card := range cards {
		if card.Endpoint != c.caller && !c.admin {
			return 0, nil, fmt.Errorf("%w: only an admin puts the card of someone else", store.ErrDenied)
		}
		if _, err := crypto.OpenCard(card.Statement, card.Endpoint); err != nil {
			return 0, nil, fmt.Errorf("%w: %v", store.ErrInvalid, err)
		}
	}
	return http.StatusNoContent, nil, a.store.PutCards(c.Context(), cards...)
}

func fewCards(n int) error {
	if n > store.MaxCards {
		return fmt.Errorf("%w: at most %d cards in one request", store.ErrInvalid, store.MaxCards)
	}
	return nil
}

func (a *api) getCard(c *call) (int, any, error) {
	key, err := c.endpoint()
	if err != nil {
		return 0, nil, err
	}
	cards, err := a.findCards(c.Context(), key)
	if err == nil && len(cards) == 0 {
		err = fmt.Errorf("card of %s: %w", key, store.ErrNotFound)
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, store.CardBody{Card: cards[0].Statement}, nil
}

func (a *api) queryCards(c *call) (int, any, error) {
	var in store.EndpointsBody
	if err := c.body(&in); err != nil {
		return 0, nil, err
	}
	if err := fewCards(len(in.Endpoints)); err != nil {
		return 0, nil, err
	}
	cards, err := a.findCards(c.Context(), in.Endpoints...)
	if cards == nil {
		cards = []store.Card{}
	}
	return http.StatusOK, store.CardsBody{Cards: cards}, err
}

// findCards returns the cards that are known, taking over those of people who said hello before being
// allowlisted.
func (a *api) findCards(ctx context.Context, endpoints ...crypto.PublicKey) ([]store.Card, error) {
	cards, err := a.store.Cards(ctx, endpoints...)
	if err != nil {
		return nil, err
	}
	done := map[crypto.PublicKey]bool{}
	for _, c := range cards {
		done[c.Endpoint] = true
	}
	var waiting []store.Card
	for _, key := range endpoints {
		statement := a.cards.get(key)
		if done[key] || statement == nil {
			continue
		}
		done[key] = true
		ok, err := a.store.IsAuthorized(ctx, key)
		if err != nil {
			return nil, err
		}
		if ok {
			waiting = append(waiting, store.Card{Endpoint: key, Statement: statement})
		}
	}
	if len(waiting) == 0 {
		return cards, nil
	}
	return append(cards, waiting...), a.store.PutCards(ctx, waiting...)
}

func (a *api) getRoomsOf(c *call) (int, any, error) {
	key, err := c.endpoint()
	if err != nil {
		return 0, nil, err
	}
	if key != c.caller && !c.admin {
		return 0, nil, fmt.Errorf("%w: only an admin lists the rooms of someone else", store.ErrDenied)
	}
	list, err := a.store.ListRoomsForEndpoint(c.Context(), key)
	if list == nil {
		list = []store.RoomRef{}
	}
	return http.StatusOK, list, err
}

func (a *api) getRooms(c *call) (int, any, error) {
	q := c.URL.Query()
	if subject := q.Get("subject"); subject != "" {
		r, err := a.store.RoomBySubject(c.Context(), subject)
		if err == nil {
			_, err = a.member(c, r.ID)
		}
		if errors.Is(err, store.ErrNotFound) { // in the same words whether it exists or not
			err = fmt.Errorf("room %s: %w", subject, store.ErrNotFound)
		}
		return http.StatusOK, r, err
	}
	if !c.admin {
		return 0, nil, fmt.Errorf("%w: only an admin lists all rooms", store.ErrDenied)
	}
	var after crypto.ID
	if s := q.Get("after"); s != "" {
		var err error
		if after, err = crypto.ParseID(s); err != nil {
			return 0, nil, fmt.Errorf("%w: %v", store.ErrInvalid, err)
		}
	}
	list := []store.Room{}
	for r, err := range a.store.Rooms(c.Context(), after) {
		if err != nil {
			return 0, nil, err
		}
		if list = append(list, r); len(list) == maxRecords {
			break
		}
	}
	return http.StatusOK, list, nil
}

func (a *api) getRoom(c *call) (int, any, error) {
	room, err := c.id("room")
	if err != nil {
		return 0, nil, err
	}
	if _, err := a.member(c, room); err != nil {
		return 0, nil, err
	}
	r, err := a.store.Room(c.Context(), room)
	return http.StatusOK, r, err
}

func (a *api) getMembers(c *call) (int, any, error) {
	room, err := c.id("room")
	if err != nil {
		return 0, nil, err
	}
	if _, err := a.member(c, room); err != nil {
		return 0, nil, err
	}
	list, err := a.store.Members(c.Context(), room)
	return http.StatusOK, list, err
}

func (a *api) getUsers(c *call) (int, any, error) {
	limit, err := c.number("limit", maxRecords)
	if err != nil {
		return 0, nil, err
	}
	var after crypto.PublicKey
	if s := c.URL.Query().Get("after"); s != "" {
		if after, err = crypto.ParsePublicKey(s); err != nil {
			return 0, nil, fmt.Errorf("%w: %v", store.ErrInvalid, err)
		}
	}
	list := []store.UserBody{}
	for u, err := range a.store.Users(c.Context(), after) {
		if err != nil {
			return 0, nil, err
		}
		if uint64(len(list)) >= min(limit, maxRecords) {
			break
		}
		list = append(list, store.NewUserBody(&u))
	}
	return http.StatusOK, list, nil
}

func (a *api) getUser(c *call) (int, any, error) {
	key, err := c.endpoint()
	if err != nil {
		return 0, nil, err
	}
	u, err := a.store.User(c.Context(), key)
	return http.StatusOK, store.NewUserBody(&u), err
}
