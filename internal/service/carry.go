package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// maxRequests is how many requests over NATS are worked on at once; the others wait.
const maxRequests = 64

// stoppingRetry is after how many seconds a service that stops has its callers ask again.
const stoppingRetry = "0.1"

// carry serves handler over NATS. Whoever asks is answered in its own inbox, which its token names, and
// nowhere else: a request's reply subject is whatever the asker likes.
func carry(ctx context.Context, nc *nats.Conn, handler http.Handler, wait *tasks.Group) (*nats.Subscription, error) {
	run := wait.Limit(maxRequests)
	return nc.QueueSubscribe(bus.APISubject, "unibus", func(m *nats.Msg) {
		if !answerable(m) {
			return
		}
		run(ctx, func() { _ = m.RespondMsg(overNATS(ctx, m, handler)) }) // the caller has gone
	})
}

// answerable reports whether the reply subject of a request is in the inbox of whoever signed its token.
func answerable(m *nats.Msg) bool {
	bearer, _ := strings.CutPrefix(m.Header.Get("Authorization"), "Bearer ")
	t, err := crypto.DecodeToken(bearer)
	return err == nil && !t.Inbox.IsZero() && strings.HasPrefix(m.Reply, bus.InboxPrefix(t.Inbox)+".")
}

// greet answers strangers with the first statement of the bus log, and takes the card that one may send
// along.
func greet(nc *nats.Conn, founded store.BusBody, offered func(card []byte)) (*nats.Subscription, error) {
	answer, err := json.Marshal(founded)
	if err != nil {
		return nil, err
	}
	return nc.QueueSubscribe(bus.HelloFilter, "unibus", func(m *nats.Msg) {
		_ = m.Respond(answer) // the caller has gone
		offered(m.Data)
	})
}

// overNATS turns a NATS request into an HTTP one and its answer back. A request that is cut off since the
// service stops, when ctx ends, is answered like one that has to wait: another service, or this one when it is
// back, answers if it is asked again, which every request of the API may be.
func overNATS(ctx context.Context, m *nats.Msg, handler http.Handler) *nats.Msg {
	w := httptest.NewRecorder()
	req, err := http.NewRequestWithContext(ctx, m.Header.Get("Method"), "http://unibus"+m.Header.Get("Path"), bytes.NewReader(m.Data))
	if err != nil {
		writeProblem(w, fmt.Errorf("%w: method or path", store.ErrInvalid))
	} else {
		req.RequestURI = m.Header.Get("Path")
		req.Header.Set("Authorization", m.Header.Get("Authorization"))
		handler.ServeHTTP(w, req)
	}
	if w.Code == http.StatusServiceUnavailable && ctx.Err() != nil {
		w.Code = http.StatusTooManyRequests
		w.Header().Set("Retry-After", stoppingRetry)
	}
	reply := &nats.Msg{Subject: m.Reply, Data: w.Body.Bytes(), Header: nats.Header{
		"Status": {strconv.Itoa(w.Code)},
		"Date":   {time.Now().UTC().Format(http.TimeFormat)}, // as over HTTP: it shows a clock that is off
	}}
	for _, name := range []string{"Content-Type", "First", "Last", "Retry-After"} {
		if v := w.Header().Get(name); v != "" {
			reply.Header[name] = []string{v}
		}
	}
	return reply
}
