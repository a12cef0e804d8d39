package unibus

import (
	"context"
	"fmt"

	"github.com/unibus/unibus/internal/store"
)

// cardSetting is what remembers that the bus has the card.
func cardSetting(bus ID) string { return "card published to " + bus.String() }

// firstCard publishes the card once per bus: it never changes.
func (l *link) firstCard(ctx context.Context, bus ID) error {
	done, err := l.pins.Settings.Get(ctx, cardSetting(bus))
	if err != nil || done != "" {
		return err
	}
	return l.publishCard(ctx, bus)
}

// publishCard gives the store the card that others seal keys for.
func (l *link) publishCard(ctx context.Context, bus ID) error {
	card, err := l.o.Identity.Card()
	if err != nil {
		return err
	}
	if err := l.store.PutCards(ctx, store.Card{Endpoint: l.o.Identity.Key(), Statement: card}); err != nil {
		return fmt.Errorf("publish the card: %w", err)
	}
	return l.pins.Settings.Set(ctx, cardSetting(bus), "yes")
}
