package store

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// This file says what a store can do that is reached directly: it can be gone through as a whole, be filled with what
// another one holds, be rid of keys that are of no use, and have its views written anew.

// Backend is a store that is reached directly, not through a service. Its calls fail as those of Store do.
type Backend interface {
	Store
	Inventory
	Target
	Staging
	Repairer
}

// Inventory goes through what a store holds, for whoever copies, counts or checks it. Each iteration ends with the
// first error.
type Inventory interface {
	// Logs yields every log, that of the bus first.
	Logs(ctx context.Context) iter.Seq2[crypto.ID, error]
	// Sealed yields the sealed copies of a room's committed keys by all sealers, by epoch, from one on; none for an unknown
	// room.
	Sealed(ctx context.Context, room crypto.ID, from uint32) iter.Seq2[SealedCopy, error]
	// AllCards yields every card.
	AllCards(ctx context.Context) iter.Seq2[Card, error]
	// Created counts the rooms that an endpoint created and that are not archived, whoever is in them now.
	Created(ctx context.Context, endpoint crypto.PublicKey) (int, error)
}

// Target is a store that a bus is copied into.
type Target interface {
	// CopyKeys is PutKeys for copies that another store has, each made by its own sealer, as many as there are.
	CopyKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, copies []SealedKey) error
	// Copying reports whether a bus is being copied into the store, or a part of one was: what is there is not to be
	// relied on (CheckWhole).
	Copying(ctx context.Context) (bool, error)
	// BeginCopy says that a bus is being copied into the store. Saying so again is fine.
	BeginCopy(ctx context.Context) error
	// EndCopy says that it is there whole. Saying so again is fine.
	EndCopy(ctx context.Context) error
}

// Staging looks after sealed copies that were put before an entry named their key. Those that an entry names are no
// longer staged, and stay for ever.
type Staging interface {
	// HasCopy reports whether a sealer's copy of a key for an endpoint is kept, whether an entry names the key or not.
	HasCopy(ctx context.Context, of SealedCopy) (bool, error)
	// Unstage removes the copies of one key that one sealer made, unless an entry names it. None is no error.
	Unstage(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey) error
	// ExpireStaged removes the copies that were staged before a time and that no entry names, and reports how many
	// it removed.
	ExpireStaged(ctx context.Context, before time.Time) (removed int, err error)
}

// Repairer makes the views of a log what the log says. What a log says is the ledger's: Differs and Rebuild are given
// its state.
type Repairer interface {
	// Behind lists the logs whose views are not as current as they are.
	Behind(ctx context.Context) ([]crypto.ID, error)
	// ListedAt is the last entry of a room's log that any record of the room is of, as it may have been a moment ago; 0 when
	// there is none. It is never ahead of a log that is read afterwards, unless that has lost its end.
	ListedAt(ctx context.Context, room crypto.ID) (seq uint64, err error)
	// Heal completes the views of a log that are behind it; of one that are not it does nothing.
	Heal(ctx context.Context, log crypto.ID) error
	// Differs counts the records of a log's views that are not what its state says, and changes nothing. ErrConflict
	// when the log has grown since; ErrShort when a record is of an entry that the log does not have.
	Differs(ctx context.Context, s *ledger.State) (wrong int, err error)
	// Rebuild makes the views of a log what its state says, and reports how many records were not. ErrConflict when
	// the log has grown since.
	Rebuild(ctx context.Context, s *ledger.State) (wrong int, err error)
}

// CheckWhole fails with ErrUnavailable while a bus is being copied into a store, or only a part of one was: of who was
// revoked, say, the store may not know yet.
func CheckWhole(ctx context.Context, t Target) error {
	copying, err := t.Copying(ctx)
	if err == nil && copying {
		err = fmt.Errorf("%w: a bus is being copied into the store, and is not there whole yet: unibus migrate or restore goes on with it; if nobody is copying one, what the servers keep is damaged", ErrUnavailable)
	}
	return err
}
