package pins

import (
	"context"
	"fmt"
)

// Settings are texts that are remembered by a name.
type Settings struct{ db *database }

// Get returns a remembered setting; empty for none.
func (s Settings) Get(ctx context.Context, name string) (value string, err error) {
	_, err = s.db.find(ctx, row{"settings", "the setting " + name, `SELECT value FROM intact_settings WHERE name = ?`, []any{name}}, &value)
	return value, err
}

// All returns the settings whose names begin so, by name.
func (s Settings) All(ctx context.Context, prefix string) (map[string]string, error) {
	all := row{"settings", "the settings", `SELECT name, value FROM intact_settings WHERE substr(name, 1, ?) = ?`, []any{len(prefix), prefix}}
	found, err := list(ctx, s.db, all, func(one *[2]string) []any { return []any{&one[0], &one[1]} })
	settings := map[string]string{}
	for _, one := range found {
		settings[one[0]] = one[1]
	}
	return settings, err
}

// Set remembers a setting.
func (s Settings) Set(ctx context.Context, name, value string) error {
	if err := s.db.write(ctx, durable, putSetting, name, value); err != nil {
		return fmt.Errorf("write the setting %s: %w", name, failure(err))
	}
	return nil
}
