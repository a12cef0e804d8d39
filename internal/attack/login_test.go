package attack

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
)

// TestLogin: what lets someone in, and what does not, whoever it is that tries.
func TestLogin(t *testing.T) {
	w := startWorld(t, "sqlite")
	user := w.add("user")
	right := func() crypto.Token {
		now, id := time.Now(), w.alice.Bus()
		return crypto.Token{Use: crypto.UseConnect, Bus: &id, From: now, Until: now.Add(5 * time.Minute), Inbox: crypto.Inbox{1}}
	}
	for name, c := range map[string]struct {
		change func(t *crypto.Token)
		in     bool
	}{
		"as it should be":        {func(*crypto.Token) {}, true},
		"as long as may be":      {func(t *crypto.Token) { t.Until = t.From.Add(crypto.MaxConnectLife) }, true},
		"too long":               {func(t *crypto.Token) { t.Until = t.From.Add(crypto.MaxConnectLife + time.Second) }, false},
		"ten years":              {func(t *crypto.Token) { t.Until = t.From.AddDate(10, 0, 0) }, false},
		"no inbox":               {func(t *crypto.Token) { t.Inbox = crypto.Inbox{} }, false},
		"no inbox, no bus":       {func(t *crypto.Token) { t.Inbox, t.Bus = crypto.Inbox{}, nil }, false},
		"to say hello":           {func(t *crypto.Token) { t.Bus = nil }, true},
		"for the API":            {func(t *crypto.Token) { t.Use = crypto.UseAPI }, false},
		"for the API, no bus":    {func(t *crypto.Token) { t.Use, t.Bus = crypto.UseAPI, nil }, false},
		"for another bus":        {func(t *crypto.Token) { t.Bus = &crypto.ID{1} }, false},
		"expired":                {func(t *crypto.Token) { ago(t, 2*crypto.TokenSkew) }, false},
		"expired, no bus":        {func(t *crypto.Token) { ago(t, 2*crypto.TokenSkew); t.Bus = nil }, false},
		"not yet valid":          {func(t *crypto.Token) { ago(t, -2*crypto.TokenSkew) }, false},
		"rooms of others":        {func(t *crypto.Token) { t.Rooms = []crypto.ID{w.alice.Bus(), {2}} }, true},
		"as many rooms as fit":   {func(t *crypto.Token) { t.Rooms = make([]crypto.ID, 100) }, true},
		"more rooms than fit":    {func(t *crypto.Token) { t.Rooms = make([]crypto.ID, 200) }, false},
		"more rooms than may be": {func(t *crypto.Token) { t.Rooms = make([]crypto.ID, crypto.MaxTokenRooms+1) }, false},
	} {
		w.part(t, name, func(w *world) {
			token := right()
			c.change(&token)
			text, err := user.Token(token)
			w.must(err)
			p, err := Dial(Options{URL: w.node.URL(), Identity: user, Login: &Login{text, token.Inbox}})
			if err == nil {
				p.Close()
			}
			if c.in != (err == nil) {
				w.Errorf("the login ends with %v", err)
			}
		})
	}
}

// TestStolenToken: a token lets in nobody who cannot sign the server's nonce with the connection key that it names.
func TestStolenToken(t *testing.T) {
	w := startWorld(t, "sqlite")
	user, other := w.add("user"), w.add("other")
	login, err := SignLogin(Options{Identity: user, Bus: w.alice.Bus()})
	w.must(err)
	w.part(t, "by the connection key of someone else", func(w *world) {
		if _, err := Dial(Options{URL: w.node.URL(), Identity: other, Login: login}); err == nil {
			w.Errorf("someone else is let in with a token")
		}
	})
	w.part(t, "without a connection key", func(w *world) {
		if nc, err := nats.Connect(w.node.URL(), nats.Token(login.Token)); err == nil {
			nc.Close()
			w.Errorf("a token alone lets in")
		}
	})
	w.part(t, "with a signature of something else", func(w *world) {
		sign := func(nonce []byte) ([]byte, error) { return user.SignNonce(append(nonce, 'x')), nil }
		if nc, err := nats.Connect(w.node.URL(), nats.Token(login.Token), nats.Nkey(user.ConnectionKey().String(), sign)); err == nil {
			nc.Close()
			w.Errorf("a signature of another nonce lets in")
		}
	})
	w.part(t, "with the identity's own key", func(w *world) {
		sign := func(nonce []byte) ([]byte, error) { return user.SignNonce(nonce), nil }
		if nc, err := nats.Connect(w.node.URL(), nats.Token(login.Token), nats.Nkey(user.Key().String(), sign)); err == nil {
			nc.Close()
			w.Errorf("the identity's key lets in")
		}
	})
}

// ago moves a token's times into the past.
func ago(t *crypto.Token, by time.Duration) { t.From, t.Until = t.From.Add(-by), t.Until.Add(-by) }

// TestNonceSignature: libraries write the signature of the nonce in URL base64 or in standard base64.
func TestNonceSignature(t *testing.T) {
	w := startWorld(t, "sqlite")
	user := w.add("user")
	for name, encode := range map[string]func([]byte) string{
		"URL": base64.RawURLEncoding.EncodeToString, "standard": base64.StdEncoding.EncodeToString,
	} {
		w.part(t, name, func(w *world) {
			login, err := SignLogin(Options{Identity: user, Bus: w.alice.Bus()})
			w.must(err)
			answer := w.rawLogin(func(nonce string) map[string]any {
				return map[string]any{
					"nkey": user.ConnectionKey().String(), "sig": encode(user.SignNonce([]byte(nonce))), "auth_token": login.Token,
					"verbose": false, "lang": "none", "version": "1", "protocol": 1,
				}
			})
			if !strings.HasPrefix(answer, "PONG") {
				w.Errorf("the server answers %q", answer)
			}
		})
	}
}

