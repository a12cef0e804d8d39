package store

import (
	"reflect"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// This file holds what a store gives out: entries as they were signed, and records that say what entries say, as the
// API's bodies (wire.go) carry them.

// Entry is one stored statement and its place.
type Entry struct {
	Log       crypto.ID
	Seq       uint64 // from 1
	Statement []byte
}

// Change is an accepted entry and what it does to the views.
type Change struct {
	Entry *ledger.Entry
	Views []ledger.View
}

// Room is the record of a room, as of the log entry Seq.
type Room struct {
	ID       crypto.ID     `json:"room_id"`
	Subject  string        `json:"subject"`
	Epoch    uint32        `json:"epoch"`
	Policy   ledger.Policy `json:"policy"`
	Seq      uint64        `json:"seq"`
	Members  int           `json:"members"`
	Archived bool          `json:"archived"`
}

// RoomOf is the record of a room as its log says, once the views are as current as that.
func RoomOf(s *ledger.State) Room {
	r := s.Room
	return Room{
		ID: s.ID, Subject: r.Subject, Epoch: r.Epoch().Number, Policy: r.Policy, Seq: s.Head.Seq,
		Members: len(r.Members()), Archived: r.Archived != 0,
	}
}

// Is reports whether a record says what the log of its room does.
func (r *Room) Is(of *ledger.Room) bool {
	return r.Subject == of.Subject && r.Epoch == of.Epoch().Number && r.Archived == (of.Archived != 0) && reflect.DeepEqual(r.Policy, of.Policy)
}

// RoomRef is a room as one of its members finds it.
type RoomRef struct {
	ID      crypto.ID     `json:"room_id"`
	Subject string        `json:"subject"`
	Epoch   uint32        `json:"epoch"`
	Policy  ledger.Policy `json:"policy"`
	Role    ledger.Role   `json:"role"`

	Archived bool `json:"archived,omitempty"`
}

// Member is one member of a room.
type Member struct {
	Endpoint crypto.PublicKey `json:"endpoint"`
	Role     ledger.Role      `json:"role"`
}

// Card is a self-signed card and whose it is.
type Card struct {
	Endpoint  crypto.PublicKey `json:"endpoint"`
	Statement []byte           `json:"card"`
}

// Notice says that a log has grown to at least Seq.
type Notice struct {
	Log crypto.ID `json:"log"`
	Seq uint64    `json:"seq"`
}
