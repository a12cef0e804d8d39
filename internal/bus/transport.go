package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/nats-io/nats.go"
)

// transport carries HTTP requests of the membership API over a connection, each as a NATS request with a header for
// its method, its path and who asks (SPEC.md §7). It is what makes a Conn an http.RoundTripper.
type transport struct {
	link *link
	life *life
}

// RoundTrip asks the service, and again when the connection breaks before the answer comes: every request of the API
// may be repeated. ErrUnavailable when nobody answers, or once the connection is closed.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	m := nats.NewMsg(APISubject(t.link.inbox))
	m.Header.Set("Method", r.Method)
	m.Header.Set("Path", r.URL.RequestURI())
	m.Header.Set("Authorization", r.Header.Get("Authorization"))
	if r.Body != nil {
		var body bytes.Buffer
		body.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead) // or it grows again and again
		_, err := body.ReadFrom(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		m.Data = body.Bytes()
	}
	reply, err := t.request(r.Context(), m)
	if err != nil {
		return nil, failure(err)
	}
	status, err := strconv.Atoi(reply.Header.Get("Status"))
	if err != nil || status < 100 || status > 599 {
		return nil, fmt.Errorf("the service answered with the status %q", reply.Header.Get("Status"))
	}
	header := http.Header{}
	for _, name := range []string{"Content-Type", "Date", "First", "Last", "Lost", "Retry-After"} {
		if v := reply.Header.Get(name); v != "" {
			header.Set(name, v)
		}
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(reply.Data)),
		ContentLength: int64(len(reply.Data)),
		Request:       r,
	}, nil
}

// request asks until there is an answer, once for each session of the link: a request that went out before a break may have been
// served, and its answer lost.
func (t transport) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	for {
		session := t.link.current()
		try, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(session.ctx, cancel)
		reply, err := t.link.nc.RequestMsgWithContext(try, m)
		stop()
		cancel()
		broken := session.ctx.Err() != nil || disconnected(err)
		if err == nil || ctx.Err() != nil || !broken {
			return reply, err
		}
		if err := t.life.next(ctx, session); err != nil {
			return nil, err
		}
	}
}

// disconnected reports whether an error of the library says that a connection is not there, or went before the answer
// came: it tells so before it tells that the session is over.
func disconnected(err error) bool {
	return errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionClosed)
}
