package chat

import "github.com/unibus/unibus/internal/shown"

// What a screen is made of: a title, the list of rooms if there are several, what is said, the members if they are asked
// for, a rule with what is to be known, the line that is written, and the keys.

const (
	border       = "│ " // between columns
	borderWidth  = 2
	roomsWidth   = 18
	membersWidth = 18
	minText      = 30 // columns for what is said: with less the lists are left out
)

// layout is how a screen is divided.
type layout struct {
	width, height  int
	rooms, members bool // are wanted
	line           int  // rows that are written in
}

// layout is how the screen is divided now.
func (m *model) layout() layout {
	return layout{m.width, m.height, len(m.rooms) > 1, m.members, m.line.Height()}
}

// textWidth is how wide what is said is shown.
func (l layout) textWidth() int {
	width := l.width
	if l.showsRooms() {
		width -= roomsWidth + borderWidth
	}
	if l.showsMembers() {
		width -= membersWidth + borderWidth
	}
	return max(width, 1)
}

// showsRooms reports whether the list of rooms is wanted and has a place.
func (l layout) showsRooms() bool { return l.rooms && l.width >= minText+roomsWidth+borderWidth }

// showsMembers reports whether the members are wanted and have a place.
func (l layout) showsMembers() bool {
	width := l.width - membersWidth - borderWidth
	if l.showsRooms() {
		width -= roomsWidth + borderWidth
	}
	return l.members && width >= minText
}

// textHeight is how many lines of what is said are shown: all but title, rule and keys, and the line that is written.
func (l layout) textHeight() int { return max(l.height-3-l.line, 1) }

// form is what the items of a room are fitted into.
func (r *room) form(l layout) form { return form{l.textWidth(), r.names} }

// lines is how many lines a room has.
func (r *room) lines(l layout) (n int) {
	for _, i := range r.items {
		n += len(i.render(r.form(l)))
	}
	return n + len(r.beginning(l.textWidth()))
}

// keepPlace keeps what is read on the screen while something is added below it.
func (r *room) keepPlace(l layout, add func()) {
	if r.offset == 0 { // the newest is
		add()
		return
	}
	before := r.lines(l)
	add()
	r.offset = max(r.offset+r.lines(l)-before, 1)
}

// scroll has so many lines be below the screen, as far as there are; first says that the first is on it.
func (r *room) scroll(l layout, below int) (first bool) {
	top := max(r.lines(l)-l.textHeight(), 0)
	r.offset = min(max(below, 0), top)
	return below >= top
}

// reveal brings an item to the middle of the screen.
func (r *room) reveal(l layout, n int) {
	below := 0
	for _, i := range r.items[n+1:] {
		below += len(i.render(r.form(l)))
	}
	r.scroll(l, below-l.textHeight()/2)
}

// beginning is what stands before the first item.
func (r *room) beginning(width int) []string {
	text := ""
	switch {
	case r.loading:
		text = "reading…"
	case !r.info.Policy.Stored():
		text = "— this room stores nothing: this is what came since you are here —"
	case r.whole:
		text = "— the beginning of what is stored —"
	case r.asked >= maxPast:
		text = "— for what is older: unibus sub " + shown.Text(r.Subject()) + " --all —"
	default:
		return nil
	}
	return []string{faint.Render(clip(text, width))}
}
