package service

import (
	"context"
	"log/slog"
)

// changes logs what is wrong when that begins or changes, and when it is over, and nothing in between: what is
// tried or looked at every second would fill the log. It is for one goroutine.
type changes struct {
	log      *slog.Logger
	reported map[string]string // the state of what is wrong, as it was reported last
}

// newChanges takes everything for well.
func newChanges(log *slog.Logger) changes { return changes{log, map[string]string{}} }

// report logs what is wrong with something, unless that was reported before and has not changed.
func (c *changes) report(level slog.Level, what, state, text string, args ...any) {
	if c.reported[what] == state {
		return
	}
	c.reported[what] = state
	c.log.Log(context.Background(), level, text, args...)
}

// resolved logs that something is well again, if it was not.
func (c *changes) resolved(what, text string, args ...any) {
	if c.reported[what] == "" {
		return
	}
	delete(c.reported, what)
	c.log.Warn(text, args...)
}

// forget takes something for well, and says nothing of it: what was wrong is told anew if it begins again.
func (c *changes) forget(what string) { delete(c.reported, what) }
