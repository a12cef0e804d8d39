package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func identity(t testing.TB, n byte) *crypto.Identity {
	t.Helper()
	id, err := crypto.NewIdentity([32]byte{'r', n})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// api is a service as a test wants it: it remembers what it was asked, and answers what it is told to.
type api struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string // "METHOD /path body"
	answers []func(w http.ResponseWriter)
}

// serve starts one; it gives its answers one after the other, the last again and again.
func serve(t *testing.T, answers ...func(w http.ResponseWriter)) *api {
	t.Helper()
	a := &api{answers: answers}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.asked = append(a.asked, strings.TrimSpace(r.Method+" "+r.URL.String()+" "+string(body)))
		answer := a.answers[0]
		if len(a.answers) > 1 {
			a.answers = a.answers[1:]
		}
		a.mu.Unlock()
		answer(w)
	}))
	t.Cleanup(a.Server.Close)
	return a
}

// store is a client of the service.
func (a *api) store(t *testing.T, timeout time.Duration) *Store {
	t.Helper()
	s := New(Options{Transport: &http.Transport{}, URL: a.URL, Identity: identity(t, 1), Bus: crypto.ID{1}, OpTimeout: timeout})
	t.Cleanup(func() { s.Close() })
	return s
}

// requests are what was asked so far.
func (a *api) requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// says answers with a value as JSON.
func says(v any) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) { _ = json.NewEncoder(w).Encode(v) }
}

// raw answers with a status and a text.
func raw(status int, text string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

// fails answers as the API does when something is wrong.
func fails(status int, kind, detail string) func(w http.ResponseWriter) {
	b, _ := json.Marshal(store.Problem{Type: kind, Status: status, Detail: detail})
	return raw(status, string(b))
}

// is fails the test unless an error is of a kind, and reads as one line.
func is(t *testing.T, rule string, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: got %v, want %v", rule, err, kind)
	}
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: the error has several lines: %q", rule, err)
	}
}

// TestDo: a body goes as it is given; for what is no path there is no request, and what the transport refuses is refused.
func TestDo(t *testing.T) {
	a := serve(t, raw(200, "{}"))
	if _, err := a.store(t, 0).Do(t.Context(), "POST", "/x", []byte(`{"a": "<&>"}`)); err != nil {
		t.Error(err)
	}
	if got := a.requests(); len(got) != 1 || got[0] != `POST /x {"a": "<&>"}` {
		t.Errorf("it asked %q", got)
	}
	_, err := a.store(t, 0).Do(t.Context(), "GET", "/x\r\ny", nil)
	is(t, "no path", err, store.ErrInvalid)
	s := New(Options{Transport: refusing{}, URL: a.URL, Identity: identity(t, 1), Bus: crypto.ID{1}})
	t.Cleanup(func() { s.Close() })
	_, err = s.Do(t.Context(), "GET", "/x", nil)
	is(t, "refused", err, store.ErrInvalid)
}

// TestWithin: a request that has the service write much may take as long as a store may.
func TestWithin(t *testing.T) {
	const timeout = time.Second
	var left time.Duration
	s := New(Options{Transport: watched(func(r *http.Request) {
		until, _ := r.Context().Deadline()
		left = time.Until(until)
	}), Identity: identity(t, 1), OpTimeout: timeout})
	t.Cleanup(func() { s.Close() })
	key := identity(t, 1).Key()
	for name, c := range map[string]struct {
		writes int
		call   func() error
	}{
		"Heads": {0, func() error { _, err := s.Heads(t.Context(), crypto.ID{3}); return err }},
		"Append": {200, func() error {
			return s.Append(t.Context(), store.Change{Entry: &ledger.Entry{}, Views: make([]ledger.View, 200)})
		}},
		"PutKeys": {200, func() error {
			return s.PutKeys(t.Context(), crypto.ID{3}, 1, crypto.Hash{}, key, make([]store.SealedKey, 200))
		}},
		"PutCards": {200, func() error { return s.PutCards(t.Context(), make([]store.Card, 200)...) }},
	} {
		is(t, name, c.call(), store.ErrInvalid)
		if most := store.Within(timeout, c.writes); left > most || left < most-timeout {
			t.Errorf("%s has %v, want %v", name, left, most)
		}
	}
}

