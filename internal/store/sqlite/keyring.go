package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store"
)

// This file is store.Keyring: sealed copies of room keys, by room, epoch, commitment, member and sealer, and cards.
// A copy is staged until an entry names its key (staging.go).

// keyring is store.Keyring, and CopyKeys of store.Target.
type keyring struct{ *database }

// PutKeys keeps copies that one sealer made.
func (k *keyring) PutKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, sealer crypto.PublicKey, keys []store.SealedKey) error {
	return k.put(ctx, store.SealedCopy{Room: room, Epoch: epoch, Commit: commit}, store.MadeBy(sealer, keys), store.Full)
}

// CopyKeys keeps copies that another store has.
func (k *keyring) CopyKeys(ctx context.Context, room crypto.ID, epoch uint32, commit crypto.Hash, copies []store.SealedKey) error {
	return k.put(ctx, store.SealedCopy{Room: room, Epoch: epoch, Commit: commit}, copies, noLimit)
}

// limit reports whether a member has as many copies of a key that an entry names as are kept (store.Full).
type limit func(k store.SealedKey, author crypto.PublicKey, there []crypto.PublicKey) bool

// noLimit keeps as many as there are.
func noLimit(store.SealedKey, crypto.PublicKey, []crypto.PublicKey) bool { return false }

// put keeps copies of a key, in one transaction, all but those that are refused.
func (k *keyring) put(ctx context.Context, of store.SealedCopy, copies []store.SealedKey, full limit) error {
	ctx, cancel := k.writing(ctx, len(copies))
	defer cancel()
	if err := k.tryPut(ctx, of, copies, full); err != nil {
		return fmt.Errorf("put keys: %w", failure(err))
	}
	return nil
}

