package bus

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/nats-io/nats.go"
)

// RoundTrip carries an HTTP request of the membership API over NATS: Conn is an http.RoundTripper.
func (c *Conn) RoundTrip(r *http.Request) (*http.Response, error) {
	m := nats.NewMsg(APISubject)
	m.Header.Set("Method", r.Method)
	m.Header.Set("Path", r.URL.RequestURI())
	m.Header.Set("Authorization", r.Header.Get("Authorization"))
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		m.Data = body
	}
	reply, err := c.nc.RequestMsgWithContext(r.Context(), m)
	if err != nil {
		return nil, failure(err)
	}
	status, err := strconv.Atoi(reply.Header.Get("Status"))
	if err != nil || status < 100 || status > 599 {
		return nil, fmt.Errorf("the service answered with the status %q", reply.Header.Get("Status"))
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {reply.Header.Get("Content-Type")}},
		Body:          io.NopCloser(bytes.NewReader(reply.Data)),
		ContentLength: int64(len(reply.Data)),
		Request:       r,
	}, nil
}
