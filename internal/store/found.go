package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/crypto"
	"github.com/unibus/unibus/internal/ledger"
)

// Found begins the bus log with its author, called name, as the first admin, and keeps the author's card; now is when the
// entry is said to be written. It returns what the log then says. ErrExists where a bus stands already, ErrDamaged where one
// stood, of which there are users still; a *ledger.Invalid for a name that none can have.
func Found(ctx context.Context, s Store, by *crypto.Identity, name string, now time.Time) (*ledger.State, error) {
	var fold ledger.Fold
	statement, err := fold.State().Next(by, &ledger.Found{Name: name, Key: by.Key()}, now)
	if err != nil {
		return nil, err
	}
	c, err := Advance(&fold, statement)
	if err != nil {
		return nil, err
	}
	card, err := by.Card()
	if err != nil {
		return nil, err
	}
	if err := NeverUsed(ctx, s); err != nil {
		return nil, err
	}
	if err := s.PutCards(ctx, Card{Endpoint: by.Key(), Statement: card}); err != nil {
		return nil, err
	}
	return fold.State(), s.Append(ctx, c)
}

// NeverUsed returns ErrDamaged where a bus stood, of which there are users, rooms or logs still: no other is to be founded beside
// what is left of it. Where a bus stands nothing is wrong: Append says that.
func NeverUsed(ctx context.Context, s Store) error {
	kind, which, err := leftOver(ctx, s)
	if err != nil || kind == "" {
		return err
	}
	if _, err := s.Bus(ctx); !errors.Is(err, ErrNotFound) {
		return err
	}
	return fmt.Errorf("%w: there are %s of an earlier bus (%s): nothing is founded beside them", ErrDamaged, kind, which)
}

// leftOver is what kind of thing there is in a store, and one of them; empty for nothing.
func leftOver(ctx context.Context, s Store) (kind, which string, err error) {
	for u, err := range s.Users(ctx, crypto.PublicKey{}) {
		return "users", u.Name, err
	}
	for r, err := range s.Rooms(ctx, crypto.ID{}) {
		return "rooms", r.Subject, err
	}
	if i, ok := s.(Inventory); ok {
		for log, err := range i.Logs(ctx) {
			return "logs", log.String(), err
		}
	}
	return "", "", nil
}
