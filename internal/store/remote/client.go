package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/unibus/unibus/internal/patience"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// This file makes requests, for all of package remote: each in its turn, bounded by OpTimeout, again when the service says that it is busy.

// maxReply bounds what a service can make its client hold.
const maxReply = 4 << 20

// maxAtOnce is how many requests of a store are under way at once; further ones wait. A service works on no
// more than twice as many of one caller, and leaves it to several processes of that caller to share them.
const maxAtOnce = 16

// client makes the requests of one identity.
type client struct {
	http    http.Client
	url     string
	timeout time.Duration
	bearer  *bearer
	slots   chan struct{} // held by requests under way
	skew    atomic.Int64  // time.Duration, by the last answer
}

// newClient asks nothing yet.
func newClient(o Options) *client {
	return &client{
		http: http.Client{Transport: o.Transport}, url: o.URL, timeout: o.OpTimeout,
		bearer: &bearer{identity: o.Identity, bus: o.Bus, inbox: o.Inbox}, slots: make(chan struct{}, maxAtOnce),
	}
}

// Close drops idle connections; the transport is its owner's.
func (c *client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Skew is how far the service's clock is ahead of this machine's, give or take a second and what the last
// answer took; 0 before the first answer.
func (c *client) Skew() time.Duration { return time.Duration(c.skew.Load()) }

// call makes one request with in as its JSON body, and reads the answer's into out; both may be nil. ErrUnavailable for an
// answer that is not what it is to be.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	return c.write(ctx, 0, method, path, in, out)
}

// write is call for a request that has the service write so many views, sealed keys or cards.
func (c *client) write(ctx context.Context, writes int, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	_, raw, err := c.ask(ctx, store.Within(c.timeout, writes), method, path, body)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%w: the service's answer is not understood: %v", store.ErrUnavailable, err)
	}
	return nil
}

// Do makes one request with a body that is JSON already, nil for none, and returns that of the answer: both as they are.
func (c *client) Do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	_, raw, err := c.ask(ctx, c.timeout, method, path, body)
	return raw, err
}

// ask makes one request when it is its turn, again after a while when the service is busy with others of this
// caller, for so long from then on. It returns the answer's headers and body.
func (c *client) ask(ctx context.Context, within time.Duration, method, path string, body []byte) (http.Header, []byte, error) {
	if err := c.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer func() { <-c.slots }()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	// Busy is no failure: the service was there, and has not begun to do what it was asked.
	for {
		header, raw, err := c.once(ctx, method, path, body)
		var busy *busyError
		if !errors.As(err, &busy) {
			return header, raw, err
		}
		if tasks.Pause(ctx, busy.again) != nil {
			return nil, nil, err
		}
	}
}

// enter waits for a request's turn. Nothing is given up before those ahead have had a chance to be given up.
func (c *client) enter(ctx context.Context) error {
	select {
	case c.slots <- struct{}{}:
		return nil
	default:
	}
	wait := time.NewTimer(patience.Turns * c.timeout)
	defer wait.Stop()
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return unreachable(ctx.Err())
	case <-wait.C:
		return fmt.Errorf("%w: too many requests are under way", store.ErrUnavailable)
	}
}

// busyError is an ErrUnavailable of a service that has many requests of this caller waiting.
type busyError struct {
	again time.Duration // when to ask next
	why   error
}

// Error is the service's answer.
func (e *busyError) Error() string { return e.why.Error() }

// Unwrap lets the error be of the kind that the answer has.
func (e *busyError) Unwrap() error { return e.why }

// Bounds of what a service can make its client wait before it asks again: neither at once, nor for ever.
const (
	minAgain = 50 * time.Millisecond
	maxAgain = 2 * time.Second
)

// once makes a request and reads the answer: its headers and body, or what kind of failure it is.
func (c *client) once(ctx context.Context, method, path string, body []byte) (http.Header, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: no request can be for %q", store.ErrInvalid, path)
	}
	token, err := c.bearer.at(time.Now())
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	reply, err := c.http.Do(r)
	if err != nil {
		return nil, nil, unreachable(err)
	}
	defer reply.Body.Close()
	if date, err := http.ParseTime(reply.Header.Get("Date")); err == nil {
		c.skew.Store(int64(time.Until(date)))
	}
	raw, err := io.ReadAll(io.LimitReader(reply.Body, maxReply+1))
	switch {
	case err != nil || len(raw) > maxReply:
		return nil, nil, fmt.Errorf("%w: the service's answer breaks off or is too long", store.ErrUnavailable)
	case reply.StatusCode == http.StatusTooManyRequests:
		// Clients that were told so at the same time do not all come back at the same time.
		again := retryAfter(reply.Header.Get("Retry-After"))
		return nil, nil, &busyError{again + rand.N(again), problem(reply.StatusCode, raw)}
	case reply.StatusCode >= 300:
		return nil, nil, problem(reply.StatusCode, raw)
	}
	return reply.Header, raw, nil
}

// retryAfter is how long a busy service asks its client to wait, by the header of that name, within bounds. What is no
// number of seconds is as little as may be.
func retryAfter(header string) time.Duration {
	seconds, _ := strconv.ParseFloat(header, 64)
	return min(max(time.Duration(seconds*float64(time.Second)), minAgain), maxAgain)
}
