package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/bus"
	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/tasks"
)

// The way of a request over NATS: receive looks at whose it is, answer works on it when its turn comes, and whoever has too
// many is told so by another goroutine, since sending may wait. None of it keeps a request of one caller before another's.

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
	maxInboxes   = 64 << 10  // connections remembered
)

// stoppingRetry is after how many seconds a service that stops has its callers ask again.
const stoppingRetry = "0.1"

// carrier brings requests to the API, over NATS (here) and over HTTP (carry_http.go), each in its caller's turn. What it
// does for a request before that is little and never waits, so that a flood leaves time for others' requests.
type carrier struct {
	carrierOptions
	pool    *pool[crypto.PublicKey]
	askers  *askers
	unread  *unread
	writing writing
	refused *refusals
	busy    chan *nats.Msg // requests to answer so
}

// carrierOptions are what a carrier is made of.
type carrierOptions struct {
	ctx          context.Context // of what is under way
	handler      http.Handler    // of requests whose turn has come
	authenticate func(r *http.Request) (*call, error)
	verifier     *verifier                         // of those who ask over HTTP
	inboxes      *recent[string, crypto.PublicKey] // the connections that this service let in, and whose they are
	held         func(ctx context.Context, user crypto.PublicKey) (bytes int, err error)
	drop         func(caller crypto.PublicKey) // ends a caller's connections; never waits
	dropped      func(why string)              // counts a request that is not answered
	log          *slog.Logger
	now          func() time.Time
}

// newCarrier makes a carrier that works in goroutines of a group. That its callers hear of being refused takes one more,
// which whoever makes it starts: answerBusy.
func newCarrier(o carrierOptions, wait *tasks.Group) *carrier {
	o.handler = recovered(o.handler, o.log)
	return &carrier{
		carrierOptions: o, busy: make(chan *nats.Msg, maxBusy),
		askers: newAskers(o.now), refused: newRefusals(), unread: newUnread(o.held, o.now),
		pool: newPool[crypto.PublicKey](wait.Go, guarded(o.log), turnLimits{
			atOnce: maxRequests, each: maxPerCaller, shared: max(2, runtime.GOMAXPROCS(0)), inHand: maxPerCaller + maxQueued, bytes: callerBytes, allBytes: allBytes,
		}),
	}
}

// newInboxes remembers whose the connections are that a service let in.
func newInboxes() *recent[string, crypto.PublicKey] {
	return newRecent[string, crypto.PublicKey](maxInboxes)
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
	from := inbox
	if ours {
		from = string(owner[:])
	}
	who, err := c.askers.of(m.Header.Get("Authorization"), from)
	if !inInbox(m.Reply, inbox) || err == nil && (who.inbox.String() != inbox || ours && who.key != owner) {
		err = errUnauthenticated
	}
	if err != nil {
		answer := ours && c.refuse(owner, m.Size(), now)
		if !answer || !errors.Is(err, errBusy) || !c.answerBusyLater(m) {
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
	if !c.refuse(caller, m.Size(), now) || !c.answerBusyLater(m) {
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

// answerBusyLater lets a request be answered that the service is busy. Sending may wait, which receive may not.
func (c *carrier) answerBusyLater(m *nats.Msg) bool {
	select {
	case c.busy <- &nats.Msg{Subject: m.Subject, Reply: m.Reply, Sub: m.Sub}: // without its body
		return true
	default:
		return false
	}
}

// answerBusy answers what answerBusyLater was given, until the service ends.
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

// inInbox reports whether a reply subject is in an inbox.
func inInbox(reply, inbox string) bool {
	return strings.HasPrefix(reply, bus.InboxRoot+inbox+".")
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
	if req != nil && req.Method == http.MethodHead { // net/http leaves it out by itself
		reply.Data = nil
	}
	for _, name := range []string{"Content-Type", "First", "Last", "Lost", "Retry-After"} {
		if v := w.Header().Get(name); v != "" {
			reply.Header[name] = []string{v}
		}
	}
	return reply
}

// busyAnswer tells a caller that it has too many requests waiting.
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
