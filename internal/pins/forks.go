package pins

import (
	"context"
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// Fork is proof of two histories: somebody who manages the room signed that its entry At has a hash that begins with
// Head, and this identity has verified another entry there. Settled says that a person has decided.
type Fork struct {
	Sender  crypto.PublicKey
	At      uint64
	Head    [16]byte
	Settled bool
}

// Forks are the proofs that were found, of all rooms. None is ever forgotten: a person settles them.
type Forks struct{ db *database }

// Of returns the forks of a room's log that are known, by entry.
func (k Forks) Of(ctx context.Context, room crypto.ID) ([]Fork, error) {
	known := row{
		"forks", fmt.Sprintf("the forks of room %s", room),
		`SELECT sender, at, head, settled FROM intact_forks WHERE room = ? ORDER BY at, sender`, []any{room[:]},
	}
	return list(ctx, k.db, known, func(f *Fork) []any {
		return []any{sqlite.Blob(f.Sender[:]), &f.At, sqlite.Blob(f.Head[:]), &f.Settled}
	})
}

// Add remembers a fork, settled or not. One that is known stays as it is.
func (k Forks) Add(ctx context.Context, room crypto.ID, f Fork) error {
	err := k.db.write(ctx, durable, `INSERT OR IGNORE INTO forks (room, sender, at, head, settled) VALUES (?, ?, ?, ?, ?)`, room[:], f.Sender[:], f.At, f.Head[:], f.Settled)
	if err != nil {
		return fmt.Errorf("remember a fork of room %s: %w", room, failure(err))
	}
	return nil
}

// Settle remembers that a person has decided about all known forks of a room's log.
func (k Forks) Settle(ctx context.Context, room crypto.ID) error {
	if err := k.db.write(ctx, durable, `UPDATE forks SET settled = 1 WHERE room = ?`, room[:]); err != nil {
		return fmt.Errorf("settle the forks of room %s: %w", room, failure(err))
	}
	return nil
}
