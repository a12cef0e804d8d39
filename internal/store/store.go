// Package store says what keeps the logs, and the views, sealed keys and cards beside them: the
// interfaces that every backend implements, their records, and the errors that callers branch on.
//
// A store is trusted with nothing but availability. Whoever reads from one verifies what it gave
// (package ledger); views are hints for finding things. The conformance suite is storetest.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// The kinds of failure a caller can tell apart; backends wrap them with particulars.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("someone else wrote first")
	ErrExists      = errors.New("already exists")
	ErrDenied      = errors.New("not allowed")
	ErrInvalid     = errors.New("not valid")
	ErrUnavailable = errors.New("unavailable")
	ErrIntegrity   = errors.New("integrity") // what was given is not what was signed, or was there before
)

// ErrDamagedThere is an ErrIntegrity of the store behind a service, by the service's word.
var ErrDamagedThere = fmt.Errorf("%w", ErrIntegrity)

// ErrShort is an ErrDamaged: a log ends before what was listed of it.
var ErrShort = fmt.Errorf("%w", ErrDamaged)

// ErrDamaged is an ErrIntegrity of a store itself: it is damaged, or is not what was acknowledged.
var ErrDamaged = fmt.Errorf("%w", ErrIntegrity)

// ErrElsewhere is an ErrExists: a store is empty, and beside it is another one that keeps a bus.
var ErrElsewhere = fmt.Errorf("%w", ErrExists)

// IsKind reports whether an error is one of the kinds above already.
func IsKind(err error) bool {
	for _, kind := range []error{ErrNotFound, ErrConflict, ErrExists, ErrDenied, ErrInvalid, ErrUnavailable, ErrIntegrity} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// DefaultOpTimeout bounds every call of a store whose options do not say otherwise.
const DefaultOpTimeout = 3 * time.Second

// Entry is one stored statement and its place.
type Entry struct {
	Log       crypto.ID
	Seq       uint64
	Statement []byte
}

// Change is an accepted entry and what it does to the views.
type Change struct {
	Entry *ledger.Entry
	Views []ledger.View
}

// Advance folds statement in and returns the Change to append. On an error, always a *ledger.Invalid, nothing is folded
// in.
func Advance(fold *ledger.Fold, statement []byte) (Change, error) {
	e, err := fold.Add(statement)
	if err != nil {
		return Change{}, err
	}
	return Change{Entry: e, Views: fold.Views(e)}, nil
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

// Log is the truth: signed, hash-linked, append-only.
type Log interface {
	// Bus returns the first statement of the bus log; ErrNotFound before the bus is founded.
	Bus(ctx context.Context) ([]byte, error)
	// Append commits the next entry of a log and its views. The same bytes again succeed. It fails
	// with ErrConflict when another entry has the place, and with ErrExists for a room whose
	// subject is taken or a second bus.
	Append(ctx context.Context, c Change) error
	// Entries yields the entries of a log after a seq, in order; none for an unknown log.
	Entries(ctx context.Context, log crypto.ID, after uint64) iter.Seq2[Entry, error]
	// Heads returns the last entry's place of each log, in the order asked; the zero one for an unknown log.
	Heads(ctx context.Context, logs ...crypto.ID) ([]ledger.Head, error)
}

// Directory is the views over the room logs.
type Directory interface {
	Room(ctx context.Context, room crypto.ID) (Room, error)
	RoomBySubject(ctx context.Context, subject string) (Room, error)
	// Rooms yields every room after an id, by the bytes of the id; zero starts at the first.
	Rooms(ctx context.Context, after crypto.ID) iter.Seq2[Room, error]
	// Members lists the members of a room by key; ErrNotFound for an unknown room.
	Members(ctx context.Context, room crypto.ID) ([]Member, error)
	Member(ctx context.Context, room crypto.ID, endpoint crypto.PublicKey) (Member, error)
	// ListRoomsForEndpoint lists the rooms of a member by room id as it is written; none is no error.
	ListRoomsForEndpoint(ctx context.Context, endpoint crypto.PublicKey) ([]RoomRef, error)
}

// Keyring keeps sealed room keys and cards.
type Keyring interface {
	// PutKeys keeps copies of the key with a commitment that one sealer made, mostly before the entry that names
	// it. Each is created once and never replaced: ErrExists when the sealer has made another of one already, or,
	// once an entry names the key, when one's copies by others are as many as are kept (MaxSealers). All other
	// copies of the call are kept still. The same bytes again are fine. Whose copies count is not the store's to
	// say (ledger.Room.MaySeal): it knows no callers.
	PutKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey, keys []SealedKey) error
	// Key returns an endpoint's copies of the committed key of an epoch, at most MaxSealers, in the order of
	// InOrder; epoch 0 is the current one. ErrNotFound when there is none.
	Key(ctx context.Context, room crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]SealedKey, error)
	// PutCards keeps cards, each in the place of an earlier one of its endpoint.
	PutCards(ctx context.Context, cards ...Card) error
	// Cards returns the cards of endpoints, in any order; those that are not known are left out.
	Cards(ctx context.Context, endpoints ...crypto.PublicKey) ([]Card, error)
}

