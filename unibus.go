// Package unibus is private rooms on a shared NATS bus: a room is an end-to-end-encrypted subject,
// an allowlist of keys says who may connect, and a signed, hash-linked log says who is in which
// room. SPEC.md is the protocol.
//
//	id, err := unibus.LoadIdentity("identity.nk")
//	c, err := unibus.Connect(ctx, unibus.Options{Identity: id, StateDir: dir})
//	room, err := c.Room(ctx, "ops.alerts")
//	err = room.Publish(ctx, []byte("disk full"))
//	sub, err := room.Subscribe(ctx, unibus.SubscribeOptions{All: true})
//	for m, err := range sub.Messages() { … }
//
// Nothing a server or store says is believed: every log is verified from its first entry, pinned
// in the state directory and never allowed back; every message is checked against the log its
// sender saw. What does not hold is ErrIntegrity, and is not delivered.
//
// Nothing is given short, either: a Subscription with End that has ended without an error has yielded
// everything that was stored in each of its rooms; what could not be had is ErrUnavailable.
//
// A Client is for one identity on one bus, and safe for concurrent use.
package unibus

import (
	"errors"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/room"
	"github.com/unibus/unibus/internal/store"
	"github.com/unibus/unibus/internal/writer"
)

// The kinds of failure; every error of this package that has one wraps it.
var (
	ErrNotFound    = store.ErrNotFound
	ErrConflict    = store.ErrConflict
	ErrExists      = store.ErrExists
	ErrDenied      = store.ErrDenied // by the allowlist, a room's rules or the server
	ErrInvalid     = store.ErrInvalid
	ErrUnavailable = store.ErrUnavailable
	// ErrIntegrity says that something signed was altered, withheld, rolled back or forked.
	ErrIntegrity = store.ErrIntegrity
)

// What can be done about some failures differs from others of their kind; these are wrapped beside it.
var (
	// ErrStateDamaged is an ErrIntegrity: what the state directory has of what was verified is damaged.
	ErrStateDamaged = pins.ErrDamaged
	// ErrStateNotKept is an ErrUnavailable: what is verified cannot be written to the state directory.
	ErrStateNotKept = pins.ErrNotKept
	// ErrLogRolledBack is an ErrIntegrity: a store's log ends before what this client has verified of it.
	ErrLogRolledBack = mirror.ErrRolledBack
	// ErrMessagesRolledBack is an ErrIntegrity: a room's messages end before what was read of them.
	ErrMessagesRolledBack = room.ErrRolledBack
	// ErrOtherBus is an ErrIntegrity: where one bus was there is another.
	ErrOtherBus = errors.New("another bus")
	// ErrNoBus is an ErrNotFound: a store is not there, or no bus is founded in it.
	ErrNoBus = errors.New("there is no bus")
)

// ErrClosed says that a publisher was used after Close, or a client.
var ErrClosed = writer.ErrClosed

// Names of the protocol, for callers outside this module.
type (
	// Identity is one secret seed and all the keys it gives: Key is the public one, and Seed what to keep (NewIdentity,
	// LoadIdentity).
	Identity = crypto.Identity
	// PublicKey is a user's identity key, written U….
	PublicKey = crypto.PublicKey
	// ID is a room's or a bus's id, 20 bytes, written in base32 (SPEC.md §4).
	ID = crypto.ID
	// Policy is what a room's owner decides about it: Encryption and History, Pad, Retain (nil: nothing is stored), and
	// RekeyAfter (SPEC.md §4).
	Policy = ledger.Policy
	// Retain limits what a room stores: its Age in seconds, and its Bytes; 0 is no limit.
	Retain = ledger.Retain
	// RekeyAfter says when an epoch has lived long enough, in Messages, or by its Age in seconds; 0 is never.
	RekeyAfter = ledger.RekeyAfter
	// Number is an unsigned integer of at most 2^53-1.
	Number = crypto.Number
	// Role is a user's role on the bus or in a room.
	Role = ledger.Role
	// User is someone the allowlist speaks of: Key, Name and Role; whether it is Active, or when it was Revoked; when it
	// Expires (zero: never); when it was Added, and by whom (AddedBy). ActiveAt says whether it may connect at a time.
	User = ledger.User
	// RoomRef is a room as one of its members finds it: ID and Subject, Epoch and Policy, the member's Role, and whether it
	// is Archived.
	RoomRef = store.RoomRef
)

// Roles.
const (
	RoleOwner  = ledger.RoleOwner
	RoleAdmin  = ledger.RoleAdmin
	RoleMember = ledger.RoleMember
	RoleReader = ledger.RoleReader
	RoleUser   = ledger.RoleUser
)

// DefaultPolicy is end-to-end encryption, shared history, 30 days and 1 GiB stored.
func DefaultPolicy() Policy { return ledger.DefaultPolicy() }

// kinded is an error that is of a further kind, which its text need not tell.
type kinded struct {
	error
	kind error
}

// Unwrap returns the error and the kind.
func (k *kinded) Unwrap() []error { return []error{k.error, k.kind} }
