package chat

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// help is the page of the keys, which stands where else the lists and what is said do.
type help struct {
	on  bool
	top int // the first line that is on the screen
}

// narrowHelp is the width below which what keys do stands below them.
const narrowHelp = 40

// helpText are all keys, and what the marks of messages mean.
func helpText(width int) (lines []string) {
	add := func(head, text string) {
		indent := strings.Repeat(" ", ansi.StringWidth(head))
		for part := range strings.SplitSeq(ansi.Wrap(text, max(width-len(indent), 1), ""), "\n") {
			lines = append(lines, head+part)
			head = indent
		}
	}
	for _, k := range keys {
		if width < narrowHelp {
			add(" ", k[0])
			add("   ", k[1])
			continue
		}
		add(" "+fill(k[0], 19), k[1])
	}
	add(" ", "A message of yours is sealed when it is encrypted, signed and on its way, and stored when the server has said so. Lines with ! are findings, which break a promise: unibus verify.")
	return lines
}

// page is as much of the help as the screen shows.
func (h *help) page(l layout) []string {
	lines := helpText(l.width)
	h.top = max(min(h.top, len(lines)-l.textHeight()), 0)
	return lines[h.top:]
}

// press takes a key: those that move the page, and any other ends it.
func (h *help) press(key string, l layout) {
	page := max(l.textHeight()-1, 1)
	by, moves := map[string]int{"down": 1, "up": -1, "pgdown": page, "space": page, "pgup": -page}[key]
	h.top += by
	h.on = moves
}

// keyNames are the keys that the page has, of which one needs some only where it does not fit.
func (h *help) keyNames(l layout) []string {
	var names []string
	if h.top+l.textHeight() < len(helpText(l.width)) {
		names = append(names, "down the rest")
	}
	if h.top > 0 {
		names = append(names, "up back")
	}
	if len(names) == 0 {
		return []string{"any key ends this help"}
	}
	return append(names, "any other key ends this help")
}
