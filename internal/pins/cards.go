package pins

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/unibus/unibus/internal/crypto"
)

// Cards are the sealing keys of users whose cards were verified: they never change (SPEC.md §3), so that nobody needs to
// be asked for them again, nor their signatures looked at. That one is not here says nothing: they may be lost with the
// machine's power.
type Cards struct{ db *database }

// Known returns those cards of users that are remembered, with their keys for sealing alone.
func (c Cards) Known(ctx context.Context, users []crypto.PublicKey) (map[crypto.PublicKey]crypto.Card, error) {
	get, err := c.db.handles[lax].PrepareContext(ctx, `SELECT sealing FROM intact_cards WHERE endpoint = ?`)
	if err != nil {
		return nil, fmt.Errorf("read cards: %w", failure(err))
	}
	defer get.Close()
	known := map[crypto.PublicKey]crypto.Card{}
	for _, user := range users {
		card := crypto.Card{Key: user}
		switch err := get.QueryRowContext(ctx, user[:]).Scan(&card.Sealing); {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return nil, fmt.Errorf("read the card of %s: %w", user, failure(err))
		default:
			known[user] = card
		}
	}
	return known, nil
}

// Remember remembers verified cards: all of them, or none.
func (c Cards) Remember(ctx context.Context, cards []crypto.Card) error {
	err := c.db.writeAll(ctx, lax, `INSERT INTO cards (endpoint, sealing) VALUES (?, ?) ON CONFLICT DO NOTHING`, func(yield func([]any) bool) {
		for _, card := range cards {
			if !yield([]any{card.Key[:], card.Sealing}) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("write cards: %w", err)
	}
	return nil
}
