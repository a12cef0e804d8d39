package service

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/store"
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
