package service

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unibus/unibus/internal/crypto"
)

// A login, as a server asks about it: what it says of itself is read first (peek), believed only once it is proven
// (prove), and decided on by the authorizer.

// login is a request of a server, and what whoever logs in says of itself: true once prove has found no fault.
type login struct {
	*nats.Msg
	arrived time.Time
	conn    connID
	address string
	token   crypto.Token

	nkey, nonce, signature, tokenText string
}

// hello reports whether it is the login of one who does not know the bus, and may say hello.
func (l *login) hello() bool { return l.token.Use == crypto.UseConnect && l.token.Bus == nil }

// peek reads what a login says, and verifies nothing of it.
func peek(m *nats.Msg, now time.Time) (*login, error) {
	parts := strings.Split(string(m.Data), ".")
	if len(parts) != 3 {
		return nil, errors.New("it is no JWT")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	var claims struct {
		Nats struct {
			Server struct {
				ID string `json:"id"`
			} `json:"server_id"`
			Client struct {
				Host  string `json:"host"`
				ID    uint64 `json:"id"`
				Nonce string `json:"nonce"`
			} `json:"client_info"`
			Options struct {
				Token     string `json:"auth_token"`
				Nkey      string `json:"nkey"`
				Signature string `json:"sig"`
			} `json:"connect_opts"`
		} `json:"nats"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return nil, err
	}
	c := &claims.Nats
	l := &login{
		Msg: m, arrived: now, conn: connID{c.Server.ID, c.Client.ID}, address: addressOf(c.Client.Host),
		nkey: c.Options.Nkey, nonce: c.Client.Nonce, signature: c.Options.Signature, tokenText: c.Options.Token,
	}
	l.token, _ = crypto.PeekToken(l.tokenText) // one that is none is refused in its turn
	return l, nil
}

// prove checks all that a login says of itself and that can be checked without a store; ErrDenied refuses it.
func (l *login) prove(bus crypto.ID, now time.Time) error {
	connection, err := crypto.ParsePublicKey(l.nkey)
	if err != nil {
		return refuse("no connection key")
	}
	if l.token.Connection != connection {
		return refuse("the token is for another connection key")
	}
	signature, err := decodeSignature(l.signature)
	if err != nil {
		return refuse("no signature of the nonce")
	}
	// The server itself leaves this to whoever answers.
	if err := crypto.VerifyNonce(connection, []byte(l.nonce), signature); err != nil {
		return refuse("the nonce is not signed by the connection key")
	}
	of := &bus
	if l.hello() {
		of = nil
	}
	if l.token, err = crypto.OpenToken(l.tokenText, crypto.UseConnect, of, now); err != nil {
		return refuse("%v", err)
	}
	if l.token.Inbox.IsZero() {
		return refuse("the token names no inbox")
	}
	return nil
}

// decodeSignature reads a signature in URL base64 without padding or in standard base64: libraries differ,
// and servers take both.
func decodeSignature(text string) ([]byte, error) {
	if signature, err := base64.RawURLEncoding.DecodeString(text); err == nil {
		return signature, nil
	}
	return base64.StdEncoding.DecodeString(text)
}
