package cli

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/unibus/unibus"
)

// How one message is shown: as JSON, as it is for another program, or as a line for people, on whose terminal nothing of
// what others wrote may act.

// messageFlags say how messages are shown.
type messageFlags struct {
	// raw shows bodies to a terminal as they are, null ends them with NUL, headers shows headers.
	raw, null, headers bool
	// several says that there are several rooms, so that their names are worth telling.
	several bool
	// page is how far people have read.
	page *page
	// template or format says how a message is written; nil: as ever.
	template *template.Template
	format   format
}

// forPeople reports whether messages are shown as people read them: with days, in columns.
func (f *messageFlags) forPeople(o *output) bool {
	return o.terminal && !o.json && !f.raw && !f.null && f.template == nil && f.format == nil
}

// separator is what ends a message that is written for another program.
func (f *messageFlags) separator() byte {
	if f.null {
		return 0
	}
	return '\n'
}

// messageJSON is a message as scripts see it: body, or body_base64 where that is no UTF-8.
type messageJSON struct {
	ID      string              `json:"id"`
	Room    string              `json:"room_id"`
	Subject string              `json:"subject"`
	Sender  string              `json:"sender"`
	Name    string              `json:"name"`
	Time    time.Time           `json:"time"`
	Epoch   uint32              `json:"epoch"`
	Stream  string              `json:"stream"`
	Counter uint64              `json:"counter"`
	Headers map[string][]string `json:"headers"`
	Body    *string             `json:"body,omitempty"`
	Base64  []byte              `json:"body_base64,omitempty"`
	Former  bool                `json:"former,omitempty"`
	Late    bool                `json:"late,omitempty"`
	Unsure  bool                `json:"unsure,omitempty"`
}

// newMessageJSON makes JSON of a message whose body is in one piece.
func newMessageJSON(m *unibus.Message) messageJSON {
	j := messageJSON{
		ID: m.ID(), Room: m.Room.String(), Subject: m.Subject, Sender: m.Sender.String(), Name: m.Name, Time: m.Time, Epoch: m.Epoch,
		Stream: m.Stream.String(), Counter: m.Counter, Headers: map[string][]string{}, Former: m.Former, Late: m.Late, Unsure: m.Unsure,
	}
	for _, h := range m.Headers {
		j.Headers[h.Key] = append(j.Headers[h.Key], h.Value)
	}
	if body := string(m.Body); utf8.ValidString(body) {
		j.Body = &body
	} else {
		j.Base64 = m.Body
	}
	return j
}

// unsureSize is the size in bytes from which on people are told that a message may lack its beginning. Smaller ones hardly
// ever come in more than one frame, so that of them it would nearly always be a false alarm.
const unsureSize = 64 << 10

// showMessage prints one message; it goes out with the next flush.
func (c *console) showMessage(m *unibus.Message, f messageFlags) error {
	if m.Unsure && m.Size() >= unsureSize {
		c.notice("%s: the frame before a message of %s by %s was not read: that may be only its end", visible(m.Subject), humanize.IBytes(uint64(m.Size())), visible(m.Name))
	}
	switch {
	case f.format != nil:
		return c.out.messageFormat(m, f)
	case f.template == nil && !c.out.json && !f.forPeople(c.out):
		return c.out.messageBytes(m, f)
	}
	// A large message comes in parts, so that it can be passed on without being copied; here it has to be in one piece.
	if m.Parts != nil {
		m.Body, m.Parts = slices.Concat(m.Parts...), nil
	}
	if f.template != nil {
		return c.out.messageTemplate(m, f)
	}
	if c.out.json {
		return c.out.encode(newMessageJSON(m))
	}
	c.out.fit()
	c.out.messageLine(m, f)
	return nil
}

