// Package direct reads streams by direct get: a request that any replica of a stream answers with many
// messages (SPEC.md §7). It makes no consumer, so that nothing of it outlives the caller, and nothing
// waits longer than the caller's context.
//
// What is read is what one replica holds. How far the stream reaches is not for an answer to say: that
// is asked of the stream's leader (see Leader), or shown by a barrier that a quorum agreed on.
package direct

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/store"
)

// ErrMany says that more subjects match than a server gives at once.
var ErrMany = errors.New("too many subjects match")

// ErrNone says that the replica that answered holds nothing of what was asked for: it may lag.
var ErrNone = errors.New("the replica holds none of it")

// ErrLost says that a part of an answer did not arrive.
var ErrLost = errors.New("a part of a server's answer was lost")

// Request is a direct get request, in the server's words. Zero fields are left out.
type Request struct {
	Seq       uint64   `json:"seq,omitempty"`
	StartTime string   `json:"start_time,omitempty"` // RFC 3339
	NextFor   string   `json:"next_by_subj,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"` // at least one message comes, however small it is
}

// maxReplies is how many messages of one answer may wait for their receiver: what a server gives at once,
// and its end.
const maxReplies = 1025

// Client receives the answers of one connection over one subscription.
type Client struct {
	nc    *nats.Conn
	inbox string
	sub   *nats.Subscription

	mu   sync.Mutex
	last uint64
	open map[string]chan *nats.Msg
}

// New returns a client on a connection that may use JetStream. Close ends it.
func New(nc *nats.Conn) (*Client, error) {
	c := &Client{nc: nc, inbox: nc.NewInbox() + ".", open: map[string]chan *nats.Msg{}}
	var err error
	c.sub, err = nc.Subscribe(c.inbox+"*", func(m *nats.Msg) {
		c.mu.Lock()
		defer c.mu.Unlock()
		select {
		case c.open[m.Subject] <- m: // nil, for an answer nobody waits for, never is ready
		default:
		}
	})
	return c, err
}

// Close ends the subscription. The connection may be gone already, which serves as well.
func (c *Client) Close() { _ = c.sub.Unsubscribe() }

// Get asks for messages of a stream and calls f with each that comes, in their order. It says whether the
// replica has more of them than it gave. It returns ErrNone for an answer without any, or that breaks off at a
// message that the replica cannot read, and ErrLost when a part of the answer did not arrive; f has then had
// what came before.
func (c *Client) Get(ctx context.Context, stream string, r Request, f func(*nats.Msg) error) (more bool, err error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	replies := maxReplies
	if r.Batch > 0 {
		replies = min(replies, r.Batch+1)
	}
	answers, done, err := c.ask("$JS.API.DIRECT.GET."+stream, raw, replies)
	if err != nil {
		return false, err
	}
	defer done()
	for last := uint64(0); ; {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case m := <-answers:
			if Last(m, "Nats-Subject") == "" {
				return end(m, last)
			}
			if number(m, "Nats-Last-Sequence") != last { // each message names the one before it
				return false, ErrLost
			}
			if last = Seq(m); last == 0 {
				return false, fmt.Errorf("%w: a server's answer is not understood", store.ErrUnavailable)
			}
			if err := f(m); err != nil {
				return false, err
			}
		}
	}
}

// Lowest makes the same request many times at once and returns the lowest place of a message that an answer
// begins with; 0 when no answer has one. Each goes to a replica by chance, so that many reach all of them. It
// returns an error unless all are answered.
func (c *Client) Lowest(ctx context.Context, stream string, r Request, times int) (lowest uint64, err error) {
	type answer struct {
		seq uint64
		err error
	}
	answers := make(chan answer, times)
	for range times {
		go func() { // ends with ctx at the latest
			var a answer
			_, a.err = c.Get(ctx, stream, r, func(m *nats.Msg) error {
				a.seq = Seq(m)
				return nil
			})
			answers <- a
		}()
	}
	for range times {
		a := <-answers
		switch {
		case a.err != nil && !errors.Is(a.err, ErrNone):
			err = a.err
		case a.seq > 0 && (lowest == 0 || a.seq < lowest):
			lowest = a.seq
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: not all replicas of the stream %s answer", store.ErrUnavailable, stream)
	}
	return lowest, err
}

// ask sends a request and returns where up to so many replies to it come, each request on a subject of its own. More are dropped:
// a server gives no more, and whoever does is none. done has to be called when no more are wanted.
func (c *Client) ask(subject string, request []byte, replies int) (answers <-chan *nats.Msg, done func(), err error) {
	ch := make(chan *nats.Msg, replies)
	c.mu.Lock()
	c.last++
	reply := c.inbox + strconv.FormatUint(c.last, 36)
	c.open[reply] = ch
	c.mu.Unlock()
	done = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, reply)
	}
	if err := c.nc.PublishRequest(subject, reply, request); err != nil {
		done()
		return nil, nil, err
	}
	return ch, done, nil
}

// end reads a message that is no data: the end of an answer whose last message was last, or what is wrong.
func end(m *nats.Msg, last uint64) (more bool, err error) {
	switch status := m.Header.Get("Status"); status {
	case "204":
		if number(m, "Nats-Last-Sequence") != last {
			return false, ErrLost
		}
		return m.Header.Get("Nats-Num-Pending") != "0", nil
	case "404":
		return false, ErrNone
	case "413":
		return false, ErrMany
	case "503":
		return false, nats.ErrNoResponders
	default:
		return false, fmt.Errorf("%w: a server answers %s %s", store.ErrUnavailable, status, m.Header.Get("Description"))
	}
}

// Last is the last value of a header: of those that begin with Nats- only that is the server's. Whoever
// wrote a message chose the ones before it.
func Last(m *nats.Msg, key string) string {
	values := m.Header[key]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// Seq is the place of a message in its stream, as the server says; 0 when it says none.
func Seq(m *nats.Msg) uint64 { return number(m, "Nats-Sequence") }

// number is the server's number in a header; 0 when there is none.
func number(m *nats.Msg, header string) uint64 {
	n, err := strconv.ParseUint(Last(m, header), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
