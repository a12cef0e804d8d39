package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

const (
	maxRequests  = 64        // worked on at once
	maxPerCaller = 32        // of one caller; while others ask, too, as many as there are processors, or two
	maxQueued    = 256       // of one caller, that wait
	callerBytes  = 4 << 20   // of one caller's requests in hand
	allBytes     = 64 << 20  // of all requests in hand
	pendingMsgs  = 256 << 10 // that have come and are not looked at yet: others' too are lost beyond it
	pendingBytes = 32 << 20  // as much
	maxPath      = 8 << 10   // bytes of a path with its query
	maxBusy      = 256       // answers that the service is busy, that wait to be sent
	maxTokens    = 4096      // verified tokens that are remembered
	maxInboxes   = 64 << 10  // connections remembered
	ownRate      = 200       // tokens verified in a second, of one user, who need not have more than one an hour
	ownBurst     = 512
)

// stoppingRetry is after how many seconds a service that stops has its callers ask again.
const stoppingRetry = "0.1"

// asker is who signed a token, and where answers to it go.
type asker struct {
	key   crypto.PublicKey
	inbox crypto.Inbox
}

// carrier brings requests to the API, over NATS and over HTTP, each in its caller's turn. What it does for
// a request before that is little and never waits, so that a flood leaves time for others' requests.
type carrier struct {
	ctx     context.Context
	handler http.Handler
	pool    *pool[crypto.PublicKey]
	tokens  *recent[string, asker]
	// inboxes are the connections that this service let in, and whose they are.
	inboxes   *recent[string, crypto.PublicKey]
	verifying *rates[string] // by user, or by inbox
	unread    *unread
	writing   writing
	refused   *refusals
	busy      chan *nats.Msg                // requests to answer so
	drop      func(caller crypto.PublicKey) // ends a caller's connections; never waits
	dropped   func(why string)              // counts a request that is not answered
	now       func() time.Time

	verifier     *verifier // of those who ask over HTTP
	authenticate func(r *http.Request) (*call, error)
}

func newCarrier(ctx context.Context, a *api, handler http.Handler, wait *tasks.Group, m *metrics) *carrier {
	c := &carrier{
		busy: make(chan *nats.Msg, maxBusy),
		ctx:  ctx, handler: recovered(handler, a.log), tokens: newRecent[string, asker](maxTokens), authenticate: a.authenticate,
		inboxes: newRecent[string, crypto.PublicKey](maxInboxes), verifying: newRates[string](maxInboxes, ownRate, ownBurst), verifier: newVerifier(a.logs.roster, wait, a.log, a.now),
		refused: newRefusals(), unread: newUnread(a.now), drop: func(crypto.PublicKey) {},
		dropped: m.drop, now: a.now,
		pool: newPool[crypto.PublicKey](wait.Go, guarded(a.log), turnLimits{
			atOnce: maxRequests, each: maxPerCaller, shared: max(2, runtime.GOMAXPROCS(0)), inHand: maxPerCaller + maxQueued, bytes: callerBytes, allBytes: allBytes,
		}),
	}
	wait.Go(c.answerBusy)
	return c
}

// carry serves the API over NATS. Whoever asks is answered in its own inbox, which its token names, and
// nowhere else: a request's reply subject is whatever the asker likes.
func (c *carrier) carry(nc *nats.Conn) (*nats.Subscription, error) {
	sub, err := nc.QueueSubscribe(bus.APIFilter, "unibus", c.receive)
	if err == nil {
		err = sub.SetPendingLimits(pendingMsgs, pendingBytes)
	}
	return sub, err
}

// receive takes a request over NATS, or refuses it. The servers let only the connection whose inbox a subject
// names publish there, so that whatever comes is on the account of whoever that is, if this service let it in;
// another service of the bus, if it did, has its share of what that connection sends, and judges by that.
func (c *carrier) receive(m *nats.Msg) {
	inbox, now := bus.AskedBy(m.Subject), c.now()
	owner, ours := c.inboxes.get(inbox)
	if ours && c.refused.isBarred(owner, now) {
		c.dropped("barred")
		return
	}
	of := inbox
	if ours {
		of = string(owner[:])
	}
	who, err := c.asker(m.Header.Get("Authorization"), of)
	if !inInbox(m.Reply, inbox) || err == nil && (who.inbox.String() != inbox || ours && who.key != owner) {
		err = errUnauthenticated
	}
	if err != nil {
		answer := ours && c.refuse(owner, m.Size(), now)
		if !answer || !errors.Is(err, errBusy) || !c.tell(m) {
			c.dropped("unanswerable")
		}
		return
	}
	caller := who.key
	if !ours {
		caller = c.caller(inbox, caller)
	}
	do := func() {
		if !c.refused.isBarred(caller, c.now()) { // while it waited
			c.answer(caller, m)
		}
	}
	if c.pool.offer(caller, m.Size(), do) {
		return
	}
	if !c.refuse(caller, m.Size(), now) || !c.tell(m) {
		c.dropped("busy")
	}
}

