package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/unibus/unibus/internal/store"
)

// This file turns what goes wrong into the errors of package store: unreachable when no answer came, problem when the
// answer is an error. What the service says is passed on in its own words, which are for people; what a caller branches on
// is the kind.

// unreachable says what kind of failure it is when no answer came. Over NATS the connection itself may say that nobody
// there is allowed or reachable; that is kept. The request's address is not repeated: its caller knows where it asked.
func unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, store.ErrDenied) || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrInvalid) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: no answer in time", store.ErrLate)
	}
	return fmt.Errorf("%w: %v", store.ErrUnavailable, err)
}

// kinds are those of the API's problems (RFC 9457).
var kinds = map[string]error{
	"unibus:invalid":         store.ErrInvalid,
	"unibus:unauthenticated": store.ErrDenied,
	"unibus:denied":          store.ErrDenied,
	"unibus:not-found":       store.ErrNotFound,
	"unibus:conflict":        store.ErrConflict,
	"unibus:exists":          store.ErrExists,
	"unibus:too-large":       store.ErrInvalid,
	"unibus:unavailable":     store.ErrUnavailable,
	"unibus:damaged":         store.ErrDamagedThere,
	"unibus:busy":            store.ErrUnavailable,
}

// problem reads an answer that is none: a problem of a known kind in the service's words, or ErrUnavailable.
func problem(status int, raw []byte) error {
	var p store.Problem
	if json.Unmarshal(raw, &p) == nil {
		if kind := kinds[p.Type]; kind != nil {
			if p.Detail == "" || p.Detail == kind.Error() {
				return kind
			}
			return &detailed{kind, p.Detail}
		}
	}
	return fmt.Errorf("%w: the service answered with status %d", store.ErrUnavailable, status)
}

// detailed is an error in the service's words, which name its kind already.
type detailed struct {
	kind   error
	detail string
}

// Error is what the service says.
func (e *detailed) Error() string { return e.detail }

// Unwrap lets the error be of the kind that the service names.
func (e *detailed) Unwrap() error { return e.kind }