// messageBytes writes a body as it is, but to a terminal, with its end. Headers, which are made safe to look at in any case, come
// before, and an empty line between, also where there are none.
func (o *output) messageBytes(m *unibus.Message, f messageFlags) error {
	if f.headers {
		o.headerLines("", m.Headers)
		_ = o.WriteByte('\n') // so that no line of a body is taken for a header, nor one for a line of a body
	}
	for _, part := range append(m.Parts, m.Body) {
		if o.terminal && !f.raw {
			part = []byte(visibleLines(string(part)))
		}
		_, _ = o.Write(part) // a failed write is kept by the buffer, and returned below
	}
	return o.WriteByte(f.separator())
}

// page is how far people have read: what is said once, and not with each message. Senders and rooms are in columns, as wide
// as those that have been seen.
type page struct {
	day           string // of the last message
	sender, rooms int    // widths
}

// maxColumn is how wide the columns of rooms and senders get: who has a longer name has the rest of the line moved.
const maxColumn = 24

// column is a text that fills a column of a page, which grows for it.
func column(s string, width *int) string {
	w := text.StringWidthWithoutEscSequences(s)
	*width = max(*width, min(w, maxColumn))
	return s + strings.Repeat(" ", max(*width-w, 0))
}

// minBody is how narrow a body may become before it is left to the terminal where its lines end.
const minBody = 12

// senderColors tell senders apart.
var senderColors = []text.Color{text.FgGreen, text.FgCyan, text.FgMagenta, text.FgYellow, text.FgBlue, text.FgHiGreen, text.FgHiCyan, text.FgHiMagenta}

// messageLine writes a message for people: time, room, sender, and the body beside, however many lines that has.
func (o *output) messageLine(m *unibus.Message, f messageFlags) {
	// Colours are only around what is ours or was made visible: bodies bring none of their own.
	paint := o.paint
	at := m.Time.Local()
	if day := at.Format("Monday, 2 January 2006"); day != f.page.day {
		f.page.day = day
		o.rule(day)
	}
	before := paint(text.FgHiBlack, at.Format(time.TimeOnly)) + " "
	if f.several {
		before += paint(text.FgHiBlack, column(visible(m.Subject), &f.page.rooms)) + " "
	}
	before += paint(senderColors[int(m.Sender[0])%len(senderColors)], column(visible(m.Name), &f.page.sender))
	if m.Former {
		before += paint(text.FgYellow, " (former)")
	}
	if m.Late {
		before += paint(text.FgYellow, " (late, of "+formatTime(m.Time)+")")
	}
	before += "  "
	indent := text.StringWidthWithoutEscSequences(before)
	for i, line := range strings.Split(strings.TrimSuffix(string(m.Body), "\n"), "\n") {
		if i > 0 {
			before = strings.Repeat(" ", indent) // so that no line of a body is taken for a message
		}
		fmt.Fprintf(o, "%s%s\n", before, o.beside(indent, visible(strings.ReplaceAll(line, "\t", "    "))))
	}
	if f.headers {
		o.headerLines(strings.Repeat(" ", indent), m.Headers)
	}
}

// rule writes what the messages below it have in common.
func (o *output) rule(what string) {
	fmt.Fprintf(o, "%s\n", o.paint(text.FgHiBlack, "— "+what+" —"))
}

// paint is a text in a colour, where there are colours.
func (o *output) paint(c text.Color, s string) string {
	if o.plain {
		return s
	}
	return c.Sprint(s)
}

// beside is a line of a body, broken between words where the terminal ends, and all of it to the right of a column. Spaces
// within it stay as they are: they may be what it says.
func (o *output) beside(column int, line string) string {
	width := o.width - column
	if o.width == 0 || width < minBody {
		return line
	}
	return strings.ReplaceAll(ansi.Wrap(line, width, ""), "\n", "\n"+strings.Repeat(" ", column))
}

// headerLines writes a line for each header, made safe to look at.
func (o *output) headerLines(indent string, headers []unibus.Header) {
	for _, h := range headers {
		fmt.Fprintf(o, "%s%s: %s\n", indent, visible(h.Key), visible(h.Value))
	}
}
