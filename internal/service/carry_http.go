package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// The way of a request over HTTP: it has a goroutine of its own already, which waits for the caller to be known (user), for
// the turn (pool) and for the answer, and is the only one that a slow reader holds up.

// ServeHTTP serves the API over HTTP, in the same turns. A body is read before its turn comes, so that
// one that trickles keeps nobody waiting, and only of users; newHTTP bounds how long that takes.
func (c *carrier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, err := c.user(r)
	if errors.Is(err, errBusy) {
		c.linger(r)
	}
	if err != nil {
		w.Header().Set("Connection", "close") // rather than read the body first
		writeProblem(w, err)
		return
	}
	size := maxRequest
	if r.ContentLength >= 0 {
		size = int(min(r.ContentLength, maxRequest))
	}
	if !c.pool.reserve(caller, size) {
		writeProblem(w, fmt.Errorf("%w: too many requests of one caller", errBusy))
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil {
		c.pool.giveBack(caller, size)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errors.New("the body has not come in time")
		}
		writeProblem(w, fmt.Errorf("%w: %v", store.ErrInvalid, err))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer, ended := httptest.NewRecorder(), make(chan struct{})
	c.pool.put(caller, size, func() {
		defer close(ended)
		if r.Context().Err() == nil {
			c.handler.ServeHTTP(answer, r)
		}
	})
	select {
	case <-ended:
		size := answer.Body.Len()
		if !c.writing.begin(caller, size) {
			writeProblem(w, fmt.Errorf("%w: many answers that the caller has not read yet", errBusy))
			return
		}
		defer c.writing.end(caller, size)
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes()) // the caller has gone; there is nobody to tell
	case <-r.Context().Done():
	case <-c.ctx.Done():
		writeProblem(w, context.Canceled)
	}
}

// lingering is how long strangers over HTTP who ask too much wait to be told so.
const lingering = time.Second

// linger keeps one waiting: whoever is refused at once asks again the sooner.
func (c *carrier) linger(r *http.Request) {
	over := time.NewTimer(lingering)
	defer over.Stop()
	select {
	case <-over.C:
	case <-r.Context().Done():
	case <-c.ctx.Done():
	}
}

// user is who signed the token of a request over HTTP, if it is a user's. Who is not on the roster has the store
// asked in a stranger's turn: it is a newcomer, or nobody.
func (c *carrier) user(r *http.Request) (crypto.PublicKey, error) {
	bearer, err := bearerOf(r.Header.Get("Authorization"))
	if err != nil {
		return crypto.PublicKey{}, err
	}
	who, seen := c.askers.tokens.get(bearer)
	if seen && c.verifier.roster.has(who.key, c.now()) {
		return who.key, nil
	}
	t, err := crypto.PeekToken(bearer)
	if err != nil {
		return crypto.PublicKey{}, fmt.Errorf("%w: %v", errUnauthenticated, err)
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	from := source{addressOf(host), t.Key}
	err = c.await(r, func(done func(error)) {
		check := func() {
			_, err := c.askers.open(bearer)
			done(err)
		}
		c.verifier.take(from, len(bearer), check, func(string) { done(errBusy) })
	})
	if err != nil || c.verifier.roster.has(t.Key, c.now()) {
		return t.Key, err
	}
	return t.Key, c.await(r, func(done func(error)) {
		ask := func() {
			_, err := c.authenticate(r)
			done(err)
		}
		if !c.verifier.asks.offer(from.address, len(bearer), ask) {
			done(errBusy)
		}
	})
}

// await begins something, and waits until it is done or nobody waits for it any more.
func (c *carrier) await(r *http.Request, begin func(done func(error))) error {
	ended := make(chan error, 1)
	begin(func(err error) { ended <- err })
	select {
	case err := <-ended:
		return err
	case <-r.Context().Done():
		return r.Context().Err()
	case <-c.ctx.Done():
		return context.Canceled
	}
}
