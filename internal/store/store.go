// Package store says what keeps the logs, and the views, sealed keys and cards beside them: the interfaces that
// every backend implements, their records, and the errors that callers branch on.
//
// A store is trusted with nothing but availability. Whoever reads from one verifies what it gave (package ledger);
// views are hints for finding things, and a store writes them as the ledger says (ledger.View) without judging them.
// Whose requests these are, and what they may ask for, a store does not know either: that is the service's.
//
// Log, Directory, Keyring and Allowlist are for whoever needs one of them; Store is all of them, Backend what a store
// that is reached directly can do besides. Package open opens the one that a URL names; the conformance suite, which
// breaks each promise below, is storetest.
package store

import (
	"context"
	"iter"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// DefaultOpTimeout bounds every call of a store whose options do not say otherwise.
const DefaultOpTimeout = 3 * time.Second

// How much longer than that a call may take for what it writes: a slow disk needs as long to have two records for good,
// which is what a membership is in a JetStream store, whose servers sync each by itself.
const (
	writeTime    = 40 * time.Millisecond // for each view, sealed key or card
	maxWriteTime = 50 * time.Second      // for all of them
)

// Within is how long a call may take that writes so many views, sealed keys or cards, given how long one may that writes
// nothing.
func Within(opTimeout time.Duration, writes int) time.Duration {
	return opTimeout + time.Duration(min(writes, int(maxWriteTime/writeTime)))*writeTime
}

// Log is the truth: signed, hash-linked, append-only (SPEC.md §4).
type Log interface {
	// Bus returns the first statement of the bus log. ErrNotFound before the bus is founded.
	Bus(ctx context.Context) ([]byte, error)
	// Append commits the next entry of a log and its views: all of it or nothing, and for good once it has returned
	// nil. The same bytes again succeed, so that what got no answer can be offered again. ErrConflict when another
	// entry has the place, or the one before is missing or another; ErrExists for a room whose subject is taken, and
	// for a second bus. After ErrUnavailable the entry may have been committed or not.
	Append(ctx context.Context, c Change) error
	// Entries yields the entries of a log after a seq, in order without a gap; none for an unknown log. It ends with
	// the first error: ErrDamaged where an entry is missing before another.
	Entries(ctx context.Context, log crypto.ID, after uint64) iter.Seq2[Entry, error]
	// Heads returns the last entry's place of each log, in the order asked, as of the call or later; the zero one for
	// an unknown log, and through a service for one that the caller may not read. No log at all is no error.
	Heads(ctx context.Context, logs ...crypto.ID) ([]ledger.Head, error)
}

// Directory is the views over the room logs. What an Append did that has returned is in them; what a crash left out of
// them is made up for when a room is asked for by itself, in the lists once it is healed (Repairer).
type Directory interface {
	// Room returns a room's record. ErrNotFound for an unknown room.
	Room(ctx context.Context, room crypto.ID) (Room, error)
	// RoomBySubject returns the record of the room that has a subject, archived or not. ErrNotFound when none has.
	RoomBySubject(ctx context.Context, subject string) (Room, error)
	// Rooms yields every room after an id, by the bytes of the id; zero starts at the first. It ends with the first
	// error. Through a service it is for bus admins: ErrDenied.
	Rooms(ctx context.Context, after crypto.ID) iter.Seq2[Room, error]
	// Members lists the members of a room by key. ErrNotFound for an unknown room.
	Members(ctx context.Context, room crypto.ID) ([]Member, error)
	// Member returns one member of a room. ErrNotFound for an unknown room, and for who is not in it.
	Member(ctx context.Context, room crypto.ID, endpoint crypto.PublicKey) (Member, error)
	// ListRoomsForEndpoint lists the rooms of a member by room id as it is written; none is no error.
	ListRoomsForEndpoint(ctx context.Context, endpoint crypto.PublicKey) ([]RoomRef, error)
}

// Keyring keeps sealed room keys and cards (SPEC.md §5).
type Keyring interface {
	// PutKeys keeps copies of the key with a commitment that one sealer made, mostly before the entry that names
	// it. Each is created once and never replaced: ErrExists when the sealer has made another of one already, or,
	// once an entry names the key, when one's copies by others are as many as are kept (MaxSealers). All other
	// copies of the call are kept still. The same bytes again are fine. Whose copies count is not the store's to
	// say (ledger.Room.MaySeal): it knows no callers.
	PutKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey, keys []SealedKey) error
	// Key returns an endpoint's copies of the committed key of an epoch, at most MaxSealers, in the order of
	// InOrder; epoch 0 is the current one. ErrNotFound when there is none. Through a service ErrDenied for another's.
	Key(ctx context.Context, room crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]SealedKey, error)
	// PutCards keeps cards, each in the place of an earlier one of its endpoint. Whether a card is what it says is
	// not the store's to say; a service refuses others' (ErrDenied) and false ones (ErrInvalid), and then keeps none.
	PutCards(ctx context.Context, cards ...Card) error
	// Cards returns the cards of endpoints, in any order; those that are not known are left out.
	Cards(ctx context.Context, endpoints ...crypto.PublicKey) ([]Card, error)
}

// Allowlist is the views over the bus log. What an Append did that has returned is in them, whoever asks: a user whose
// revocation was acknowledged is let in by no backend.
type Allowlist interface {
	// User returns what the bus log says of a key. ErrNotFound for one that never was on the allowlist.
	User(ctx context.Context, endpoint crypto.PublicKey) (ledger.User, error)
	// Users yields every user after a key, by key, revoked ones too; the zero key starts at the first. It ends with
	// the first error.
	Users(ctx context.Context, after crypto.PublicKey) iter.Seq2[ledger.User, error]
	// IsAuthorized reports whether an endpoint may connect now, by this machine's clock; for an unknown one it is
	// false without an error. With an error it is false: who cannot be looked up is denied.
	IsAuthorized(ctx context.Context, endpoint crypto.PublicKey) (bool, error)
	// HasAdmin reports whether the bus has an active admin. With an error it is false.
	HasAdmin(ctx context.Context) (bool, error)
}

// Store is everything a backend keeps. It is safe for concurrent use. Every call is bounded by the backend's
// OpTimeout, one that writes much as Within says, an iteration by as much for each page. It fails with ErrUnavailable when
// it cannot be answered, with ErrDamaged when what it needs cannot be read any more. When ctx is cancelled it fails as well,
// with that or as unavailable.
type Store interface {
	Log
	Directory
	Keyring
	Allowlist
	// Watch reports every entry that is committed from the moment it is called, until ctx ends or the store is
	// closed, and then closes the channel. Through a service those of interest to the caller, as long as the
	// connection stands. An entry may be reported twice. ErrUnavailable where nothing can be watched.
	Watch(ctx context.Context) (<-chan Notice, error)
	// Close ends watches and what is under way. What was acknowledged stays.
	Close() error
}
