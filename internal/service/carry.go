package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// apiVersion is that of the membership API, as NATS services tell it.
const apiVersion = "1.0.0"

// maxRequests is how many requests over NATS are worked on at once; the others wait.
const maxRequests = 64

// carry serves handler over NATS as the micro service unibus, and hello beside it.
func carry(ctx context.Context, nc *nats.Conn, handler http.Handler, hello func(ctx context.Context, card []byte) (store.BusBody, error), wait *tasks.Group) (micro.Service, error) {
	run := wait.Limit(maxRequests)
	bounded := func(f func(r micro.Request)) micro.HandlerFunc {
		return func(r micro.Request) { run(ctx, func() { f(r) }) }
	}
	s, err := micro.AddService(nc, micro.Config{Name: "unibus", Version: apiVersion, Description: "unibus membership API"})
	if err != nil {
		return nil, err
	}
	err = s.AddEndpoint("api", bounded(func(r micro.Request) { overNATS(ctx, r, handler) }), micro.WithEndpointSubject(bus.APISubject))
	if err != nil {
		return nil, err
	}
	return s, s.AddEndpoint("hello", bounded(func(r micro.Request) {
		body, err := hello(ctx, r.Data())
		if err != nil {
			return // the caller's time runs out, as with any service that is not there
		}
		raw, err := json.Marshal(body)
		if err == nil {
			_ = r.Respond(raw) // the caller has gone
		}
	}), micro.WithEndpointSubject(bus.HelloSubject))
}

// overNATS turns a NATS request into an HTTP one and its answer back.
func overNATS(ctx context.Context, r micro.Request, handler http.Handler) {
	h := r.Headers()
	w := httptest.NewRecorder()
	req, err := http.NewRequestWithContext(ctx, h.Get("Method"), "http://unibus"+h.Get("Path"), bytes.NewReader(r.Data()))
	if err != nil {
		writeProblem(w, fmt.Errorf("%w: method or path", store.ErrInvalid))
	} else {
		req.RequestURI = h.Get("Path")
		req.Header.Set("Authorization", h.Get("Authorization"))
		handler.ServeHTTP(w, req)
	}
	_ = r.Respond(w.Body.Bytes(), micro.WithHeaders(micro.Headers{ // the caller has gone
		"Status":       {strconv.Itoa(w.Code)},
		"Content-Type": {w.Header().Get("Content-Type")},
		"Date":         {time.Now().UTC().Format(http.TimeFormat)}, // as over HTTP: it shows a clock that is off
	}))
}
