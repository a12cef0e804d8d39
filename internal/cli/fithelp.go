package cli

import (
	"regexp"
	"strings"
)

// Help on a terminal: as wide as that is, and no wider than one likes to read. For a pipe it is as it was written.

// maxHelpWidth is how wide help becomes on a terminal that is wider.
const maxHelpWidth = 100

// helpWidth is how wide help is to be; 0: as it was written.
func (o *output) helpWidth() int {
	if o.width < minColumn {
		return 0
	}
	return min(o.width, maxHelpWidth)
}

// Lines of help that are longer than a terminal is wide.
var (
	// described is a name and, behind at least two spaces, what it is.
	described = regexp.MustCompile(`^( +\S+(?: \S+)*)( {2,})(\S.*)$`)
	// remarked is an example with a comment behind it.
	remarked = regexp.MustCompile(`^( +)(\S.*?) {2,}# (.*)$`)
)

// minDescribed is how narrow a description may become beside what it describes; else it stands below that.
const minDescribed = 24

// fitHelp breaks a page of help between words, so that it fits a width. Examples stay whole, since they are there to be
// copied; what they are accompanied by goes before them.
func fitHelp(page string, width int) string {
	if width == 0 {
		return page
	}
	var b strings.Builder
	var paragraph []string
	end := func() {
		if len(paragraph) > 0 {
			b.WriteString(wrapText(strings.Join(paragraph, " "), width, 0) + "\n")
			paragraph = nil
		}
	}
	examples := false
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] != ' ' {
			paragraph = append(paragraph, line)
			examples = line == "Examples:"
			continue
		}
		end()
		if examples {
			line = fitExample(line, width)
		} else {
			line = fitLine(line, width)
		}
		b.WriteString(line + "\n")
	}
	end()
	return b.String()
}

// fitLine breaks a line that is indented, and has what follows on begin below what it goes on with.
func fitLine(line string, width int) string {
	if columns(line) <= width {
		return line
	}
	indent := len(line) - len(strings.TrimLeft(line, " "))
	m := described.FindStringSubmatch(line)
	if m == nil { // how a command is used, or text of a list
		return line[:indent] + wrapText(line[indent:], width-indent, indent)
	}
	column := columns(m[1] + m[2])
	if width-column >= minDescribed {
		return m[1] + m[2] + wrapText(m[3], width-column, column)
	}
	column = indent + 4
	return m[1] + "\n" + strings.Repeat(" ", column) + wrapText(m[3], width-column, column)
}

// fitExample puts the comment of an example that is too long before it.
func fitExample(line string, width int) string {
	m := remarked.FindStringSubmatch(line)
	if m == nil || columns(line) <= width {
		return line
	}
	comment := wrapText(m[3], width-len(m[1])-2, 0)
	return m[1] + "# " + strings.ReplaceAll(comment, "\n", "\n"+m[1]+"# ") + "\n" + m[1] + m[2]
}