// Allowlist is the views over the bus log.
type Allowlist interface {
	User(ctx context.Context, endpoint crypto.PublicKey) (ledger.User, error)
	// Users yields every user after a key, by key; the zero key starts at the first.
	Users(ctx context.Context, after crypto.PublicKey) iter.Seq2[ledger.User, error]
	// IsAuthorized reports whether an endpoint may connect now. With an error it is false.
	IsAuthorized(ctx context.Context, endpoint crypto.PublicKey) (bool, error)
	// HasAdmin reports whether the bus has an active admin. With an error it is false.
	HasAdmin(ctx context.Context) (bool, error)
}

// Store is everything a backend keeps. It is safe for concurrent use. Every call is bounded by the
// backend's OpTimeout, and fails with ErrUnavailable when it cannot be answered.
type Store interface {
	Log
	Directory
	Keyring
	Allowlist
	// Watch reports every entry that is committed from the moment it is called, until ctx ends; through
	// a service those of interest to the caller, as long as the connection stands.
	Watch(ctx context.Context) (<-chan Notice, error)
	Close() error
}

// Backend is a store that is reached directly, not through a service. It can be gone through as a
// whole, and its views can be written anew.
type Backend interface {
	Store
	// Logs yields every log, that of the bus first.
	Logs(ctx context.Context) iter.Seq2[crypto.ID, error]
	// Sealed yields the sealed copies of a room's committed keys by all sealers, by epoch.
	Sealed(ctx context.Context, room crypto.ID) iter.Seq2[SealedCopy, error]
	// AllCards yields every card.
	AllCards(ctx context.Context) iter.Seq2[Card, error]
	// CopyKeys is PutKeys for copies that another store has, each made by its own sealer, as many as there are.
	CopyKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, copies []SealedKey) error
	// HasCopy reports whether a sealer's copy of a key for an endpoint is kept, whether an entry names the key or not.
	HasCopy(ctx context.Context, of SealedCopy) (bool, error)
	// Unstage removes the copies of one key that one sealer made, unless an entry names it.
	Unstage(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey) error
	// ExpireStaged removes the sealed copies that were staged before a time and that no entry names, and
	// reports how many it removed. Those that an entry names stay for ever.
	ExpireStaged(ctx context.Context, before time.Time) (removed int, err error)
	// Created counts the rooms that an endpoint created and that are not archived, whoever is in them now.
	Created(ctx context.Context, endpoint crypto.PublicKey) (int, error)
	// Copying reports whether a bus is being copied into the store, or a part of one was: what is there is not to be
	// relied on. SetCopying says so.
	Copying(ctx context.Context) (bool, error)
	SetCopying(ctx context.Context, under bool) error
	// Behind lists the logs whose views are not as current as they are.
	Behind(ctx context.Context) ([]crypto.ID, error)
	// Heal completes the views of a log that are behind it.
	Heal(ctx context.Context, log crypto.ID) error
	// Rebuild makes the views of a log what its state says, and reports how many records were not; with
	// dry it only counts them, and returns ErrShort when they are of an entry that the log does not have.
	// ErrConflict when the log has grown since.
	Rebuild(ctx context.Context, s *ledger.State, dry bool) (wrong int, err error)
}

// Whole fails with ErrUnavailable while a bus is being copied into a store, or only a part of one was: of who was
// revoked, say, the store may not know yet.
func Whole(ctx context.Context, v Backend) error {
	copying, err := v.Copying(ctx)
	if err == nil && copying {
		err = fmt.Errorf("%w: a bus is being copied into the store, and is not there whole yet: unibus migrate or restore goes on with it; if nobody is copying one, what the servers keep is damaged", ErrUnavailable)
	}
	return err
}

// PageEntries yields entries page by page: read returns those after a seq, fewer than page when they
// are the last.
func PageEntries(after uint64, page int, read func(after uint64) ([]Entry, error)) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		after := after
		for {
			entries, err := read(after)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
				after = e.Seq
			}
			if len(entries) < page {
				return
			}
		}
	}
}

// HeadOf returns the last entry's place of one log; ErrNotFound for an unknown one.
func HeadOf(ctx context.Context, s Log, log crypto.ID) (ledger.Head, error) {
	heads, err := s.Heads(ctx, log)
	if err != nil {
		return ledger.Head{}, err
	}
	if heads[0].Seq == 0 {
		return heads[0], fmt.Errorf("log %s: %w", log, ErrNotFound)
	}
	return heads[0], nil
}

// CardOf returns the card of one endpoint; ErrNotFound when it is not known.
func CardOf(ctx context.Context, s Keyring, endpoint crypto.PublicKey) (Card, error) {
	cards, err := s.Cards(ctx, endpoint)
	if err == nil && len(cards) == 0 {
		err = fmt.Errorf("card of %s: %w", endpoint, ErrNotFound)
	}
	if err != nil {
		return Card{}, err
	}
	return cards[0], nil
}

// Load folds a log as the store has it. ErrNotFound for an unknown log, ErrDamaged for a damaged one.
func Load(ctx context.Context, s Store, log crypto.ID) (*ledger.State, error) {
	var fold ledger.Fold
	for e, err := range s.Entries(ctx, log, 0) {
		if err != nil {
			return nil, err
		}
		if _, err := fold.Add(e.Statement); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	state := fold.State()
	switch {
	case state.Head.Seq == 0:
		return nil, fmt.Errorf("log %s: %w", log, ErrNotFound)
	case state.ID != log:
		return nil, fmt.Errorf("%w: the log %s stands under the id %s", ErrDamaged, state.ID, log)
	}
	return state, nil
}
