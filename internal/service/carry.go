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

// carry serves handler over NATS. Whoever asks is answered in its own inbox, which its token names, and
// nowhere else: a request's reply subject is whatever the asker likes.
func carry(ctx context.Context, nc *nats.Conn, handler http.Handler, wait *tasks.Group) (*nats.Subscription, error) {
	run := wait.Limit(maxRequests)
	return nc.QueueSubscribe(bus.APISubject, "unibus", func(m *nats.Msg) {
		if !answerable(m) {
			return
		}
		run(ctx, func() { overNATS(ctx, m, handler) })
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

// overNATS turns a NATS request into an HTTP one and its answer back.
func overNATS(ctx context.Context, m *nats.Msg, handler http.Handler) {
	w := httptest.NewRecorder()
	req, err := http.NewRequestWithContext(ctx, m.Header.Get("Method"), "http://unibus"+m.Header.Get("Path"), bytes.NewReader(m.Data))
	if err != nil {
		writeProblem(w, fmt.Errorf("%w: method or path", store.ErrInvalid))
	} else {
		req.RequestURI = m.Header.Get("Path")
		req.Header.Set("Authorization", m.Header.Get("Authorization"))
		handler.ServeHTTP(w, req)
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
	_ = m.RespondMsg(reply) // the caller has gone
}
