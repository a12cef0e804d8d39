package pins

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/store/sqlite"
)

// Cards are the sealing keys of users whose cards were verified: they never change (SPEC.md §3), so that nobody needs to
// be asked for them again, nor their signatures looked at. That one is not here says nothing: they may be lost with the
// machine's power.
type Cards struct{ db *database }

// Known returns those cards of users that are remembered, with their keys for sealing alone.
func (c Cards) Known(ctx context.Context, users []crypto.PublicKey) (map[crypto.PublicKey]crypto.Card, error) {
	known := map[crypto.PublicKey]crypto.Card{}
	for chunk := range slices.Chunk(users, cardsAtOnce) {
		if err := c.known(ctx, chunk, known); err != nil {
			return nil, fmt.Errorf("read cards: %w", failure(err))
		}
	}
	return known, nil
}

// cardsAtOnce is how many cards one query asks for.
const cardsAtOnce = 500

// known adds those cards that are remembered, of so many users as one query takes.
func (c Cards) known(ctx context.Context, users []crypto.PublicKey, known map[crypto.PublicKey]crypto.Card) error {
	args := make([]any, len(users))
	for i, user := range users {
		args[i] = user[:]
	}
	rows, err := c.db.file.QueryContext(ctx, `SELECT endpoint, sealing FROM intact_cards WHERE endpoint IN (?`+strings.Repeat(", ?", len(users)-1)+`)`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var card crypto.Card
		if err := rows.Scan(sqlite.Blob(card.Key[:]), &card.Sealing); err != nil {
			return err
		}
		known[card.Key] = card
	}
	return rows.Err()
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
