package chat

import (
	"regexp"
	"strings"
	"time"

	"charm.land/bubbles/v2/textarea"
	tea "charm.land/bubbletea/v2"

	"github.com/unibus/unibus/internal/shown"
)

// line is where one writes: a message, or while somebody searches what is looked for.
type line struct {
	textarea.Model
	asked  string  // whether it is to be sent; empty: nothing
	search *search // nil: nobody searches
	typed  string  // and not in the line yet
}

// Limits of what is written.
const (
	maxRows    = 6         // that are shown
	maxWritten = 256 << 10 // characters of a message; larger ones are for unibus pub
)

// gathering is how long what is typed is gathered before the line takes it: a terminal that does not say what is pasted
// types thousands of characters, and to the line each is a new text to be wrapped.
const gathering = 5 * time.Millisecond

// gathered says that the line is to take what was typed.
type gathered struct{}

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

// gather takes a text that is typed, for the line to take a moment later with what follows.
func (l *line) gather(text string) (then tea.Cmd) {
	if l.typed == "" {
		then = tea.Tick(gathering, func(time.Time) tea.Msg { return gathered{} })
	}
	l.typed += text
	return then
}

// settle has the line take what was gathered, before anything else happens to it.
func (l *line) settle() {
	if text := l.typed; text != "" {
		l.typed = ""
		_ = l.write(tea.PasteMsg{Content: text})
	}
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
