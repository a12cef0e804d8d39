package termsvg

import (
	"encoding/xml"
	"strconv"
	"strings"
)

// Colours that can be read on the window, which is dark on light pages, too.
const (
	windowColor = "#161b22"
	frameColor  = "#444c56"
	titleColor  = "#8b949e"
	textColor   = "#d1d7e0"
)

// palette are the sixteen colours of a terminal.
var palette = [16]string{
	"#484f58", "#ff7b72", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#b1bac4",
	"#8b949e", "#ffa198", "#7ee787", "#f2cc60", "#a5d6ff", "#e2c5ff", "#b3f0ff", "#f0f6fc",
}

// fonts are those of terminals on the systems there are.
const fonts = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"

// Measures, in pixels.
const (
	columnWidth = 8.4
	rowHeight   = 19
	fontSize    = 14
	baseline    = 14 // of a row, from its top
	margin      = 16
	barHeight   = 36
)

// Window is a screen with a frame around it.
type Window struct {
	Title   string
	Columns int // it is at least so wide
	Screen  []Piece
}

// noBreak is a space that SVG leaves as it is: of others it leaves out those at the ends, and more than one beside each other.
const noBreak = "\u00a0"

// Draw draws a window.
func (w Window) Draw() ([]byte, error) {
	columns, rows := w.Columns, 1
	for _, p := range w.Screen {
		columns, rows = max(columns, p.Column+p.Columns), max(rows, p.Row+1)
	}
	width, height := float64(columns)*columnWidth+2*margin, float64(rows*rowHeight+barHeight+margin)
	d := drawing{
		Width: pixels(width), Height: pixels(height), ViewBox: "0 0 " + pixels(width) + " " + pixels(height), Role: "img", Title: w.Title,
		Fonts: fonts, Size: strconv.Itoa(fontSize), Fill: textColor,
		Rects: []rect{{X: "0.5", Y: "0.5", Width: pixels(width - 1), Height: pixels(height - 1), Radius: "8", Fill: windowColor, Stroke: frameColor}},
		Texts: []text{{X: pixels(width / 2), Y: "23", Anchor: "middle", Fill: titleColor, Text: w.Title}},
	}
	for i := range 3 {
		d.Circles = append(d.Circles, circle{X: pixels(float64(margin + 6 + 18*i)), Y: "18", Radius: "5.5", Fill: frameColor})
	}
	for _, p := range w.Screen {
		d.add(p)
	}
	out, err := xml.MarshalIndent(d, "", " ")
	return append(out, '\n'), err
}

// add draws a piece, and what is behind it.
func (d *drawing) add(p Piece) {
	x, y, width := margin+float64(p.Column)*columnWidth, float64(barHeight+p.Row*rowHeight), pixels(float64(p.Columns)*columnWidth)
	fore, back := p.Style.Color, p.Style.Background
	if p.Style.Reverse {
		fore, back = or(back, windowColor), or(fore, textColor)
	}
	if back != "" {
		d.Rects = append(d.Rects, rect{X: pixels(x), Y: pixels(y), Width: width, Height: strconv.Itoa(rowHeight), Fill: back})
	}
	t := text{X: pixels(x), Y: pixels(y + baseline), Length: width, Adjust: "spacingAndGlyphs", Fill: fore, Text: strings.ReplaceAll(p.Text, " ", noBreak)}
	if p.Style.Bold {
		t.Weight = "bold"
	}
	if p.Style.Faint {
		t.Opacity = "0.6"
	}
	if p.Style.Italic {
		t.Slant = "italic"
	}
	if p.Style.Underline {
		t.Decoration = "underline"
	}
	d.Texts = append(d.Texts, t)
}

// or is a colour, or another where there is none.
func or(c, otherwise string) string {
	if c == "" {
		return otherwise
	}
	return c
}

// pixels writes a measure, to a tenth.
func pixels(n float64) string { return strconv.FormatFloat(float64(int(n*10+0.5))/10, 'f', -1, 64) }

// drawing is the document: what stands further down is drawn over what stands before.
type drawing struct {
	XMLName xml.Name `xml:"http://www.w3.org/2000/svg svg"`
	Width   string   `xml:"width,attr"`
	Height  string   `xml:"height,attr"`
	ViewBox string   `xml:"viewBox,attr"`
	Role    string   `xml:"role,attr"`
	Fonts   string   `xml:"font-family,attr"`
	Size    string   `xml:"font-size,attr"`
	Fill    string   `xml:"fill,attr"` // of text that has none
	Title   string   `xml:"title"`
	Rects   []rect   `xml:"rect"`
	Circles []circle `xml:"circle"`
	Texts   []text   `xml:"text"`
}

// rect is the window, or what is behind a piece.
type rect struct {
	X      string `xml:"x,attr"`
	Y      string `xml:"y,attr"`
	Width  string `xml:"width,attr"`
	Height string `xml:"height,attr"`
	Radius string `xml:"rx,attr,omitempty"`
	Fill   string `xml:"fill,attr"`
	Stroke string `xml:"stroke,attr,omitempty"`
}

// circle is one of the three at the top of a window.
type circle struct {
	X      string `xml:"cx,attr"`
	Y      string `xml:"cy,attr"`
	Radius string `xml:"r,attr"`
	Fill   string `xml:"fill,attr"`
}

// text is a piece, or the title.
type text struct {
	X          string `xml:"x,attr"`
	Y          string `xml:"y,attr"`
	Length     string `xml:"textLength,attr,omitempty"`
	Adjust     string `xml:"lengthAdjust,attr,omitempty"`
	Anchor     string `xml:"text-anchor,attr,omitempty"`
	Weight     string `xml:"font-weight,attr,omitempty"`
	Slant      string `xml:"font-style,attr,omitempty"`
	Decoration string `xml:"text-decoration,attr,omitempty"`
	Opacity    string `xml:"opacity,attr,omitempty"`
	Fill       string `xml:"fill,attr,omitempty"`
	Text       string `xml:",chardata"`
}
