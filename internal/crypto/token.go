package crypto

import (
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// This file signs and verifies tokens, by which an identity connects, or asks the API (SPEC.md §3). A checker decides
// with OpenToken on everything that a token says; the service, which decides step by step, reads it first (PeekToken) and
// verifies its signature later (DecodeToken).

// Uses of tokens; one is never accepted for the other.
const (
	UseConnect = "connect"
	UseAPI     = "api"
)

// TokenSkew is how far a checker's clock may differ from the signer's.
const TokenSkew = 5 * time.Minute

// How long tokens may last, by their use. One that lasts longer is refused, whoever signed it.
const (
	MaxConnectLife = 10 * time.Minute
	MaxAPILife     = 24 * time.Hour
)

// MaxTokenRooms is the most rooms a token may name. What a NATS server takes in one CONNECT is less.
const MaxTokenRooms = 1000

// Inbox is the name of a connection's inbox, which only that connection, the servers and the service
// know: 16 random bytes, made for each connection (SPEC.md §3).
type Inbox [16]byte

// String writes the inbox as in subjects: 26 lower-case base32 characters.
func (i Inbox) String() string { return idEncoding.EncodeToString(i[:]) }

// IsZero reports whether no inbox is named.
func (i Inbox) IsZero() bool { return i == Inbox{} }

// Errors of tokens whose signature is good.
var (
	ErrTokenExpired = errors.New("token is expired or not yet valid")
	ErrTokenUse     = errors.New("token is for another use")
	ErrTokenBus     = errors.New("token is for another bus")
	ErrTokenLife    = errors.New("token lasts longer than tokens of its use may")
)

// Token says who is connecting or asking, where, and until when (SPEC.md §3).
type Token struct {
	Key        PublicKey
	Connection PublicKey
	Use        string // UseConnect or UseAPI
	Bus        *ID    // nil: the bus is not yet known, which only hello accepts
	From       time.Time
	Until      time.Time
	Rooms      []ID
	Inbox      Inbox // where answers go, over NATS; zero: none is named
}

// tokenPayload is what is signed of a token.
type tokenPayload struct {
	V          Number    `cbor:"v"`
	Key        PublicKey `cbor:"key"`
	Connection PublicKey `cbor:"connection"`
	Use        string    `cbor:"use"`
	Bus        []byte    `cbor:"bus"`
	From       Number    `cbor:"from"`
	Until      Number    `cbor:"until"`
	Rooms      []ID      `cbor:"rooms,omitempty"`
	Inbox      []byte    `cbor:"inbox,omitempty"`
}

// Token signs a token as base64url text; Key and Connection are filled in from the identity.
func (id *Identity) Token(t Token) (string, error) {
	p := tokenPayload{
		V: 1, Key: id.key, Connection: id.ConnectionKey(), Use: t.Use,
		From: Number(t.From.UnixMilli()), Until: Number(t.Until.UnixMilli()), Rooms: t.Rooms,
	}
	if t.Bus != nil {
		p.Bus = t.Bus[:]
	}
	if !t.Inbox.IsZero() {
		p.Inbox = t.Inbox[:]
	}
	payload, err := Marshal(p)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(id.Sign(KindToken, payload)), nil
}

// OpenToken verifies a token for a use at a time. bus is the bus asked of; a token that names no
// bus is ErrTokenBus unless bus is nil, which accepts only such a token.
func OpenToken(text string, use string, bus *ID, now time.Time) (Token, error) {
	t, err := DecodeToken(text)
	if err != nil {
		return Token{}, err
	}
	switch {
	case t.Use != use:
		return Token{}, ErrTokenUse
	case (bus == nil) != (t.Bus == nil), bus != nil && *bus != *t.Bus:
		return Token{}, ErrTokenBus
	case now.Before(t.From.Add(-TokenSkew)), now.After(t.Until.Add(TokenSkew)):
		return Token{}, ErrTokenExpired
	case t.Until.Sub(t.From) > maxLife(use):
		return Token{}, ErrTokenLife
	}
	return t, nil
}

// maxLife is how long a token for a use may last.
func maxLife(use string) time.Duration {
	if use == UseConnect {
		return MaxConnectLife
	}
	return MaxAPILife
}

// DecodeToken verifies a token's signature alone; the caller decides on its use, bus and times.
func DecodeToken(text string) (Token, error) {
	t, statement, err := readToken(text)
	if err != nil {
		return Token{}, err
	}
	if err := Verify(KindToken, t.Key, statement); err != nil {
		return Token{}, fmt.Errorf("token: %w", err)
	}
	return t, nil
}

// PeekToken reads what a token says without verifying who says it: enough to put it in the right queue,
// and for nothing else.
func PeekToken(text string) (Token, error) {
	t, _, err := readToken(text)
	return t, err
}

// readToken takes a token apart, into what it says and the statement that is signed, and verifies nothing. ErrEncoding for
// what is no token.
func readToken(text string) (t Token, statement []byte, err error) {
	statement, err = base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return t, nil, fmt.Errorf("token: %w: not base64url", ErrEncoding)
	}
	payload, err := Payload(statement)
	if err != nil {
		return t, nil, fmt.Errorf("token: %w", err)
	}
	var p tokenPayload
	if err := Unmarshal(payload, &p); err != nil {
		return t, nil, fmt.Errorf("token: %w", err)
	}
	if err := p.check(); err != nil {
		return t, nil, err
	}
	t = Token{
		Key: p.Key, Connection: p.Connection, Use: p.Use, Rooms: p.Rooms,
		From: time.UnixMilli(int64(p.From)), Until: time.UnixMilli(int64(p.Until)),
	}
	if len(p.Bus) > 0 {
		t.Bus = new(ID)
		copy(t.Bus[:], p.Bus)
	}
	copy(t.Inbox[:], p.Inbox)
	return t, statement, nil
}

// check refuses what no token says.
func (p *tokenPayload) check() error {
	sized := func(field []byte, size int) bool { return len(field) == 0 || len(field) == size }
	switch {
	case p.V != 1, len(p.Rooms) > MaxTokenRooms, p.Until < p.From:
	case !sized(p.Bus, len(ID{})), p.Inbox != nil && len(p.Inbox) != len(Inbox{}):
	default:
		return nil
	}
	return fmt.Errorf("token: %w", ErrEncoding)
}
