package unibus

import (
	"context"
	"fmt"

	"github.com/unibus/unibus/internal/store"
)

// cardSetting is what remembers that the bus has the card.
func (c *Client) cardSetting() string { return "card published to " + c.Bus().String() }

// firstCard publishes the card once per bus: it never changes.
func (c *Client) firstCard(ctx context.Context) error {
	done, err := c.pins.Settings.Get(ctx, c.cardSetting())
	if err != nil || done != "" {
		return err
	}
	return c.publishCard(ctx)
}

func (c *Client) publishCard(ctx context.Context) error {
	card, err := c.o.Identity.Card()
	if err != nil {
		return err
	}
	if err := c.link.store.PutCards(ctx, store.Card{Endpoint: c.Key(), Statement: card}); err != nil {
		return fmt.Errorf("publish the card: %w", err)
	}
	return c.pins.Settings.Set(ctx, c.cardSetting(), "yes")
}