// answer answers a request over NATS, unless its caller does not read its answers.
func (c *carrier) answer(caller crypto.PublicKey, m *nats.Msg) {
	if c.unread.full(c.ctx, caller) {
		c.dropped("unread")
		_ = m.RespondMsg(busyAnswer()) // the caller has gone
		return
	}
	answer := overNATS(c.ctx, m, c.handler)
	c.unread.add(caller, len(answer.Data))
	_ = m.RespondMsg(answer) // as above
}

// refuse notes that a caller was refused a request, drops it when there are too many, and says whether to
// answer.
func (c *carrier) refuse(caller crypto.PublicKey, size int, now time.Time) (answer bool) {
	answer, drop := c.refused.refuse(caller, size, now)
	if drop {
		c.drop(caller)
	}
	return answer
}

// caller is whose turn a request takes that came by a connection which this service did not let in. Anyone who is
// connected can make up identities: those that are not on the roster share one turn, that of the zero key. Whose
// connection it is, if a user's, is remembered.
func (c *carrier) caller(inbox string, key crypto.PublicKey) crypto.PublicKey {
	if !c.verifier.roster.has(key, c.now()) {
		return crypto.PublicKey{}
	}
	c.inboxes.put(inbox, key)
	return key
}

// mayVerify reports whether one more token is verified now, of a user or, where that is not known, of a connection.
func (c *carrier) mayVerify(of string, now time.Time) bool {
	return c.verifying.of(of).AllowN(now, 1)
}

// tell lets a request be answered that the service is busy. Sending may wait, which receive may not.
func (c *carrier) tell(m *nats.Msg) bool {
	select {
	case c.busy <- &nats.Msg{Subject: m.Subject, Reply: m.Reply, Sub: m.Sub}: // without its body
		return true
	default:
		return false
	}
}

// answerBusy answers what tell was given.
func (c *carrier) answerBusy() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case m := <-c.busy:
			_ = m.RespondMsg(busyAnswer()) // the caller has gone
		}
	}
}

// asker is who signed a request's token, whether or not it is still of use: that the API itself checks.
// Tokens are remembered, and new ones verified at a bounded rate: errBusy beyond it.
func (c *carrier) asker(authorization, of string) (asker, error) {
	bearer, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok {
		return asker{}, fmt.Errorf("%w: no bearer token", errUnauthenticated)
	}
	if who, ok := c.tokens.get(bearer); ok {
		return who, nil
	}
	if !c.mayVerify(of, c.now()) {
		return asker{}, errBusy
	}
	return c.open(bearer)
}

// open verifies a token, and remembers it.
func (c *carrier) open(bearer string) (asker, error) {
	t, err := crypto.DecodeToken(bearer)
	if err != nil {
		return asker{}, fmt.Errorf("%w: %v", errUnauthenticated, err)
	}
	who := asker{t.Key, t.Inbox}
	c.tokens.put(strings.Clone(bearer), who)
	return who, nil
}

// inInbox reports whether a reply subject is in an inbox.
func inInbox(reply, inbox string) bool {
	rest, ok := strings.CutPrefix(reply, bus.InboxRoot)
	rest, ok2 := strings.CutPrefix(rest, inbox)
	return ok && ok2 && strings.HasPrefix(rest, ".")
}

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
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return crypto.PublicKey{}, fmt.Errorf("%w: no bearer token", errUnauthenticated)
	}
	who, seen := c.tokens.get(bearer)
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
			_, err := c.open(bearer)
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

// guarded runs requests, and makes a panic in one an error line.
func guarded(log *slog.Logger) func(func()) {
	return func(do func()) {
		defer func() {
			if v := recover(); v != nil {
				logPanic(log, v)
			}
		}()
		do()
	}
}

func logPanic(log *slog.Logger, v any) {
	log.Error("panic in a request", "panic", v, "stack", string(debug.Stack()))
}

// overNATS turns a NATS request into an HTTP one and its answer back. A request that is cut off since the
// service stops, when ctx ends, is answered like one that has to wait: another service, or this one when it is
// back, answers if it is asked again, which every request of the API may be.
func overNATS(ctx context.Context, m *nats.Msg, handler http.Handler) *nats.Msg {
	w := httptest.NewRecorder()
	path := m.Header.Get("Path")
	req, err := http.NewRequestWithContext(ctx, m.Header.Get("Method"), "http://unibus"+path, bytes.NewReader(m.Data))
	if err != nil || len(path) > maxPath {
		writeProblem(w, fmt.Errorf("%w: method or path", store.ErrInvalid))
	} else {
		req.RequestURI = path
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
	for _, name := range []string{"Content-Type", "First", "Last", "Lost", "Retry-After"} {
		if v := w.Header().Get(name); v != "" {
			reply.Header[name] = []string{v}
		}
	}
	return reply
}

func busyAnswer() *nats.Msg {
	return &nats.Msg{Data: busyBody, Header: nats.Header{
		"Status": {strconv.Itoa(http.StatusTooManyRequests)}, "Content-Type": {problemType}, "Retry-After": {retryAfter},
	}}
}

// busyBody is the answer to whoever has too many requests waiting, prepared once.
var busyBody = func() []byte {
	w := httptest.NewRecorder()
	writeProblem(w, fmt.Errorf("%w: more than %d requests of one caller", errBusy, maxPerCaller+maxQueued))
	return bytes.Clone(w.Body.Bytes())
}()
