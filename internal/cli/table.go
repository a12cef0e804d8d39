package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Tables: aligned columns, each as wide as its widest cell. On a terminal that is too narrow for that, the widest columns
// are wrapped until every line fits: between words as long as that is enough, then within them. Ids, keys and times are never
// broken. Where even that does not fit, each row becomes lines of a name and a value.

const (
	columnGap = 2 // columns between two columns of a table
	closeGap  = 1 // and where words would be broken otherwise
	minColumn = 6 // how narrow a column may become, if its header is no wider
)

// grid is a table whose rows may come one after another: it is as wide as the rows that have come ask for, and has its
// header above the first.
type grid struct {
	o      *output
	header []string // nil: none
	began  bool
	// The columns that cells take, those of the longest word in them, and of what is never broken.
	widths, words, whole []int
}

// newGrid begins a table.
func newGrid(o *output, header []string) *grid { return &grid{o: o, header: header} }

// table prints a table; without rows nothing, not even a header.
func (o *output) table(header []string, rows [][]string) { newGrid(o, header).print(rows) }

// pairs prints names and values, a pair a line.
func (o *output) pairs(pairs ...string) {
	var rows [][]string
	for i := 0; i+1 < len(pairs); i += 2 {
		rows = append(rows, pairs[i:i+2])
	}
	o.table(nil, rows)
}

// print adds rows. Cells are made safe to look at.
func (g *grid) print(rows [][]string) {
	if len(rows) == 0 {
		return
	}
	shown := make([][]string, len(rows))
	for i, row := range rows {
		shown[i] = make([]string, len(row))
		for j, cell := range row {
			if shown[i][j] = visible(cell); cell == "" {
				shown[i][j] = "-"
			}
		}
	}
	g.measure(shown)
	widths, gap, fits := g.fit()
	if fits || g.header == nil {
		g.aligned(shown, widths, gap)
	} else {
		g.stacked(shown)
	}
	g.began = true
}

// measure takes note of how wide cells are.
func (g *grid) measure(rows [][]string) {
	if g.widths == nil {
		n := len(rows[0])
		g.widths, g.words, g.whole = make([]int, n), make([]int, n), make([]int, n)
		for i, name := range g.header {
			w := columns(name)
			g.widths[i], g.words[i], g.whole[i] = w, w, w
		}
	}
	for _, row := range rows {
		for i, cell := range row {
			g.widths[i] = max(g.widths[i], columns(cell))
			for _, word := range strings.Fields(cell) {
				w := columns(word)
				g.words[i] = max(g.words[i], w)
				if !breakable(word) {
					g.whole[i] = max(g.whole[i], w)
				}
			}
		}
	}
}

// columns is how many columns a terminal shows a text in.
func columns(s string) int { return text.StringWidthWithoutEscSequences(s) }

// copied matches what is read or copied as a whole: a key, an id, a hash, a time.
var copied = regexp.MustCompile(`^\(?(U[A-Z2-7]{55}|[a-z2-7]{32}|[0-9a-f]{64}|[0-9]{4}(-[0-9]{2}){2}(T[0-9:.]+Z)?)\)?$`)

// breakable reports whether a word may be broken.
func breakable(word string) bool { return !copied.MatchString(word) }

// fit narrows the widest columns until a line fits the terminal, and reports whether it does: down to their longest words
// first, closer together if that is enough, and else down to what is never broken. Where it does not, the widths
// are those of names and values.
func (g *grid) fit() (widths []int, gap int, fits bool) {
	widths = slices.Clone(g.widths)
	if g.o.width == 0 { // nothing is made to fit
		return widths, columnGap, true
	}
	least := make([]int, len(widths))
	for i := range least {
		least[i] = max(g.whole[i], min(g.words[i], minColumn))
	}
	room := func(gap int) int { return g.o.width - gap*(len(widths)-1) }
	for _, try := range []struct {
		least []int
		gap   int
	}{{g.words, columnGap}, {g.words, closeGap}, {least, columnGap}} {
		if copy(widths, g.widths); narrow(widths, try.least, room(try.gap)) {
			return widths, try.gap, true
		}
	}
	if g.header == nil { // names and values: what is never broken goes beyond the edge, alone
		last := len(widths) - 1
		copy(widths, g.widths)
		left := room(columnGap)
		for _, w := range widths[:last] {
			left -= w
		}
		widths[last] = max(left, minWrapped)
	}
	return widths, columnGap, false
}

// narrow takes from the widest of some widths, again and again, until they fit a room together. None becomes less than its
// least; it reports whether they fit.
func narrow(widths, least []int, room int) bool {
	over := -room
	for _, w := range widths {
		over += w
	}
	for ; over > 0; over-- {
		widest := -1
		for i, w := range widths {
			if w > least[i] && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		widths[widest]--
	}
	return true
}

// aligned prints rows below each other, in columns of these widths, with a gap between two of them.
func (g *grid) aligned(rows [][]string, widths []int, gap int) {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", strings.Repeat(" ", gap)
	t.SetStyle(style)
	config := make([]table.ColumnConfig, len(widths))
	for i, w := range widths {
		config[i] = table.ColumnConfig{Number: i + 1, WidthMin: w, WidthMax: w, WidthMaxEnforcer: wrapCell}
	}
	t.SetColumnConfigs(config)
	head := g.header != nil && !g.began
	if head {
		rows = append([][]string{g.header}, rows...)
	}
	for _, row := range rows {
		cells := make(table.Row, len(row))
		for i, cell := range row {
			cells[i] = cell
		}
		t.AppendRow(cells)
	}
	for line := range strings.Lines(t.Render()) {
		line = strings.TrimRight(line, " \n")
		if head && !g.o.plain {
			line = text.Bold.Sprint(line)
		}
		head = false // a header is one line: no column becomes narrower than that
		fmt.Fprintln(g.o, line)
	}
}

// stacked prints each row as lines of a name and a value, with a line between two rows.
func (g *grid) stacked(rows [][]string) {
	for i, row := range rows {
		if i > 0 || g.began {
			fmt.Fprintln(g.o)
		}
		pairs := make([]string, 0, 2*len(row))
		for j, cell := range row {
			pairs = append(pairs, strings.ToLower(g.header[j]), cell)
		}
		g.o.pairs(pairs...)
	}
}

// wrapCell breaks a cell into lines of a width: between words, and within those that are wider, if possible where one
// would pause in reading it.
func wrapCell(cell string, width int) string {
	if columns(cell) <= width {
		return cell
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(cell) {
		if line != "" && columns(line)+1+columns(word) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		for columns(word) > width && breakable(word) {
			n := breakAt(word, width)
			lines, word = append(lines, word[:n]), word[n:]
		}
		line = word
	}
	return strings.Join(append(lines, line), "\n")
}

// breakAt is how many bytes of a word that is too wide stand before the break: at least one character.
func breakAt(word string, width int) int {
	used, last, pause := 0, 0, 0
	for i, r := range word {
		w := text.RuneWidth(r)
		if i > 0 && used+w > width {
			break
		}
		used, last = used+w, i+len(string(r))
		if strings.ContainsRune(".-/,:_", r) {
			pause = last
		}
	}
	if pause > last/2 {
		return pause
	}
	return last
}
