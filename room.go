package unibus

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/room"
)

// Room is a room as this client has verified it. It is safe for concurrent use.
type Room struct {
	c       *Client
	r       *room.Room
	changes room.Changes
	lasting lasting // the publisher behind Publish
}

// RoomInfo is what a room's log says of it.
type RoomInfo struct {
	ID       ID        `json:"room_id"`
	Subject  string    `json:"subject"`
	Epoch    uint32    `json:"epoch"`
	Policy   Policy    `json:"policy"`
	Role     Role      `json:"role"` // of this client; empty for an admin looking on
	Members  int       `json:"members"`
	Stale    bool      `json:"stale"`
	Seq      uint64    `json:"seq"`
	Archived bool      `json:"archived"`
	Created  time.Time `json:"created"`
	Creator  PublicKey `json:"creator"`
}

// Info returns the room's state as last verified.
func (r *Room) Info() RoomInfo {
	s := r.r.State()
	first := s.Room.Epochs[0]
	return RoomInfo{
		ID: s.ID, Subject: s.Room.Subject, Epoch: s.Room.Epoch().Number, Policy: s.Room.Policy.Copy(),
		Role: s.Room.Role(r.c.Key()), Members: len(s.Room.Members()), Seq: s.Head.Seq,
		Archived: s.Room.Archived != 0, Created: first.Time, Creator: first.By,
		Stale: ledger.Stale(s.Room, r.c.self.Allowlist(), time.Now()),
	}
}

// ID is the room's id.
func (r *Room) ID() ID { return r.r.ID }

// Subject is the room's subject.
func (r *Room) Subject() string { return r.r.Subject() }

// Member is a member of a room; Name is empty for someone not on the allowlist any more.
type Member struct {
	Key    PublicKey `json:"key"`
	Name   string    `json:"name"`
	Role   Role      `json:"role"`
	Active bool      `json:"active"` // on the allowlist
}

// Members lists the room's members, those who manage it first, then by name.
func (r *Room) Members() []Member {
	var out []Member
	now, bus := time.Now(), r.c.self.Allowlist()
	for key, role := range r.r.Ledger().Members() {
		m := Member{Key: key, Role: role}
		if u := bus.User(key); u != nil {
			m.Name, m.Active = u.Name, u.ActiveAt(now)
		}
		out = append(out, m)
	}
	rank := []Role{RoleOwner, RoleAdmin, RoleMember, RoleReader}
	slices.SortFunc(out, func(a, b Member) int {
		if d := slices.Index(rank, a.Role) - slices.Index(rank, b.Role); d != 0 {
			return d
		}
		if d := strings.Compare(a.Name, b.Name); d != 0 {
			return d
		}
		return strings.Compare(a.Key.String(), b.Key.String())
	})
	return out
}

// Refresh brings the room up to date with the store.
func (r *Room) Refresh(ctx context.Context) error { return r.r.Sync(ctx) }

// HoldsKey reports whether this client was given the key of the room's present epoch. In a room
// without encryption everyone holds it.
func (r *Room) HoldsKey(ctx context.Context) (bool, error) { return r.r.HoldsKey(ctx) }
