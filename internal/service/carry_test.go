package service

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// TestStoppingIsNoAnswer: who asks a service that stops is told to ask again; a store that does not answer is
// told as that.
func TestStoppingIsNoAnswer(t *testing.T) {
	stopping, cancel := context.WithCancel(t.Context())
	cancel()
	failing := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, fmt.Errorf("room: %w: %v", store.ErrUnavailable, r.Context().Err()))
	})
	denying := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeProblem(w, store.ErrDenied) })
	for _, test := range []struct {
		what          string
		ctx           context.Context
		handler       http.Handler
		status, again string
	}{
		{"cut off", stopping, failing, "429", stoppingRetry},
		{"answered before the end", stopping, denying, "403", ""},
		{"a store that does not answer", t.Context(), failing, "503", ""},
	} {
		m := &nats.Msg{Header: nats.Header{"Method": {"GET"}, "Path": {"/bus"}}}
		reply := overNATS(test.ctx, m, test.handler)
		if status, again := reply.Header.Get("Status"), reply.Header.Get("Retry-After"); status != test.status || again != test.again {
			t.Errorf("%s: status %s, again after %q", test.what, status, again)
		}
	}
}

// overHTTP makes a request to a desk over HTTP, as someone and from an address.
func (d *desk) overHTTP(t *testing.T, n *Node, by *crypto.Identity, path string, body io.Reader) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, body)
	r.RemoteAddr = "10.0.0.1:1"
	if by != nil {
		token, err := (&attack.Peer{ID: by, Bus: n.Bus}).APIToken()
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

// TestHTTPRefused: each reason for which a request over HTTP is refused before it is its turn, or without its answer.
func TestHTTPRefused(t *testing.T) {
	n, admin := node(t, "")
	mallory := person(t, 'm')
	whole := func() io.Reader { return strings.NewReader("") }
	for name, c := range map[string]struct {
		by     *crypto.Identity
		body   io.Reader
		before func(d *desk)
		status int
		says   string
	}{
		"answered":                    {admin, whole(), func(*desk) {}, 200, ""},
		"no token":                    {nil, whole(), func(*desk) {}, 401, "no bearer token"},
		"a body that breaks off":      {admin, iotest.ErrReader(io.ErrUnexpectedEOF), func(*desk) {}, 400, "unexpected EOF"},
		"many requests of the caller": {admin, whole(), func(d *desk) { d.pool.turns.limits = noTurns }, 429, "too many requests of one caller"},
		"many answers not read":       {admin, whole(), func(d *desk) { d.writing.begin(admin.Key(), maxUnread+1) }, 429, "many answers that the caller has not read yet"},
		"many strangers":              {mallory, whole(), func(d *desk) { d.verifier.strangers = rate.NewLimiter(0, 0) }, 429, "busy"},
		"many strangers to ask about": {mallory, whole(), func(d *desk) { d.verifier.asks.turns.limits = noTurns }, 429, "busy"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, n, admin.Key())
			c.before(d)
			w := d.overHTTP(t, n, c.by, "/full", c.body)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, c.status, c.says)
			}
			if again := w.Header().Get("Retry-After"); (again == retryAfter) != (c.status == http.StatusTooManyRequests) {
				t.Errorf("it is to ask again after %q", again)
			}
		})
	}
}

// TestHTTPStopping: a request whose turn has not ended when the service does is told that it stops.
func TestHTTPStopping(t *testing.T) {
	n, admin := node(t, "")
	d := newDesk(t, n, admin.Key())
	defer close(d.release)
	answer := make(chan *httptest.ResponseRecorder)
	go func() { answer <- d.overHTTP(t, n, admin, "/slow", strings.NewReader("")) }()
	eventually(t, "it is worked on", func() bool { return d.begun.Load() > 0 })
	d.stop()
	if w := <-answer; w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "the service is stopping") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestUnreadAnswers: a caller whose answers the servers hold unread is told that it is busy instead of being answered.
func TestUnreadAnswers(t *testing.T) {
	n, admin := node(t, "")
	d := newDesk(t, n, admin.Key())
	p := mustDial(t, n, admin, n.Bus)
	if got := status(t, ask(t, p, "/bus")); got != "200" {
		t.Fatalf("before: %s", got)
	}
	d.unread.held = func(context.Context, crypto.PublicKey) (int, error) { return maxUnread, nil }
	d.unread.add(admin.Key(), maxUnread)
	if got := status(t, ask(t, p, "/bus")); got != "429" || d.dropsOf("unread") != 1 {
		t.Errorf("%s, %d were dropped as unread", got, d.dropsOf("unread"))
	}
}

// TestGarbageOfNobody: what cannot be verified is held against nobody when another service let its connection in: it would
// be held against all of whom nothing is known.
func TestGarbageOfNobody(t *testing.T) {
	dropped := 0
	c := newCarrier(carrierOptions{
		ctx: t.Context(), handler: http.NotFoundHandler(), inboxes: newInboxes(), dropped: func(string) { dropped++ },
		log: slog.New(slog.DiscardHandler), now: time.Now,
	}, new(tasks.Group))
	c.receive(&nats.Msg{Subject: bus.APISubject(crypto.Inbox{1})})
	if _, counted := c.refused.callers.get(crypto.PublicKey{}); counted || dropped != 1 {
		t.Errorf("dropped %d times, held against all: %v", dropped, counted)
	}
}
