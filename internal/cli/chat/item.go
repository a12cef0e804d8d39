package chat

import (
	"cmp"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/dustin/go-humanize"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/shown"
)

// item is what stands in a room by itself: a message, or something that happened.
type item struct {
	kind  itemKind
	at    time.Time
	id    string           // of a message
	from  unibus.PublicKey // of a message
	name  string           // of who sent it or did it, as it came
	text  string           // as it came: nothing of it is shown but by shown.Text
	marks string           // what else is to be known of a message

	number int             // of a message of one's own that is on its way
	stream unibus.StreamID // in which it is sent
	state  sendState       // of a message of one's own, if this chat sent it
	live   bool            // with stored: the room stores nothing
	newDay bool            // a day begins with it
	fresh  bool            // what came while the room was not on the screen begins with it

	lines []string // how it looks, in a form; nil: that is to be made out
	in    form
}

// form is what a room's items are fitted into: columns for all of it, and of these for names.
type form struct{ width, name int }

// weight is how many bytes an item takes, about: its text, that as it looks, and what is known of it.
func (i *item) weight() int { return 512 + 3*len(i.text) }

// itemKind is what an item is.
type itemKind int

const (
	said    itemKind = iota // a message that was read
	own                     // a message of one's own that was not read yet
	change                  // an entry of the log
	remark                  // something that is to be known
	finding                 // something that breaks a promise
)

// messageItem is a message.
func messageItem(m message) *item {
	i := &item{kind: said, at: m.Time, id: m.ID(), from: m.Sender, name: m.Name, text: string(m.Body), stream: m.Stream, state: waiting}
	var marks []string
	if m.Former {
		marks = append(marks, "former member")
	}
	if m.Late {
		marks = append(marks, "late")
	}
	if m.size > len(m.Body) {
		marks = append(marks, humanize.IBytes(uint64(m.size))+", cut off here")
	}
	i.marks = strings.Join(marks, ", ")
	return i
}

// changeItem is an entry of a log, in words.
func changeItem(e unibus.LogEntry) *item {
	return &item{kind: change, at: e.Time, name: e.Name, text: strings.TrimSpace(verbs(e.Op) + " " + e.Summary)}
}

// verbs says what somebody did, given what the log calls it.
func verbs(op string) string {
	return cmp.Or(map[string]string{
		"create": "made this room:", "invite": "invited", "remove": "removed", "leave": "left", "role": "changed a role:",
		"rekey": "gave the room a new key:", "policy": "changed the room:", "archive": "archived this room",
	}[op], op)
}

// styles are how things look; without colours, what matters is bold or faint.
var (
	plain  = lipgloss.NewStyle()
	faint  = lipgloss.NewStyle().Faint(true)
	strong = lipgloss.NewStyle().Bold(true)
	alarm  = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red)
	marked = lipgloss.NewStyle().Reverse(true)
)

// palette tells senders apart, as that of unibus sub does.
var palette = []lipgloss.Style{
	strong.Foreground(lipgloss.Green), strong.Foreground(lipgloss.Cyan), strong.Foreground(lipgloss.Magenta), strong.Foreground(lipgloss.Yellow),
	strong.Foreground(lipgloss.Blue), strong.Foreground(lipgloss.BrightGreen), strong.Foreground(lipgloss.BrightCyan), strong.Foreground(lipgloss.BrightMagenta),
}

// maxName is how wide a sender's name is shown.
const maxName = 16

// render returns how an item looks, as lines.
func (i *item) render(in form) []string {
	if i.lines != nil && i.in == in {
		return i.lines
	}
	i.in, i.lines = in, nil
	width := in.width
	if i.newDay {
		i.lines = append(i.lines, faint.Render(clip("— "+i.at.Local().Format("Monday, 2 January 2006")+" —", width)))
	}
	if i.fresh {
		i.lines = append(i.lines, strong.Render(clip("— new —", width)))
	}
	clock := i.at.Local().Format("15:04")
	switch i.kind {
	case said, own:
		i.message(clock, in)
	case change:
		i.wrapped(clock+" · ", i.name+" "+i.text, faint, width)
	case remark:
		i.wrapped(clock+" · ", i.text, faint, width)
	case finding:
		i.wrapped(clock+" ! ", i.text, alarm, width)
	}
	return i.lines
}

// message adds the lines of a message: when, who, and the body beside.
func (i *item) message(clock string, in form) {
	name, width := fill(shown.Text(i.name), in.name), in.width
	head := faint.Render(clock) + " " + palette[int(i.from[0])%len(palette)].Render(name) + " "
	indent := len(clock) + 1 + in.name + 1
	if width-indent < width/3 { // a narrow screen: the body begins below
		i.lines = append(i.lines, head)
		head, indent = "  ", 2
	}
	for _, line := range strings.Split(strings.TrimRight(i.text, "\n"), "\n") {
		i.wrapped(head, line, plain, width)
		head = strings.Repeat(" ", indent)
	}
	tail := i.tail()
	if tail == "" {
		return
	}
	last := len(i.lines) - 1
	if ansi.StringWidth(i.lines[last])+1+ansi.StringWidth(tail) <= width {
		i.lines[last] += " " + faint.Render(tail)
	} else {
		i.wrapped(strings.Repeat(" ", indent), tail, faint, width)
	}
}

// tail says what else is to be known of a message: how far one's own has come, or what is odd about another's.
func (i *item) tail() string {
	arrived := "stored"
	if i.live {
		arrived = "sent"
	}
	state := map[sendState]string{sealed: "sealed", stored: arrived, failed: "NOT STORED, as far as is known; ctrl+r takes it back"}[i.state]
	switch {
	case i.kind == own && i.state == waiting:
		return "(waiting)"
	case state != "" && i.marks != "":
		return "(" + i.marks + ", " + state + ")"
	case state+i.marks != "":
		return "(" + state + i.marks + ")"
	}
	return ""
}

// wrapped adds the lines of a text, of which all but the first begin as far in as the first does behind its head.
func (i *item) wrapped(head, text string, style lipgloss.Style, width int) {
	indent := ansi.StringWidth(head)
	text = shown.Text(strings.ReplaceAll(text, "\t", "    "))
	for _, part := range strings.Split(ansi.Wrap(text, max(width-indent, 1), ""), "\n") {
		i.lines = append(i.lines, style.Render(head)+style.Render(part))
		head = strings.Repeat(" ", indent)
	}
}

// clip cuts a text off that is too wide.
func clip(s string, width int) string { return ansi.Truncate(s, width, "…") }
