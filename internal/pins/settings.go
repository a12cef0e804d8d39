package pins

import (
	"context"
	"fmt"
)

// Settings are texts that are remembered by a name.
type Settings struct{ db *database }

// Get returns a remembered setting; empty for none.
func (s Settings) Get(ctx context.Context, name string) (value string, err error) {
	_, err = s.db.find(ctx, durable, row{"settings", "the setting " + name, `SELECT value FROM intact_settings WHERE name = ?`, []any{name}}, &value)
	return value, err
}

// Set remembers a setting.
func (s Settings) Set(ctx context.Context, name, value string) error {
	if err := s.db.write(ctx, durable, `INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`, name, value); err != nil {
		return fmt.Errorf("write the setting %s: %w", name, failure(err))
	}
	return nil
}
