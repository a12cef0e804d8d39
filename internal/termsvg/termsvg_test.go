package termsvg

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// String writes a piece as "row:column+columns text", and its style if it has one.
func (p Piece) String() string {
	style := strings.Trim(strings.Replace(fmt.Sprintf("%+v", p.Style), "Style", "", 1), "{}")
	if p.Style == (Style{}) {
		style = ""
	} else {
		style = " {" + style + "}"
	}
	return fmt.Sprintf("%d:%d+%d %s%s", p.Row, p.Column, p.Columns, p.Text, style)
}

// TestRead: where pieces begin and end, and how they look.
func TestRead(t *testing.T) {
	plain := func(change func(s *Style)) (s Style) {
		change(&s)
		return s
	}
	red, blue := palette[1], palette[12]
	for _, c := range []struct {
		screen string
		want   []Piece
	}{
		{"", nil},
		{"one two\nthree", []Piece{{"one two", 0, 0, 7, Style{}}, {"three", 1, 0, 5, Style{}}}},
		// A gap parts pieces, and is as wide as its columns are; what a line ends with is nothing.
		{"  a  b   c ", []Piece{{"a", 0, 2, 1, Style{}}, {"b", 0, 5, 1, Style{}}, {"c", 0, 9, 1, Style{}}}},
		// Wide characters take two columns.
		{"日本 x", []Piece{{"日本 x", 0, 0, 6, Style{}}}},
		{"e\u0301 – ✓", []Piece{{"e\u0301 – ✓", 0, 0, 5, Style{}}}},
		// A style parts pieces, goes on over the end of a line, and ends when it is said.
		{"a\x1b[31mb\nc\x1b[0md", []Piece{
			{"a", 0, 0, 1, Style{}}, {"b", 0, 1, 1, Style{Color: red}}, {"c", 1, 0, 1, Style{Color: red}}, {"d", 1, 1, 1, Style{}},
		}},
		{"\x1b[1;94;41mx\x1b[22;39;49my", []Piece{{"x", 0, 0, 1, Style{Color: blue, Background: red, Bold: true}}, {"y", 0, 1, 1, Style{}}}},
		{"\x1b[97;107mx\x1b[my", []Piece{{"x", 0, 0, 1, Style{Color: palette[15], Background: palette[15]}}, {"y", 0, 1, 1, Style{}}}},
		{"\x1b[38;5;9mx\x1b[38;5;196my\x1b[38;2;1;2;3;48;5;12mz", []Piece{
			{"x", 0, 0, 1, Style{Color: palette[9]}}, {"y", 0, 1, 1, Style{Color: "#ff0000"}}, {"z", 0, 2, 1, Style{Color: "#010203", Background: blue}},
		}},
		{"\x1b[2mx\x1b[22;3my\x1b[23;4mz\x1b[24m-", []Piece{
			{"x", 0, 0, 1, plain(func(s *Style) { s.Faint = true })}, {"y", 0, 1, 1, plain(func(s *Style) { s.Italic = true })},
			{"z", 0, 2, 1, plain(func(s *Style) { s.Underline = true })}, {"-", 0, 3, 1, Style{}},
		}},
		// Spaces that are seen are a piece.
		{"\x1b[7m  a  \x1b[27m b", []Piece{{"  a  ", 0, 0, 5, Style{Reverse: true}}, {"b", 0, 6, 1, Style{}}}},
		// What is no style is passed over.
		{"a\x1b]0;title\x07\x1b[2Kb\x1b[?25l", []Piece{{"ab", 0, 0, 2, Style{}}}},
	} {
		if got := Read(c.screen); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v instead of %v", c.screen, got, c.want)
		}
	}
}

// TestDraw: a drawing is a document of its own in which every piece is as wide as its columns, and nothing that is shown
// is taken for markup.
func TestDraw(t *testing.T) {
	screen := "\x1b[1;4m<a> & b\x1b[0m\n  日本\x1b[7m x \x1b[27;2;3;41mf\x1b[0m"
	raw, err := Window{Title: `"t" & <u>`, Columns: 10, Screen: Read(screen)}.Draw()
	if err != nil {
		t.Fatal(err)
	}
	var d drawing
	if err := xml.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	if d.XMLName.Space != "http://www.w3.org/2000/svg" || d.Title != `"t" & <u>` || d.Width != "116" || d.Height != "90" || len(d.Circles) != 3 {
		t.Errorf("%+v", d)
	}
	var got []string
	for _, p := range d.Texts {
		got = append(got, fmt.Sprintf("%s,%s %s %q %s%s%s%s%s", p.X, p.Y, p.Length, p.Text, p.Weight, p.Slant, p.Decoration, p.Opacity, p.Fill))
	}
	want := []string{
		`58,23  "\"t\" & <u>" ` + titleColor, `16,50 58.8 "<a>\u00a0&\u00a0b" boldunderline`, `32.8,69 33.6 "日本" `, `66.4,69 25.2 "\u00a0x\u00a0" ` + windowColor, `91.6,69 8.4 "f" italic0.6`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("the text is\n%s\ninstead of\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(d.Rects) != 3 || d.Rects[1].Fill != textColor || d.Rects[1].Width != "25.2" || d.Rects[2].Fill != palette[1] {
		t.Errorf("behind it is %+v", d.Rects)
	}
}

// TestWide: a window is as wide as what it shows.
func TestWide(t *testing.T) {
	raw, err := Window{Columns: 1, Screen: Read(strings.Repeat("x", 100))}.Draw()
	if err != nil || !strings.Contains(string(raw), `width="872"`) {
		t.Errorf("%v %.200s", err, raw)
	}
}
