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
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
	"github.com/unibus/unibus/internal/mirror"
	"github.com/unibus/unibus/internal/newfile"
	"github.com/unibus/unibus/internal/pins"
	"github.com/unibus/unibus/internal/store"
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
	ErrMessagesRolledBack = errors.New("rolled back")
	// ErrOtherBus is an ErrIntegrity: where one bus was there is another.
	ErrOtherBus = errors.New("another bus")
	// ErrNoBus is an ErrNotFound: a store is not there, or no bus is founded in it.
	ErrNoBus = errors.New("there is no bus")
)

// Names of the protocol, for callers outside this module.
type (
	// Identity is one secret seed and all the keys it gives.
	Identity = crypto.Identity
	// PublicKey is a user's identity key, written U….
	PublicKey = crypto.PublicKey
	// ID is a room's or a bus's id.
	ID = crypto.ID
	// Policy is what a room's owner decides about it.
	Policy = ledger.Policy
	// Retain limits what a room stores.
	Retain = ledger.Retain
	// RekeyAfter limits an epoch.
	RekeyAfter = ledger.RekeyAfter
	// Number is an unsigned integer of at most 2^53-1.
	Number = crypto.Number
	// Role is a user's role on the bus or in a room.
	Role = ledger.Role
	// User is someone the allowlist speaks of.
	User = ledger.User
	// RoomRef is a room as one of its members finds it.
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

// hinted is an error that comes with the command that helps.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// kinded is an error that is of a further kind, which its text need not tell.
type kinded struct {
	error
	kind error
}

func (k *kinded) Unwrap() []error { return []error{k.error, k.kind} }

// Hint returns what an error suggests to do; empty for nothing.
func Hint(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}

func withHint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// NewIdentity makes an identity from fresh randomness.
func NewIdentity() (*Identity, error) {
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, err
	}
	return crypto.NewIdentity(seed)
}

// SaveIdentity writes an identity to a new file that only its owner may read, with a name in a
// comment. It never overwrites: ErrExists. ErrInvalid for a name that nobody can have on a bus.
func SaveIdentity(path string, id *Identity, name string) error {
	if err := ledger.ValidName(name); err != nil {
		return fmt.Errorf("name %q: %w: %w", name, ErrInvalid, err)
	}
	seed, err := id.Seed()
	if err != nil {
		return err
	}
	text := fmt.Appendf(nil, "# unibus identity: whoever reads this file can act as its owner\n# name: %s\n# public key: %s\n%s\n", name, id.Key(), seed)
	switch err := newfile.Write(path, text); {
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("save the identity: %s: %w", path, ErrExists)
	case err != nil:
		return fmt.Errorf("save the identity: %w", err)
	}
	return nil
}

// LoadIdentity reads an identity from a file. ErrNotFound without one.
func LoadIdentity(path string) (*Identity, error) {
	id, _, err := readIdentity(path)
	return id, err
}

// IdentityName returns the name that an identity's file carries; empty for none.
func IdentityName(path string) string {
	_, name, _ := readIdentity(path) // a file that cannot be read has no name to give
	return name
}

func readIdentity(path string) (*Identity, string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", withHint(fmt.Errorf("read the identity: %w: there is no file %s", ErrNotFound, path), "make one: unibus init")
	}
	if err == nil {
		err = newfile.Private(path)
	}
	if errors.Is(err, newfile.ErrShared) {
		return nil, "", withHint(fmt.Errorf("read the identity: %w", err), "if it is still yours alone: chmod 600 %s", path)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the identity: %w", err)
	}
	var seed []byte
	var name string
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if comment, ok := bytes.CutPrefix(line, []byte("#")); ok {
			if n, ok := strings.CutPrefix(strings.TrimSpace(string(comment)), "name: "); ok {
				name = n
			}
		} else if len(line) > 0 {
			seed = line
		}
	}
	id, err := crypto.ParseIdentity(seed)
	if err != nil {
		return nil, "", fmt.Errorf("read the identity %s: %w: %v", path, ErrInvalid, err)
	}
	return id, name, nil
}

// ParseKey reads a user's key as people write it: surrounding space and case do not matter. A seed
// is refused without being repeated.
func ParseKey(s string) (PublicKey, error) {
	key, err := crypto.ParsePublicKey(s)
	if err != nil {
		return key, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	return key, nil
}