// tryPut is put without a bound; ErrExists when some were refused. Copies of a key that no entry names yet are staged as of
// now; of one that is named they stay for ever, and there is a limit to them.
func (k *keyring) tryPut(ctx context.Context, of store.SealedCopy, copies []store.SealedKey, full limit) error {
	tx, err := k.begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	author, named, err := authorOf(ctx, tx, of)
	if err != nil {
		return err
	}
	stagedAt := now()
	if named {
		stagedAt = 0
	}
	// One copy that is refused keeps none of the others out: each is another member's way to the key.
	refused := 0
	for _, of.SealedKey = range copies {
		kept, enough := false, false
		if named {
			var there []crypto.PublicKey
			there, err = sealersOf(ctx, tx, of)
			enough = err == nil && full(of.SealedKey, author, there)
		}
		if err == nil && !enough {
			kept, err = putOne(ctx, tx, of, stagedAt)
		}
		if err != nil {
			return err
		}
		if !kept {
			refused++
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if refused > 0 {
		return fmt.Errorf("%w: other copies, for %d of %d", store.ErrExists, refused, len(copies))
	}
	return nil
}

// putOne keeps a copy, unless its sealer has made another. One that is staged again is as if staged now.
func putOne(ctx context.Context, tx *transaction, k store.SealedCopy, stagedAt int64) (kept bool, err error) {
	r, err := tx.ExecContext(ctx, `INSERT INTO room_keys (room, epoch, commitment, endpoint, sealer, sealed, staged_at) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (room, epoch, commitment, endpoint, sealer) DO UPDATE SET staged_at = excluded.staged_at WHERE sealed = excluded.sealed`,
		k.Room[:], k.Epoch, k.Commit[:], k.Endpoint[:], k.Sealer[:], k.Sealed, stagedAt)
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n > 0, err
}

// authorOf returns who wrote the entry that names a key, if there is one.
func authorOf(ctx context.Context, tx *transaction, k store.SealedCopy) (author crypto.PublicKey, named bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT author FROM epochs WHERE room = ? AND epoch = ? AND commitment = ?`, k.Room[:], k.Epoch, k.Commit[:]).Scan(Blob(author[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return author, false, nil
	}
	return author, true, err
}

// sealersOf returns who made the copies of a key that a member has.
func sealersOf(ctx context.Context, tx *transaction, k store.SealedCopy) ([]crypto.PublicKey, error) {
	return rows(ctx, tx, func(scan func(...any) error) (sealer crypto.PublicKey, err error) {
		err = scan(Blob(sealer[:]))
		return sealer, err
	}, `SELECT sealer FROM room_keys WHERE room = ? AND epoch = ? AND commitment = ? AND endpoint = ?`, k.Room[:], k.Epoch, k.Commit[:], k.Endpoint[:])
}

// Key returns an endpoint's copies of an epoch's committed key.
func (k *keyring) Key(ctx context.Context, room crypto.ID, epoch uint32, endpoint crypto.PublicKey) ([]store.SealedKey, error) {
	ctx, cancel := k.op(ctx)
	defer cancel()
	var author crypto.PublicKey
	copies, err := rows(ctx, k.read, func(scan func(...any) error) (store.SealedKey, error) {
		k := store.SealedKey{Endpoint: endpoint}
		err := scan(Blob(author[:]), Blob(k.Sealer[:]), &k.Sealed)
		return k, err
	}, `SELECT e.author, k.sealer, k.sealed FROM epochs e
		JOIN room_keys k ON k.room = e.room AND k.epoch = e.epoch AND k.commitment = e.commitment AND k.endpoint = ?2
		WHERE e.room = ?1 AND e.epoch = CASE ?3 WHEN 0 THEN (SELECT max(epoch) FROM epochs WHERE room = ?1) ELSE ?3 END`,
		room[:], endpoint[:], epoch)
	if err == nil && len(copies) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("key of room %s: %w", room, failure(err))
	}
	return store.InOrder(copies, author), nil
}

// PutCards keeps cards, all or none.
func (k *keyring) PutCards(ctx context.Context, cards ...store.Card) error {
	ctx, cancel := k.writing(ctx, len(cards))
	defer cancel()
	tx, err := k.begin(ctx)
	if err != nil {
		return fmt.Errorf("put cards: %w", failure(err))
	}
	defer tx.Rollback()
	put, err := tx.PrepareContext(ctx, `INSERT OR REPLACE INTO cards (endpoint, statement) VALUES (?, ?)`)
	if err != nil {
		return fmt.Errorf("put cards: %w", failure(err))
	}
	for _, c := range cards {
		if _, err := put.ExecContext(ctx, c.Endpoint[:], c.Statement); err != nil {
			return fmt.Errorf("put cards: %w", failure(err))
		}
	}
	return failure(tx.Commit())
}

// cardsAtOnce is how many endpoints one query asks for.
const cardsAtOnce = 500

// Cards returns the cards of endpoints.
func (k *keyring) Cards(ctx context.Context, endpoints ...crypto.PublicKey) ([]store.Card, error) {
	var out []store.Card
	for chunk := range slices.Chunk(endpoints, cardsAtOnce) {
		cards, err := k.cards(ctx, chunk)
		if err != nil {
			return nil, fmt.Errorf("cards: %w", failure(err))
		}
		out = append(out, cards...)
	}
	return out, nil
}

// cards asks for the cards of so many endpoints as one query takes.
func (k *keyring) cards(ctx context.Context, endpoints []crypto.PublicKey) ([]store.Card, error) {
	ctx, cancel := k.op(ctx)
	defer cancel()
	args := make([]any, len(endpoints))
	for i, endpoint := range endpoints {
		args[i] = endpoint[:]
	}
	return rows(ctx, k.read, scanCard, `SELECT endpoint, statement FROM cards WHERE endpoint IN (?`+strings.Repeat(`, ?`, len(endpoints)-1)+`)`, args...)
}

// scanCard reads an endpoint and its card.
func scanCard(scan func(...any) error) (c store.Card, err error) {
	err = scan(Blob(c.Endpoint[:]), &c.Statement)
	return c, err
}
