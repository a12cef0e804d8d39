package bus

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/store"
)

// answers has the service answer the requests of peers.
func (p *peered) answers(f func(m *nats.Msg)) {
	p.Helper()
	sub, err := p.server.Links.API.Subscribe(APIFilter, f)
	if err != nil {
		p.Fatal(err)
	}
	if err := p.server.Links.API.Flush(); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = sub.Unsubscribe() })
}

// answer answers a request with a status and a body.
func answer(m *nats.Msg, status, body string) {
	reply := &nats.Msg{Header: nats.Header{"Status": {status}, "Content-Type": {"text/plain"}, "First": {"3"}, "Other": {"x"}}, Data: []byte(body)}
	_ = m.RespondMsg(reply) // who asked may be gone
}

// ask makes a request of the API.
func (p *peered) ask(ctx context.Context, body io.Reader) (*http.Response, error) {
	p.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://bus/logs/x?after=1", body)
	if err != nil {
		p.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer token")
	return p.conn.RoundTrip(r)
}

// TestRoundTrip: a request goes out with what the service needs of it, on the subject of who asks, and the answer comes
// back with the headers that a client reads.
func TestRoundTrip(t *testing.T) {
	p := newPeered(t)
	asked := make(chan *nats.Msg, 1)
	p.answers(func(m *nats.Msg) {
		asked <- m
		answer(m, "201", "made")
	})
	reply, err := p.ask(t.Context(), strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(reply.Body)
	if reply.StatusCode != 201 || string(body) != "made" || reply.Header.Get("First") != "3" || reply.Header.Get("Content-Type") != "text/plain" || reply.Header.Get("Other") != "" {
		t.Errorf("%+v, %q", reply, body)
	}
	m := <-asked
	if AskedBy(m.Subject) != p.conn.Inbox().String() || m.Header.Get("Method") != "POST" || m.Header.Get("Path") != "/logs/x?after=1" ||
		m.Header.Get("Authorization") != "Bearer token" || string(m.Data) != "body" {
		t.Errorf("%s %+v %q", m.Subject, m.Header, m.Data)
	}
	if _, err := p.ask(t.Context(), iotest.ErrReader(io.ErrUnexpectedEOF)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that cannot be read: %v", err)
	}
	if _, err := p.ask(t.Context(), nil); err != nil {
		t.Errorf("without a body: %v", err)
	}
}

// TestRoundTripStatus: what is no status of HTTP is no answer.
func TestRoundTripStatus(t *testing.T) {
	p := newPeered(t)
	var status string
	p.answers(func(m *nats.Msg) { answer(m, string(m.Data), "") })
	for _, status = range []string{"", "x", "99", "600", "-200"} {
		if reply, err := p.ask(t.Context(), strings.NewReader(status)); err == nil {
			t.Errorf("%q is taken for %d", status, reply.StatusCode)
		}
	}
	for _, status = range []string{"100", "599"} {
		if _, err := p.ask(t.Context(), strings.NewReader(status)); err != nil {
			t.Errorf("%q: %v", status, err)
		}
	}
}

// TestRoundTripAgain: a request whose connection breaks before the answer comes is made again when it stands; with a
// service that is not there, or once the connection has ended, it fails.
func TestRoundTripAgain(t *testing.T) {
	p := newPeered(t)
	if _, err := p.ask(t.Context(), nil); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("nobody is there: %v", err)
	}
	asked := make(chan struct{}, 16)
	p.answers(func(m *nats.Msg) {
		if asked <- struct{}{}; len(asked) > 1 {
			answer(m, "200", "")
		} else if err := p.conn.first.nc.ForceReconnect(); err != nil {
			t.Error(err)
		}
	})
	if reply, err := p.ask(t.Context(), nil); err != nil || reply.StatusCode != 200 || len(asked) != 2 {
		t.Errorf("asked %d times: %v", len(asked), err)
	}
}

// TestRoundTripEnds: a request ends with its context, and with the connection.
func TestRoundTripEnds(t *testing.T) {
	p := newPeered(t)
	ctx, cancel := context.WithCancel(t.Context())
	p.answers(func(*nats.Msg) { cancel() })
	if _, err := p.ask(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	p.door.members.Store(false)
	p.door.strangers.Store(true)
	p.breakOff()
	if _, err := p.ask(t.Context(), nil); !errors.Is(err, store.ErrDenied) {
		t.Errorf("while it is barred: %v", err)
	}
	p.conn.Close()
	if _, err := p.ask(t.Context(), nil); !errors.Is(err, store.ErrDenied) {
		t.Errorf("afterwards: %v", err)
	}
}
