package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
)

// This file asks the API over HTTP, in the name of identities that nobody has.

// webCaller floods the API over HTTP.
type webCaller struct{ flooder }

// request is one to the API over HTTP, by an identity.
func (f webCaller) request(ctx context.Context, id *unibus.Identity, method, path string, body io.Reader) (*http.Request, error) {
	p := attack.Peer{ID: id, Bus: f.bus}
	token, err := p.APIToken()
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+*web+path, body)
	if err == nil {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r, err
}

// slow sends requests of made-up identities whose bodies never end.
func (f webCaller) slow(ctx context.Context) (string, error) {
	ids, err := nobodies(ctx)
	if err != nil {
		return "", err
	}
	var n, answered atomic.Int64
	var all sync.WaitGroup
	for range slowMany {
		all.Go(func() {
			for ctx.Err() == nil {
				r, err := f.request(ctx, ids[int(n.Add(1))%len(ids)], http.MethodPost, "/logs", trickle{ctx})
				if err != nil {
					continue
				}
				r.ContentLength = 1000
				answer, err := http.DefaultTransport.RoundTrip(r)
				if err == nil {
					answered.Add(1)
					answer.Body.Close()
				}
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("%d requests, %d answered", n.Load(), answered.Load()), nil
}

// trickle is a body of which nothing comes.
type trickle struct{ ctx context.Context }

// Read gives nothing until the context ends, and then the end.
func (t trickle) Read([]byte) (int, error) {
	<-t.ctx.Done()
	return 0, io.EOF
}

// madeUpCalls asks the API over HTTP in the name of identities that are nobody's.
func (f webCaller) madeUpCalls(ctx context.Context) (string, error) {
	ids, err := nobodies(ctx)
	if err != nil {
		return "", err
	}
	var requests [][]byte
	for _, id := range ids {
		r, err := f.request(ctx, id, http.MethodGet, "/users", nil)
		if err != nil {
			return "", err
		}
		var raw bytes.Buffer
		if err := r.Write(&raw); err != nil {
			return "", err
		}
		requests = append(requests, raw.Bytes())
	}
	var n atomic.Int64
	var all sync.WaitGroup
	for range sockets {
		all.Go(func() {
			for ctx.Err() == nil {
				f.pipeline(ctx, func() []byte { return requests[int(n.Add(1))%len(requests)] })
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("%d requests with %d made-up identities", n.Load(), len(ids)), nil
}

// pipeline sends requests over one socket, each when the one before is answered.
func (f webCaller) pipeline(ctx context.Context, next func() []byte) {
	conn, err := net.Dial("tcp", *web)
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	answers := bufio.NewReader(conn)
	for {
		if _, err := conn.Write(next()); err != nil {
			return
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			return
		}
	}
}