// watched is a transport that shows each request, and takes none.
type watched func(r *http.Request)

// RoundTrip shows it.
func (w watched) RoundTrip(r *http.Request) (*http.Response, error) {
	w(r)
	return nil, store.ErrInvalid
}

// refusing is a transport that takes no request.
type refusing struct{}

// RoundTrip refuses it.
func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, store.ErrInvalid }

// TestProblems: what the service says is wrong is of the kind that it names, in its words; what it says otherwise means
// that it cannot be relied on.
func TestProblems(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter)
		kind   error
		text   string
	}{
		{"not found", fails(404, "unibus:not-found", "room r: not found"), store.ErrNotFound, "room r: not found"},
		{"without a word", fails(404, "unibus:not-found", ""), store.ErrNotFound, "not found"},
		{"in the kind's words", fails(404, "unibus:not-found", "not found"), store.ErrNotFound, "not found"},
		{"denied", fails(403, "unibus:denied", "members only: not allowed"), store.ErrDenied, "members only: not allowed"},
		{"no token", fails(401, "unibus:unauthenticated", ""), store.ErrDenied, "not allowed"},
		{"invalid", fails(400, "unibus:invalid", ""), store.ErrInvalid, "not valid"},
		{"too large", fails(413, "unibus:too-large", ""), store.ErrInvalid, "not valid"},
		{"conflict", fails(409, "unibus:conflict", ""), store.ErrConflict, "someone else wrote first"},
		{"exists", fails(409, "unibus:exists", ""), store.ErrExists, "already exists"},
		{"unavailable", fails(503, "unibus:unavailable", ""), store.ErrUnavailable, "unavailable"},
		{"damaged", fails(500, "unibus:damaged", ""), store.ErrDamagedThere, "integrity"},
		{"of an unknown kind", fails(400, "unibus:new", "?"), store.ErrUnavailable, "unavailable: the service answered with status 400"},
		{"no problem at all", raw(502, "<html>"), store.ErrUnavailable, "unavailable: the service answered with status 502"},
		{"no JSON", raw(200, "<html>"), store.ErrUnavailable, "unavailable: the service's answer is not understood"},
		{"JSON of something else", raw(200, `[1]`), store.ErrUnavailable, "unavailable: the service's answer is not understood"},
		{"too much", raw(200, strings.Repeat(" ", maxReply+1)), store.ErrUnavailable, "unavailable: the service's answer breaks off or is too long"},
		{"too little", func(w http.ResponseWriter) { w.Header().Set("Content-Length", "100"); raw(200, "{")(w) }, store.ErrUnavailable, "unavailable: the service's answer breaks off or is too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := serve(t, c.answer).store(t, 0).Room(t.Context(), crypto.ID{2})
			is(t, c.name, err, c.kind)
			if !strings.HasPrefix(fmt.Sprint(err), c.text) {
				t.Errorf("it reads %q, want %q", err, c.text)
			}
		})
	}
}

// TestLate: no answer in time is ErrUnavailable, as nobody there is; whoever gives up is told that.
func TestLate(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	s := serve(t, func(http.ResponseWriter) { <-hold }).store(t, 20*time.Millisecond)
	_, err := s.Bus(t.Context())
	is(t, "no answer", err, store.ErrUnavailable)
	if ok, err := s.IsAuthorized(t.Context(), identity(t, 1).Key()); ok || err == nil {
		t.Errorf("no answer grants: %v, %v", ok, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Bus(ctx)
	is(t, "given up", err, context.Canceled)

	gone := serve(t, raw(200, "{}"))
	s = gone.store(t, 0)
	gone.Server.Close()
	_, err = s.Bus(t.Context())
	is(t, "nobody there", err, store.ErrUnavailable)
	if strings.Contains(fmt.Sprint(err), "Get ") || s.Skew() != 0 {
		t.Errorf("nobody there: %q, and its clock is %v ahead", err, s.Skew())
	}
}

// TestBusy: a busy service is asked again, for as long as OpTimeout.
func TestBusy(t *testing.T) {
	busy := func(seconds string) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", seconds)
			fails(429, "unibus:busy", "many requests of yours are waiting: unavailable")(w)
		}
	}
	a := serve(t, busy("0.001"), busy("0.001"), says(store.BusBody{Founded: []byte("first")}))
	first, err := a.store(t, 20*time.Second).Bus(t.Context())
	if err != nil || string(first) != "first" || len(a.requests()) != 3 {
		t.Errorf("busy twice: %q, %v, after %d requests", first, err, len(a.requests()))
	}
	_, err = serve(t, busy("60")).store(t, maxAgain-time.Millisecond).Bus(t.Context()) // which ends before the service may be asked again
	is(t, "busy for ever", err, store.ErrUnavailable)
	if !strings.Contains(fmt.Sprint(err), "many requests of yours") {
		t.Errorf("busy for ever reads %q", err)
	}
	for header, want := range map[string]time.Duration{"": minAgain, "soon": minAgain, "-3": minAgain, "1": time.Second, "99999": maxAgain} {
		if got := retryAfter(header); got != want {
			t.Errorf("Retry-After %q: %v, want %v", header, got, want)
		}
	}
}