// TestAPIToken: what the API takes as a token.
func TestAPIToken(t *testing.T) {
	w := startWorld(t, "sqlite")
	user := w.add("user")
	gone := w.add("gone")
	p := w.dial(Options{Identity: user})
	w.must(w.alice.RevokeUsers(w.ctx, "", gone.Key()))
	for name, c := range map[string]struct {
		by     *crypto.Identity
		change func(t *crypto.Token)
		want   int // status; 0: no answer at all
	}{
		"as it should be":        {user, func(*crypto.Token) {}, http.StatusOK},
		"another inbox":          {user, func(t *crypto.Token) { t.Inbox = crypto.Inbox{7} }, 0},
		"no inbox":               {user, func(t *crypto.Token) { t.Inbox = crypto.Inbox{} }, 0},
		"to connect with":        {user, func(t *crypto.Token) { t.Use, t.Until = crypto.UseConnect, t.From.Add(time.Minute) }, http.StatusUnauthorized},
		"for another bus":        {user, func(t *crypto.Token) { t.Bus = &crypto.ID{1} }, http.StatusUnauthorized},
		"for no bus":             {user, func(t *crypto.Token) { t.Bus = nil }, http.StatusUnauthorized},
		"expired":                {user, func(t *crypto.Token) { ago(t, 2*time.Hour) }, http.StatusUnauthorized},
		"too long":               {user, func(t *crypto.Token) { t.Until = t.From.Add(crypto.MaxAPILife + time.Second) }, http.StatusUnauthorized},
		"of someone revoked":     {gone, func(*crypto.Token) {}, 0},
		"of someone not allowed": {w.identity(), func(*crypto.Token) {}, 0},
	} {
		w.part(t, name, func(w *world) {
			now, id := time.Now(), w.alice.Bus()
			token := crypto.Token{Use: crypto.UseAPI, Bus: &id, From: now, Until: now.Add(time.Hour), Inbox: p.Inbox}
			c.change(&token)
			text, err := c.by.Token(token)
			w.must(err)
			w.ask(p, text, c.want)
		})
	}
}

// ask makes a request with a token, and then a proper one, and checks the status of the answer to the first; 0
// for none. What will not be answered is dropped before what comes after it is looked at.
func (w *trial) ask(p *Peer, token string, want int) {
	w.Helper()
	first, err := p.Request(http.MethodGet, "/bus", nil)
	w.must(err)
	first.Header.Set("Authorization", "Bearer "+token)
	first.Reply = p.NewInbox()
	answers, err := p.SubscribeSync(first.Reply)
	w.must(err)
	w.must(p.PublishMsg(first))
	_, _, err = p.Call(w.ctx, http.MethodGet, "/bus", nil)
	w.must(err)
	w.must(p.Flush())
	if n, _, err := answers.Pending(); want == 0 {
		if err != nil || n != 0 {
			w.Errorf("%d answers, %v", n, err)
		}
		return
	}
	m, err := answers.NextMsg(soon)
	w.must(err)
	if got := m.Header.Get("Status"); got != strconv.Itoa(want) {
		w.Errorf("it is answered with %s, not %d", got, want)
	}
}

// TestSecondConnect: a connection that is in cannot log in once more, be it with the very same words.
func TestSecondConnect(t *testing.T) {
	w := startWorld(t, "sqlite")
	user := w.add("user")
	login, err := SignLogin(Options{Identity: user, Bus: w.alice.Bus()})
	w.must(err)
	answers := w.rawLogins(2, func(nonce string) map[string]any {
		return map[string]any{
			"nkey": user.ConnectionKey().String(), "sig": base64.RawURLEncoding.EncodeToString(user.SignNonce([]byte(nonce))), "auth_token": login.Token,
			"verbose": false, "lang": "none", "version": "1", "protocol": 1,
		}
	})
	if !strings.HasPrefix(answers[0], "PONG") || !strings.HasPrefix(answers[1], "-ERR 'Authorization Violation'") {
		w.Errorf("the server answers %q", answers)
	}
}

// rawLogin logs in by hand, with the options of a CONNECT line made from the nonce, and returns what the server
// answers.
func (w *servers) rawLogin(options func(nonce string) map[string]any) string {
	w.Helper()
	return w.rawLogins(1, options)[0]
}

// rawLogins does the same some times, over one connection.
func (w *servers) rawLogins(times int, options func(nonce string) map[string]any) (answers []string) {
	w.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(w.node.URL(), "nats://"), soon)
	w.must(err)
	defer conn.Close()
	w.must(conn.SetDeadline(time.Now().Add(soon)))
	lines := bufio.NewReader(conn)
	line, err := lines.ReadString('\n')
	w.must(err)
	var info struct{ Nonce string }
	w.must(json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info))
	text, err := json.Marshal(options(info.Nonce))
	w.must(err)
	for range times {
		_, err = fmt.Fprintf(conn, "CONNECT %s\r\nPING\r\n", text)
		w.must(err)
		line, err = lines.ReadString('\n')
		for err == nil && strings.HasPrefix(line, "INFO") {
			line, err = lines.ReadString('\n')
		}
		w.must(err)
		answers = append(answers, line)
	}
	return answers
}
