package service

import (
	"context"
	"time"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// api is the membership API, as docs/openapi.yaml describes it: a type for each resource, in a file of its own
// (api_*.go), which is given the parts of the store that it needs and no others, behind a router that knows who calls.
type api struct {
	router
	founded busAPI
	logs    logAPI
	entries entryAPI
	keys    keyAPI
	cards   cardAPI
	rooms   roomAPI
	past    pastAPI
	people  userAPI
}

// apiOptions are what the API is made of.
type apiOptions struct {
	store    store.Backend
	logs     *logs
	users    *allowlist
	bus      crypto.ID
	past     *bus.Past
	maxBytes int                                             // of a room's past in one answer
	maxRooms int                                             // that a user may have created
	stream   func(ctx context.Context, room crypto.ID) error // makes a room's stream what its log says
	drop     func(ctx context.Context, n store.Notice) error // ends connections of those whose access an entry ended
	noted    noted                                           // notes that an entry is in the store, before it is acknowledged; nil: nobody does
	now      func() time.Time
}

// newAPI makes the API; it answers nothing before its handler is asked.
func newAPI(o apiOptions) *api {
	if o.noted == nil {
		o.noted = func(context.Context, crypto.ID, ledger.Head) error { return nil }
	}
	return &api{
		router:  newRouter(o.bus, o.users, o.now),
		founded: busAPI{logs: o.logs, bus: o.bus},
		logs:    logAPI{store: o.store, directory: o.store, logs: o.logs, bus: o.bus},
		entries: entryAPI{
			store: o.store, staged: o.store, logs: o.logs, users: o.users, bus: o.bus, stream: o.stream, drop: o.drop, noted: o.noted, now: o.now,
			endings: newRates[crypto.PublicKey](maxCallers, endingRate, endingBurst), quota: newQuota(o.store, o.maxRooms, o.now),
		},
		keys:   keyAPI{store: o.store, keyring: o.store, logs: o.logs, bus: o.bus, staging: newStaging(o.store, o.now)},
		cards:  cardAPI{keyring: o.store, users: o.store, waiting: &waitingCards{}},
		rooms:  roomAPI{directory: o.store, logs: o.logs, past: o.past},
		past:   pastAPI{past: o.past, maxBytes: o.maxBytes, logs: o.logs},
		people: userAPI{users: o.store},
	}
}

// routes are all that can be asked for, and who answers it.
func (a *api) routes() map[string]handle {
	return map[string]handle{
		"GET /bus":                       a.founded.get,
		"GET /logs/{log}":                a.oneAtATime(a.logs.get),
		"POST /heads":                    a.oneLargeAtATime(a.logs.heads),
		"POST /logs":                     a.oneLargeAtATime(a.entries.create),
		"POST /logs/{log}":               a.oneLargeAtATime(a.entries.add),
		"PUT /rooms/{room}/keys":         a.oneLargeAtATime(a.keys.put),
		"GET /rooms/{room}/keys/{epoch}": a.keys.get,
		"POST /cards":                    a.oneLargeAtATime(a.cards.putAll),
		"POST /cards/query":              a.oneLargeAtATime(a.cards.query),
		"PUT /cards/{endpoint}":          a.oneLargeAtATime(a.cards.put),
		"GET /cards/{endpoint}":          a.cards.get,
		"GET /members/{endpoint}/rooms":  a.oneAtATime(a.rooms.ofMember),
		"GET /rooms":                     a.oneAtATime(a.rooms.list),
		"GET /rooms/{room}":              a.oneAtATime(a.rooms.get),
		"GET /rooms/{room}/members":      a.rooms.members,
		"GET /rooms/{room}/frames":       a.past.get,
		"GET /users":                     a.oneAtATime(a.people.list),
		"GET /users/{endpoint}":          a.people.get,
	}
}
