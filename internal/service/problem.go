package service

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/store"
)

// An error becomes an answer here and nowhere else: its kind says which problem and status it is, and its text is the
// detail.

// errUnauthenticated is for callers whose token does not say who they are.
var errUnauthenticated = errors.New("unauthenticated")

// errMethod is for requests with a method that their path does not take.
var errMethod = errors.New("the path takes other methods")

// errTooLarge is for requests over maxRequest.
var errTooLarge = errors.New("request too large")

// errBusy is for callers with too many requests waiting.
var errBusy = errors.New("busy")

const (
	problemType = "application/problem+json"
	retryAfter  = "1" // seconds, after which a caller's queue is shorter
	challenge   = `Bearer realm="unibus"`
)

// problems map errors to problem types, the first match deciding. What matches none means that the
// store cannot be relied on just now.
var problems = []struct {
	err    error
	name   string
	status int
}{
	{errUnauthenticated, "unauthenticated", http.StatusUnauthorized},
	{errMethod, "invalid", http.StatusMethodNotAllowed},
	{errTooLarge, "too-large", http.StatusRequestEntityTooLarge},
	{errBusy, "busy", http.StatusTooManyRequests},
	{store.ErrIntegrity, "damaged", http.StatusInternalServerError}, // of what is stored, before what it says of the rule that is broken there
	{store.ErrConflict, "conflict", http.StatusConflict},
	{store.ErrExists, "exists", http.StatusConflict},
	{store.ErrNotFound, "not-found", http.StatusNotFound},
	{store.ErrDenied, "denied", http.StatusForbidden},
	{ledger.ErrNotAllowed, "denied", http.StatusForbidden},
	{store.ErrInvalid, "invalid", http.StatusBadRequest},
	{ledger.ErrRule, "invalid", http.StatusBadRequest},
	{ledger.ErrPlace, "conflict", http.StatusConflict},
	{ledger.ErrNewer, "invalid", http.StatusBadRequest},
	{crypto.ErrEncoding, "invalid", http.StatusBadRequest},
	{crypto.ErrSignature, "invalid", http.StatusBadRequest},
}

// writeProblem answers with an error, as RFC 9457 has it: the kind of the error is the type, and its text the detail.
func writeProblem(w http.ResponseWriter, err error) {
	p := store.Problem{Type: "unibus:unavailable", Status: http.StatusServiceUnavailable, Detail: brief(err.Error())}
	for _, k := range problems {
		if errors.Is(err, k.err) {
			p.Type, p.Status = "unibus:"+k.name, k.status
			break
		}
	}
	if p.Status == http.StatusServiceUnavailable && errors.Is(err, context.Canceled) {
		p.Detail = "the service is stopping"
	}
	p.Title = http.StatusText(p.Status)
	var c *conflict
	if errors.As(err, &c) {
		p.Head = &c.head
	}
	switch p.Status {
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", retryAfter)
	case http.StatusUnauthorized: // RFC 9110 has it say what would do
		w.Header().Set("WWW-Authenticate", challenge)
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller has gone; there is nobody to tell
}

// maxDetail bounds a detail, in bytes: it may repeat what was asked, and an answer must not be larger than a question.
const maxDetail = 1000

// brief is the beginning of a text that is long.
func brief(text string) string {
	if len(text) <= maxDetail {
		return text
	}
	return strings.ToValidUTF8(text[:maxDetail], "") + "…"
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // as above
}
