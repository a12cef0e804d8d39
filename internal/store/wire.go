package store

import (
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// This file is the bodies of the membership API (SPEC.md §7), which the service writes and package remote reads, or the other
// way: each is one JSON value, named for its route in docs/openapi.yaml.

// What one request asks for at most. A full answer fits one NATS message.
const (
	MaxHeads = 1000
	MaxCards = 500
)

// The bodies of the membership API, for both of its sides.
type (
	// BusBody is the answer to GET /bus and to hello.
	BusBody struct {
		ID      crypto.ID `json:"id"`
		Name    string    `json:"name"`
		Founded []byte    `json:"founded"`
	}
	// LogBody is a page of a log.
	LogBody struct {
		Log     crypto.ID   `json:"log"`
		Head    ledger.Head `json:"head"`
		Entries [][]byte    `json:"entries"`
	}
	// EntryBody offers an entry.
	EntryBody struct {
		Entry []byte `json:"entry"`
	}
	// PlaceBody says where an entry was stored.
	PlaceBody struct {
		Log  crypto.ID   `json:"log"`
		Seq  uint64      `json:"seq"`
		Hash crypto.Hash `json:"hash"`
	}
	// LogsBody asks for the last places of logs.
	LogsBody struct {
		Logs []crypto.ID `json:"logs"`
	}
	// KeysBody is what a sealer made of a key.
	KeysBody struct {
		Epoch  uint32        `json:"epoch"`
		Commit crypto.Hash   `json:"commit"`
		Keys   []MembersCopy `json:"keys"`
	}
	// MembersCopy is a sealed key and whose it is.
	MembersCopy struct {
		Endpoint crypto.PublicKey `json:"endpoint"`
		Sealed   []byte           `json:"sealed"`
	}
	// KeyBody is the caller's copies of an epoch's key, as they are to be tried.
	KeyBody struct {
		Room   crypto.ID     `json:"room_id"`
		Epoch  uint32        `json:"epoch"`
		Commit crypto.Hash   `json:"commit"`
		Sealed []SealersCopy `json:"sealed"`
	}
	// SealersCopy is a sealed key and who made it.
	SealersCopy struct {
		Sealer crypto.PublicKey `json:"sealer"`
		Sealed []byte           `json:"sealed"`
	}
	// RoomBody is the answer to GET /rooms/{room}.
	RoomBody struct {
		Room
		Stream *Stream `json:"stream,omitempty"` // if it was asked for, of a stored room
	}
	// CardBody is a card.
	CardBody struct {
		Card []byte `json:"card"`
	}
	// CardsBody is many cards.
	CardsBody struct {
		Cards []Card `json:"cards"`
	}
	// EndpointsBody asks for the cards of endpoints.
	EndpointsBody struct {
		Endpoints []crypto.PublicKey `json:"endpoints"`
	}
	// UserBody is a user.
	UserBody struct {
		Key     crypto.PublicKey  `json:"key"`
		Name    string            `json:"name"`
		Role    ledger.Role       `json:"role"`
		Active  bool              `json:"active"`
		Expires *time.Time        `json:"expires"`
		AddedBy *crypto.PublicKey `json:"added_by,omitempty"`
		Added   *time.Time        `json:"added,omitempty"`
		Revoked *time.Time        `json:"revoked,omitempty"`
	}
	// Problem is an error (RFC 9457).
	Problem struct {
		Type   string       `json:"type"`
		Title  string       `json:"title"`
		Status int          `json:"status"`
		Detail string       `json:"detail,omitempty"`
		Head   *ledger.Head `json:"head,omitempty"` // of the log, with unibus:conflict
	}
)

// NewUserBody writes a user for the wire.
func NewUserBody(u *ledger.User) UserBody {
	b := UserBody{Key: u.Key, Name: u.Name, Role: u.Role, Active: u.Active, Expires: orNil(u.Expires), Added: orNil(u.Added), Revoked: orNil(u.Revoked)}
	if u.AddedBy != (crypto.PublicKey{}) {
		b.AddedBy = &u.AddedBy
	}
	return b
}

// User reads a user off the wire.
func (b UserBody) User() ledger.User {
	u := ledger.User{Key: b.Key, Name: b.Name, Role: b.Role, Active: b.Active, Expires: orZero(b.Expires), Added: orZero(b.Added), Revoked: orZero(b.Revoked)}
	if b.AddedBy != nil {
		u.AddedBy = *b.AddedBy
	}
	return u
}

// orNil is a time as JSON has it, null for none.
func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// orZero is a time as Go has it, the zero time for none.
func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
