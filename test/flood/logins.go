package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
	"github.com/unibus/unibus/internal/crypto"
)

// How logins flood: without a client's manners, and with as little work as can be.
const (
	sockets    = 64              // at once
	enoughWait = 3 * time.Second // for the answer to a login: longer than a server takes to give up
	madeUpMany = 2000            // identities
	slowMany   = 300             // requests under way
)

// options are what a login says of itself, but for the signature of the nonce.
type options struct {
	Nkey  string `json:"nkey"`
	Sig   string `json:"sig"`
	Token string `json:"auth_token"`

	Verbose  bool   `json:"verbose"`
	Lang     string `json:"lang"`
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
}

// forged tries to log in as someone else, whose key everybody knows, with a token and a nonce that this one
// did not sign.
func (f *flooder) forged(ctx context.Context) (string, error) {
	id, err := unibus.LoadIdentity(*victim)
	if err != nil {
		return "", err
	}
	l, err := attack.SignLogin(attack.Options{Identity: id, Bus: f.bus})
	if err != nil {
		return "", err
	}
	o := options{Nkey: id.ConnectionKey().String(), Token: l.Token, Sig: base64.RawURLEncoding.EncodeToString(make([]byte, 64))}
	return f.raw(ctx, func(int, string) options { return o }), nil
}

// madeUp logs in as identities that are nobody's, properly.
func (f *flooder) madeUp(ctx context.Context) (string, error) {
	ids, err := f.nobodies(ctx)
	if err != nil {
		return "", err
	}
	tokens := make([]string, len(ids))
	for i, id := range ids {
		l, err := attack.SignLogin(attack.Options{Identity: id, Bus: f.bus})
		if err != nil {
			return "", err
		}
		tokens[i] = l.Token
	}
	return f.raw(ctx, func(n int, nonce string) options {
		id := ids[n%len(ids)]
		return options{Nkey: id.ConnectionKey().String(), Token: tokens[n%len(ids)], Sig: base64.RawURLEncoding.EncodeToString(id.SignNonce([]byte(nonce)))}
	}), nil
}

func (f *flooder) nobodies(ctx context.Context) (ids []*unibus.Identity, err error) {
	for range madeUpMany {
		if ctx.Err() != nil {
			break
		}
		id, err := unibus.NewIdentity()
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// raw logs in over as many sockets as it can.
func (f *flooder) raw(ctx context.Context, login func(n int, nonce string) options) string {
	var n, sent, answered atomic.Int64
	var all sync.WaitGroup
	for range sockets {
		all.Go(func() {
			for ctx.Err() == nil {
				ok, err := f.rawLogin(func(nonce string) options { return login(int(n.Add(1)), nonce) })
				if err == nil {
					sent.Add(1)
				}
				if ok {
					answered.Add(1)
				}
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("%d logins, %d answered within %v", sent.Load(), answered.Load(), enoughWait)
}

func (f *flooder) rawLogin(login func(nonce string) options) (answered bool, err error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(*server, "nats://"))
	if err != nil {
		return false, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second)) // it never fails on a socket that is open
	lines := bufio.NewReader(conn)
	line, err := lines.ReadString('\n')
	if err != nil {
		return false, err
	}
	var info struct{ Nonce string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil {
		return false, err
	}
	text, err := json.Marshal(login(info.Nonce))
	if err != nil {
		return false, err
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s\r\nPING\r\n", text); err != nil {
		return false, err
	}
	_ = conn.SetDeadline(time.Now().Add(enoughWait))
	_, err = lines.ReadString('\n')
	return err == nil, nil
}

// request is one to the API over HTTP, by an identity.
func (f *flooder) request(ctx context.Context, id *unibus.Identity, method, path string, body io.Reader) (*http.Request, error) {
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
func (f *flooder) slow(ctx context.Context) (string, error) {
	ids, err := f.nobodies(ctx)
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

func (t trickle) Read([]byte) (int, error) {
	<-t.ctx.Done()
	return 0, io.EOF
}

// madeUpCalls asks the API over HTTP in the name of identities that are nobody's.
func (f *flooder) madeUpCalls(ctx context.Context) (string, error) {
	ids, err := f.nobodies(ctx)
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
func (f *flooder) pipeline(ctx context.Context, next func() []byte) {
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

// rekeys stages copies of ever new keys of a room that is there, and never begins an epoch with one.
func (f *flooder) rekeys(ctx context.Context) (string, error) {
	c, err := unibus.Connect(ctx, unibus.Options{Identity: f.id, StateDir: *identity + ".state", Server: *server})
	if err != nil {
		return "", err
	}
	defer c.Close()
	room, err := c.CreateRoom(ctx, "rekeys."+f.id.Key().String()[:10], unibus.DefaultPolicy())
	if err != nil {
		return "", err
	}
	p, err := f.dial(f.bus)
	if err != nil {
		return "", err
	}
	defer p.Close()
	var mu sync.Mutex
	count := map[int]int{}
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				keys := []any{map[string]any{"endpoint": f.id.Key(), "sealed": make([]byte, crypto.SealedSize)}}
				body, err := json.Marshal(map[string]any{"epoch": 2, "commit": crypto.Hash{byte(i), byte(n), byte(n >> 8), byte(n >> 16)}, "keys": keys})
				if err != nil {
					return
				}
				if _, status, err := p.Call(ctx, "PUT", "/rooms/"+room.ID().String()+"/keys", body); err == nil {
					mu.Lock()
					count[status]++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("answers by status: %v", count), nil
}