// TestTurns: no more requests are under way at once than may be, and whoever waits for a turn gives up in the end.
func TestTurns(t *testing.T) {
	here, release := make(chan struct{}), make(chan struct{})
	a := serve(t, func(w http.ResponseWriter) { here <- struct{}{}; <-release; says(store.BusBody{})(w) })
	s := a.store(t, 20*time.Second)
	var wait sync.WaitGroup
	for range maxAtOnce + 4 {
		wait.Go(func() {
			if _, err := s.Bus(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for range maxAtOnce {
		<-here
	}
	if len(s.slots) != maxAtOnce || len(a.requests()) != maxAtOnce {
		t.Errorf("%d requests are under way, %d were made", len(s.slots), len(a.requests()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Bus(ctx)
	is(t, "a turn that is given up", err, context.Canceled)
	close(release)
	for range 4 {
		<-here
	}
	wait.Wait()

	s = a.store(t, time.Millisecond)
	for range maxAtOnce {
		s.slots <- struct{}{}
	}
	_, err = s.Bus(t.Context())
	is(t, "no turn", err, store.ErrUnavailable)
}

// TestToken: a token is used again for half of its life, and is for the bus and the inbox of the store.
func TestToken(t *testing.T) {
	b := &bearer{identity: identity(t, 1), bus: crypto.ID{1}, inbox: crypto.Inbox{7}}
	now := time.Now()
	token := func(after time.Duration) string {
		t.Helper()
		token, err := b.at(now.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	first := token(0)
	if token(tokenLife/2-time.Second) != first {
		t.Error("a token is signed for each request")
	}
	if token(tokenLife/2+time.Second) == first {
		t.Error("a token is used for longer than half of its life")
	}
	got, err := crypto.OpenToken(first, crypto.UseAPI, &b.bus, now)
	if err != nil || got.Key != identity(t, 1).Key() || got.Inbox != b.inbox {
		t.Errorf("the token is %+v, %v", got, err)
	}
}

// TestSkew: how far the clocks are apart is known from the last answer.
func TestSkew(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter) {
		w.Header().Set("Date", time.Now().Add(3*time.Hour).UTC().Format(http.TimeFormat))
		says(store.BusBody{})(w)
	}).store(t, 0)
	if _, err := s.Bus(t.Context()); err != nil {
		t.Fatal(err)
	}
	if skew := s.Skew().Round(time.Hour); skew != 3*time.Hour {
		t.Errorf("its clock is %v ahead", skew)
	}
}

// watching is a Watcher.
type watching chan store.Notice

func (w watching) Watch(context.Context) (<-chan store.Notice, error) { return w, nil }

// TestWatch: what is watched is the Watcher's; without one nothing is.
func TestWatch(t *testing.T) {
	_, err := New(Options{Identity: identity(t, 1)}).Watch(t.Context())
	is(t, "without a watcher", err, store.ErrUnavailable)
	w := make(watching)
	got, err := New(Options{Identity: identity(t, 1), Watcher: w}).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go close(w)
	if _, open := <-got; open {
		t.Error("another channel than the watcher's")
	}
}
