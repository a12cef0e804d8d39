package service

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// The router stands before the resources of the API: it knows who calls, lets nobody take more than a turn of what is
// much work, and answers what goes wrong. Of what is asked for it knows nothing.

const (
	maxCallers = 4096    // remembered as doing something that is much work
	largeBody  = 4 << 10 // bytes of a request from which on it is more work than most
)

// router authenticates requests and answers them with what their handlers return.
type router struct {
	bus   crypto.ID
	users *allowlist
	heavy *callers // who has a request under way that is much work to answer
	large *callers // who has one with a large body
	now   func() time.Time
}

// newRouter makes a router; users says who may call.
func newRouter(bus crypto.ID, users *allowlist, now func() time.Time) router {
	return router{
		bus: bus, users: users, now: now,
		heavy: newRecent[crypto.PublicKey, chan struct{}](maxCallers), large: newRecent[crypto.PublicKey, chan struct{}](maxCallers),
	}
}

// handler answers requests to routes, which are "METHOD /path" as http.ServeMux has them.
func (r *router) handler(routes map[string]handle) http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range routes {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) { r.serve(w, req, h) })
	}
	return routed(mux)
}

// routed answers requests to paths that a mux does not have, and with methods that a path does not take, before
// anyone is asked for a token: what routes there are is no secret.
func routed(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; p != path.Clean(p) { // which a mux would redirect, and few who call an API follow
			writeProblem(w, noRoute(r))
			return
		}
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		probe := httptest.NewRecorder() // only the mux knows which methods it would take
		h.ServeHTTP(probe, r)
		if allow := probe.Header().Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
			writeProblem(w, fmt.Errorf("%s %s: %w: %s", r.Method, r.URL.Path, errMethod, allow))
			return
		}
		writeProblem(w, noRoute(r))
	})
}

// noRoute says that a request is to no path that there is.
func noRoute(r *http.Request) error {
	return fmt.Errorf("%s %s: %w: no such route", r.Method, r.URL.Path, store.ErrNotFound)
}

// serve answers one request by a handler.
func (r *router) serve(w http.ResponseWriter, req *http.Request, h handle) {
	c, err := r.authenticate(req)
	if err == nil {
		err = c.readQuery()
	}
	if err != nil {
		writeProblem(w, err)
		return
	}
	status, body, err := h(c)
	if err != nil {
		writeProblem(w, err)
		return
	}
	switch body := body.(type) {
	case nil:
		w.WriteHeader(status)
	case *store.Past:
		writeFrames(w, body)
	default:
		writeJSON(w, status, body)
	}
}

// callers are those of a kind of request that each caller has one of at a time: whoever has it holds the caller's channel.
type callers = recent[crypto.PublicKey, chan struct{}]

// oneAtATime lets each caller have one request at a time of those that are nothing but work: more at once
// would not be answered any sooner, and take the processor from others.
func (r *router) oneAtATime(h handle) handle { return oneOf(r.heavy, h) }

// oneOf lets each caller have one request of a kind at a time.
func oneOf(kind *callers, h handle) handle {
	return func(c *call) (int, any, error) {
		turn := kind.getOrMake(c.caller, func() chan struct{} { return make(chan struct{}, 1) })
		release, err := hold(c.Context(), turn)
		if err != nil {
			return 0, nil, err
		}
		defer release()
		return h(c)
	}
}

// oneLargeAtATime lets each caller have one request at a time of those with a large body, which are work to read, check and
// store. That takes a slow disk seconds, and what the caller asks meanwhile does not wait for it.
func (r *router) oneLargeAtATime(h handle) handle {
	one := oneOf(r.large, h)
	return func(c *call) (int, any, error) {
		if c.ContentLength < 0 || c.ContentLength > largeBody {
			return one(c)
		}
		return h(c)
	}
}

// authenticate knows a caller by its token, and whether it is a user by asking the store every time.
func (r *router) authenticate(req *http.Request) (*call, error) {
	bearer, err := bearerOf(req.Header.Get("Authorization"))
	if err != nil {
		return nil, err
	}
	now := r.now()
	t, err := crypto.OpenToken(bearer, crypto.UseAPI, &r.bus, now)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errUnauthenticated, err)
	}
	u, err := r.users.user(req.Context(), t.Key, now)
	if err != nil {
		return nil, err
	}
	return &call{Request: req, caller: t.Key, admin: u.admin}, nil
}

// bearerOf is the token in an Authorization header.
func bearerOf(authorization string) (string, error) {
	scheme, bearer, _ := strings.Cut(authorization, " ")
	bearer = strings.TrimLeft(bearer, " ")
	if !strings.EqualFold(scheme, "Bearer") || bearer == "" { // of a scheme the case does not matter (RFC 9110)
		return "", fmt.Errorf("%w: no bearer token", errUnauthenticated)
	}
	return bearer, nil
}
