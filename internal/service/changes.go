package service

import (
	"context"
	"log/slog"
)

// changes logs what is wrong when that begins or changes, and when it is over, and nothing in between: what is
// tried or looked at every second would fill the log. It is for one goroutine.
type changes struct {
	log  *slog.Logger
	said map[string]string // the state of what is wrong, as it was said last
}

func newChanges(log *slog.Logger) changes { return changes{log, map[string]string{}} }

// say logs what is wrong with something, unless that was said before and has not changed.
func (c *changes) say(level slog.Level, what, state, text string, args ...any) {
	if c.said[what] == state {
		return
	}
	c.said[what] = state
	c.log.Log(context.Background(), level, text, args...)
}

// well logs that something is well again, if it was not.
func (c *changes) well(what, text string, args ...any) {
	if c.said[what] == "" {
		return
	}
	delete(c.said, what)
	c.log.Warn(text, args...)
}

// forget takes something for well, and says nothing of it: what was wrong is told anew if it begins again.
func (c *changes) forget(what string) { delete(c.said, what) }
