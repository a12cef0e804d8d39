// Package termsvg draws a terminal's screen, text with the escape sequences that colour it, as an SVG picture.
//
// Text stays text. Each piece of it is as wide as its columns are, whatever font there is, so that columns stay columns.
// Read makes pieces of a screen, and Draw draws them; it leaves to others how the screen came to be.
package termsvg

import (
	"fmt"
	"image/color"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Piece is text of one style on one line, without gaps: a gap of two spaces or more, which has to be as wide as its columns,
// lies between two pieces.
type Piece struct {
	Text string
	// Row and Column are where it begins, from 0; Columns how wide it is.
	Row, Column, Columns int
	Style                Style
}

// Style is how text looks. The zero value is that of a terminal where nothing was said.
type Style struct {
	Color, Background                       string // as #rrggbb; empty: the terminal's own
	Bold, Faint, Italic, Underline, Reverse bool
}

// Read makes pieces of a screen. Sequences other than those that colour text are passed over.
func Read(screen string) []Piece {
	r := reader{parser: ansi.NewParser()}
	for row, line := range strings.Split(screen, "\n") {
		r.row, r.column = row, 0
		r.line(line)
		r.end()
	}
	return r.pieces
}

// reader makes pieces, line by line. A style goes on over the end of a line.
type reader struct {
	parser      *ansi.Parser
	style       Style
	row, column int
	open        Piece // grows; empty: none
	pieces      []Piece
}

// line reads a line.
func (r *reader) line(line string) {
	var state byte
	for line != "" {
		text, width, n, next := ansi.DecodeSequence(line, state, r.parser)
		line, state = line[n:], next
		switch {
		case width > 0:
			r.take(text, width)
		case strings.HasPrefix(text, "\x1b[") && r.parser.Command() == 'm':
			r.end()
			r.style = restyled(r.style, r.parser.Params())
		case r.open.Text != "" && combines(text):
			r.open.Text += text
		}
	}
}

// combines reports whether a text changes the character before it, and has no column of its own.
func combines(text string) bool {
	first, _ := utf8.DecodeRuneInString(text)
	return unicode.In(first, unicode.M, unicode.Cf)
}

// take takes one character of a width.
func (r *reader) take(text string, width int) {
	// A space may be a part of a gap; one that has a colour of its own is seen.
	if blank := text == " " && !r.style.filled(); blank && (r.open.Text == "" || strings.HasSuffix(r.open.Text, " ")) {
		r.end()
		r.column++
		return
	}
	if r.open.Text == "" {
		r.open = Piece{Row: r.row, Column: r.column, Style: r.style}
	}
	r.open.Text += text
	r.open.Columns += width
	r.column += width
}

// end ends the piece that grows.
func (r *reader) end() {
	p := r.open
	r.open = Piece{}
	if !p.Style.filled() {
		trimmed := strings.TrimRight(p.Text, " ")
		p.Columns -= len(p.Text) - len(trimmed)
		p.Text = trimmed
	}
	if p.Text != "" {
		r.pieces = append(r.pieces, p)
	}
}

// filled reports whether spaces of the style are seen.
func (s Style) filled() bool { return s.Background != "" || s.Reverse || s.Underline }

// restyled is a style after a sequence (ECMA-48, SGR).
func restyled(s Style, params ansi.Params) Style {
	if len(params) == 0 {
		return Style{}
	}
	for i := 0; i < len(params); i++ {
		n := params[i].Param(0)
		if n == 38 || n == 48 {
			var c color.Color
			if read := ansi.ReadStyleColor(params[i:], &c); read > 0 && c != nil {
				i += read - 1
				if n == 38 {
					s.Color = hex(c)
				} else {
					s.Background = hex(c)
				}
			}
			continue
		}
		s = s.with(n)
	}
	return s
}

// with is a style after one number of a sequence.
func (s Style) with(n int) Style {
	switch {
	case n == 0:
		return Style{}
	case n == 1:
		s.Bold = true
	case n == 2:
		s.Faint = true
	case n == 3, n == 23:
		s.Italic = n == 3
	case n == 4, n == 24:
		s.Underline = n == 4
	case n == 7, n == 27:
		s.Reverse = n == 7
	case n == 22:
		s.Bold, s.Faint = false, false
	case 30 <= n && n <= 37:
		s.Color = palette[n-30]
	case 90 <= n && n <= 97:
		s.Color = palette[n-90+8]
	case 40 <= n && n <= 47:
		s.Background = palette[n-40]
	case 100 <= n && n <= 107:
		s.Background = palette[n-100+8]
	case n == 39:
		s.Color = ""
	case n == 49:
		s.Background = ""
	}
	return s
}

// hex writes a colour. The first sixteen of a terminal are those of the palette.
func hex(c color.Color) string {
	if i, ok := c.(ansi.BasicColor); ok {
		return palette[i]
	}
	if i, ok := c.(ansi.IndexedColor); ok && int(i) < len(palette) {
		return palette[i]
	}
	r, g, b, _ := c.RGBA()
	return fmt.Sprintf("#%02x%02x%02x", r>>8, g>>8, b>>8)
}
