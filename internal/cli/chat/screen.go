package chat

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/dustin/go-humanize/english"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/shown"
)

// View draws the screen.
func (m *model) View() tea.View {
	if m.line.typed != "" { // and is about to be drawn
		return m.drawn
	}
	m.drawn = draw(m)
	return m.drawn
}

// draw is the screen as it is.
func draw(m *model) (v tea.View) {
	v.AltScreen = true
	v.WindowTitle = "unibus chat"
	if m.width == 0 {
		return v // how large it is, is not known yet
	}
	l := m.layout()
	text := m.on.text(l, m.line.search)
	if m.help.on {
		l.rooms, l.members = false, false
		text = m.help.page(l)
	}
	columns, widths := [][]string{text}, []int{l.textWidth()}
	if l.showsRooms() {
		columns, widths = append([][]string{m.column(l.textHeight())}, columns...), append([]int{roomsWidth}, widths...)
	}
	if l.showsMembers() {
		columns, widths = append(columns, m.on.memberList(l.textHeight())), append(widths, membersWidth)
	}
	lines := []string{marked.Render(title(m.on.title(), m.bus, l.width))}
	lines = append(lines, beside(columns, widths, l.textHeight())...)
	lines = append(lines, l.rule(m.on, m.status))
	above := len(lines)
	lines = append(lines, strings.Split(m.line.View(), "\n")...)
	v.SetContent(strings.Join(append(lines, l.keyLine(keyNames(m, l))), "\n"))
	if c := m.line.Cursor(); c != nil {
		c.Y += above
		v.Cursor = c
	}
	return v
}

// beside puts columns beside each other.
func beside(columns [][]string, widths []int, height int) []string {
	lines := make([]string, height)
	for n := range lines {
		var b strings.Builder
		for c, column := range columns {
			cell := ""
			if n < len(column) {
				cell = ansi.Truncate(column[n], widths[c], "…")
			}
			b.WriteString(cell)
			if c < len(columns)-1 {
				b.WriteString(strings.Repeat(" ", widths[c]-ansi.StringWidth(cell)) + faint.Render(border))
			}
		}
		lines[n] = b.String()
	}
	return lines
}

// title tells where one is; r is nil before there is a room.
func (r *room) title() string {
	if r == nil {
		return " unibus chat"
	}
	parts := []string{english.Plural(len(r.members), "member", ""), fmt.Sprintf("epoch %d", r.info.Epoch)}
	switch {
	case r.info.Archived:
		parts = append(parts, "ARCHIVED")
	case r.info.Policy.Encryption == "e2e":
		parts = append(parts, "end-to-end encrypted")
	default:
		parts = append(parts, "NOT ENCRYPTED")
	}
	if r.info.Stale {
		parts = append(parts, "stale: needs a rekey")
	}
	return " " + shown.Text(r.Subject()) + "  " + strings.Join(parts, " · ")
}

// title is what a title tells, and at its end, if there is place, the name of the bus.
func title(text, bus string, width int) string {
	if bus = " " + shown.Text(bus) + " "; bus != "  " && ansi.StringWidth(text)+ansi.StringWidth(bus) < width {
		return fill(text, width-ansi.StringWidth(bus)) + bus
	}
	return fill(text, width)
}

// fill cuts a text to a width, or fills it up.
func fill(s string, width int) string {
	s = clip(s, width)
	return s + strings.Repeat(" ", max(width-ansi.StringWidth(s), 0))
}

// ending cuts a text that is too wide at its front: of subjects the end tells them apart.
func ending(s string, width int) string {
	if over := ansi.StringWidth(s) - width; over > 0 {
		return ansi.TruncateLeft(s, over+1, "…")
	}
	return s
}

// text is what is said in the room, as much as the screen shows, its last line last; what a search found is set off.
func (r *room) text(l layout, s *search) []string {
	if r == nil {
		return nil
	}
	height := l.textHeight()
	var lines []string // from the last to the first
	skip := r.offset
	take := func(part []string) {
		for n := len(part) - 1; n >= 0 && len(lines) < height; n-- {
			if skip > 0 {
				skip--
				continue
			}
			lines = append(lines, part[n])
		}
	}
	for n := len(r.items) - 1; n >= 0 && len(lines) < height; n-- {
		part := r.items[n].render(r.form(l))
		if s != nil && s.at == r.items[n] {
			part = highlighted(part)
		}
		take(part)
	}
	take(r.beginning(l.textWidth()))
	out := make([]string, height)
	for n, line := range lines {
		out[height-1-n] = line
	}
	return out
}

// highlighted are the lines of what was searched for.
func highlighted(lines []string) []string {
	out := make([]string, len(lines))
	for n, line := range lines {
		out[n] = marked.Render(ansi.Strip(line))
	}
	return out
}

// column is a line for each room: its subject, and what is new in it; as many as there is place for.
func (s *shelf) column(height int) []string {
	var lines []string
	for _, r := range s.rooms {
		news := r.closed()
		if r.news > 0 {
			news = fmt.Sprint(r.news)
		}
		if r.alarm {
			news += "!"
		}
		width := roomsWidth - 1 - len(news)
		line := " " + fill(ending(shown.Text(r.Subject()), width-1), width-1) + " " + news
		switch {
		case r == s.on:
			line = marked.Render(line)
		case r.alarm:
			line = alarm.Render(line)
		case r.news > 0:
			line = strong.Render(line)
		case r.closed() != "":
			line = faint.Render(line)
		}
		lines = append(lines, line)
	}
	return around(lines, s.at(), height)
}

// around are so many of the lines that one of them is among them.
func around(lines []string, at, height int) []string {
	first := min(max(at-height/2, 0), max(len(lines)-height, 0))
	return lines[first:min(first+height, len(lines))]
}

// memberList is a line for each member, as many as there is place for.
func (r *room) memberList(height int) []string {
	var lines []string
	if r == nil {
		return lines
	}
	for _, one := range r.members {
		name := one.Name
		if name == "" {
			name = one.Key.String()
		}
		role := string(one.Role)
		if one.Role == unibus.RoleMember {
			role = ""
		}
		if !one.Active {
			role = "revoked"
		}
		lines = append(lines, fill(shown.Text(name), membersWidth-1-len(role))+" "+faint.Render(role))
	}
	return around(lines, 0, height)
}

// rule is the line above the one that is written: how far below what is new is, and what is to be known.
func (l layout) rule(r *room, status string) string {
	text := status
	if r != nil && r.offset > 0 {
		below := english.Plural(r.offset, "line", "") + " below: esc"
		text = strings.TrimSuffix(below+" · "+text, " · ")
	}
	if text != "" {
		text = clip("── "+shown.Text(text), max(l.width-2, 1)) + " "
	}
	return faint.Render(text + strings.Repeat("─", max(l.width-ansi.StringWidth(text), 0)))
}

// keyNames are the keys that one needs, those that are needed most first.
func keyNames(m *model, l layout) []string {
	switch {
	case m.help.on:
		return m.help.keyNames(l)
	case m.line.search != nil:
		return []string{"enter older", "down newer", "esc end of search"}
	}
	return []string{"f1 help", "enter send", "tab next room", "ctrl+c end", "ctrl+f search", "f2 members", "alt+enter new line"}
}

// keyLine are such keys, as many as there is place for.
func (l layout) keyLine(names []string) string {
	line := ""
	for _, one := range names {
		if next := line + one + " · "; ansi.StringWidth(next)-3 <= l.width {
			line = next
		}
	}
	return faint.Render(strings.TrimSuffix(line, " · "))
}
