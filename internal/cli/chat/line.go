package chat

import (
	"regexp"
	"strings"

	"charm.land/bubbles/v2/textarea"
	tea "charm.land/bubbletea/v2"

	"github.com/unibus/unibus/internal/shown"
)

// line is where one writes: a message, or while somebody searches what is looked for.
type line struct {
	textarea.Model
	asked  string  // whether it is to be sent; empty: nothing
	search *search // nil: nobody searches
}

// Limits of what is written.
const (
	maxRows    = 6         // that are shown
	maxWritten = 256 << 10 // characters of a message; larger ones are for unibus pub
)

// newLine is an empty line, which grows with what is in it.
func newLine() line {
	t := textarea.New()
	t.Prompt = "› "
	t.ShowLineNumbers = false
	t.DynamicHeight = true
	t.MinHeight, t.MaxHeight = 1, maxRows
	t.MaxContentHeight = maxWritten
	t.CharLimit = maxWritten
	t.SetVirtualCursor(false)
	bare := textarea.StyleState{Placeholder: faint}
	t.SetStyles(textarea.Styles{Focused: bare, Blurred: bare})
	t.Focus()
	return line{Model: t}
}

// fit fits the line into a screen.
func (l *line) fit(width, height int) {
	l.MaxHeight = min(max(height/3, 1), maxRows)
	l.SetWidth(max(width, 4))
}

// set has the line be a text, with the cursor behind it.
func (l *line) set(text string) {
	l.SetValue(text)
	l.MoveToEnd()
}

// turnTo has the line be for a room, with what was written there before.
func (l *line) turnTo(r *room) {
	l.search = nil
	l.Placeholder = r.readOnly()
	if l.Placeholder == "" {
		l.Placeholder = "write to " + shown.Text(r.Subject())
	}
	l.set(r.draft)
}

// write takes what is typed or pasted.
func (l *line) write(event tea.Msg) (then tea.Cmd) {
	l.Model, then = l.Update(event)
	return then
}

// command is what looks like a command of another chat.
var command = regexp.MustCompile(`^/[a-zA-Z]+(\s|$)`)

// mistyped reports whether what is written may be meant for the chat and not for the room: it is sent when it is said twice.
func (l *line) mistyped() bool {
	text := strings.TrimSpace(l.Value())
	if !command.MatchString(text) || l.asked == text {
		l.asked = ""
		return false
	}
	l.asked = text
	return true
}

// beginSearch has the line be for what is looked for in a room.
func (l *line) beginSearch(r *room) {
	r.draft = l.Value()
	l.search = &search{up: true}
	l.Reset()
	l.Placeholder = "search in " + shown.Text(r.Subject())
}
