package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"unicode/utf16"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/mattn/go-isatty"
	"golang.org/x/term"

	"github.com/unibus/unibus/internal/cli/shown"
)

// This file is how everything is printed: results as JSON or as text, tables that fit a terminal, and never anything that a
// terminal would act on.

// output is stdout or stderr: a buffer before a file, which knows whether it is a terminal, how wide, and whether results
// are JSON. A command prints one result with value, or many with encode and Flush.
type output struct {
	*bufio.Writer
	// raw is the file itself, for what draws on a terminal by itself.
	raw *os.File
	// terminal says that a person looks at it; plain, that there is to be no colour.
	terminal, plain bool
	// width is how many columns the terminal has; 0: there is none, or it is not known, and nothing is made to fit.
	width int
	// json says that results are JSON.
	json bool

	mu     sync.Mutex // of print, and status
	status string     // a line below what is printed; see setStatus
}

// print writes and flushes text at once, from any goroutine.
func (o *output) print(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clearStatus()
	fmt.Fprintf(o, format, args...)
	o.drawStatus()
	o.Flush()
}

// newOutput writes to a file, and finds out whether that is a terminal.
func newOutput(f *os.File) *output {
	t := isTerminal(f)
	o := &output{Writer: bufio.NewWriterSize(f, 64<<10), raw: f, terminal: t, plain: !t}
	if t {
		o.width, _, _ = term.GetSize(int(f.Fd())) // not known: nothing is made to fit
	}
	return o
}

// fit finds out anew how wide the terminal is, for what is printed over a long time: people change it meanwhile.
func (o *output) fit() {
	if o.width == 0 {
		return
	}
	if width, _, err := term.GetSize(int(o.raw.Fd())); err == nil {
		o.width = width
	}
}

// isTerminal reports whether a person is at the other end.
func isTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }

// value prints one result: as JSON, or as whatever plain prints.
func (o *output) value(v any, plain func()) error {
	if o.json {
		if err := o.encode(v); err != nil {
			return err
		}
	} else {
		plain()
	}
	return o.Flush()
}

// encode writes a value as a line of JSON. What a terminal would act on is written as escapes, which mean the
// same: JSON itself lets some control characters, and all that reorders text, stand as they are.
func (o *output) encode(v any) error {
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	// Nearly always there is nothing to escape.
	if bytes.IndexFunc(line.Bytes(), func(r rune) bool { return r != '\n' && shown.Hidden(r) }) < 0 {
		_, err := o.Write(line.Bytes())
		return err
	}
	for _, r := range line.String() {
		var err error
		if r == '\n' || shown.Hidden(r) {
			_, err = o.WriteRune(r)
		} else {
			for _, u := range utf16.Encode([]rune{r}) {
				_, err = fmt.Fprintf(o, `\u%04x`, u)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// table prints aligned columns. Cells are made safe to look at.
func (o *output) table(header []string, rows [][]string) {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	if !o.plain {
		style.Color.Header = text.Colors{text.Bold}
	}
	t.SetStyle(style)
	cells := func(row []string) table.Row {
		out := make(table.Row, len(row))
		for i, c := range row {
			if c == "" {
				c = "-"
			}
			out[i] = visible(c)
		}
		return out
	}
	if header != nil {
		t.AppendHeader(cells(header))
	}
	for _, row := range rows {
		t.AppendRow(cells(row))
	}
	if width := o.lastWidth(header, rows); width > 0 {
		t.SetColumnConfigs([]table.ColumnConfig{{Number: len(rows[0]), WidthMax: width, WidthMaxEnforcer: wrapCell}})
	}
	for line := range strings.Lines(t.Render()) {
		fmt.Fprintln(o, strings.TrimRight(line, " \n"))
	}
}

// minLastWidth is how narrow the last column of a table may become.
const minLastWidth = 12

// lastWidth is how wide the last column of a table may be so that its lines fit the terminal; 0 when they fit as they are.
func (o *output) lastWidth(header []string, rows [][]string) int {
	if o.width == 0 || header == nil || len(rows) == 0 { // what is shown alone is shown whole
		return 0
	}
	columns := make([]int, len(rows[0]))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			columns[i] = max(columns[i], text.StringWidthWithoutEscSequences(visible(cell)))
		}
	}
	// Only the last column gives way: those before it are names and roles, which are short and have to be read whole.
	others := 0
	for _, w := range columns[:len(columns)-1] {
		others += w + 2
	}
	if others+columns[len(columns)-1] <= o.width {
		return 0
	}
	return max(o.width-others-2, minLastWidth)
}

// wrapped breaks a text between words, so that it fits the terminal where it begins at a column.
func (o *output) wrapped(s string, column int) string {
	width := o.width - column
	if o.width == 0 || width < minLastWidth {
		return s
	}
	return wrapText(s, width, column)
}

// wrapText breaks a text between words into lines of a width, of which all but the first begin at a column.
func wrapText(s string, width, column int) string {
	lines := strings.Split(text.WrapSoft(s, width), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n"+strings.Repeat(" ", column))
}

// wrapCell breaks a cell between words; one that is a single word, as a key, is cut off with a mark instead.
func wrapCell(cell string, width int) string {
	if !strings.Contains(cell, " ") {
		return text.Snip(cell, width, "…")
	}
	return text.WrapSoft(cell, width)
}

// pairs prints names and values, a pair a line.
func (o *output) pairs(pairs ...string) {
	var rows [][]string
	for i := 0; i+1 < len(pairs); i += 2 {
		rows = append(rows, pairs[i:i+2])
	}
	o.table(nil, rows)
}
