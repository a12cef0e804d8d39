package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"unicode/utf16"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/mattn/go-isatty"
	"golang.org/x/term"

	"github.com/unibus/unibus/internal/shown"
)

// This file is how everything is printed: results as JSON or as text, and never anything that a terminal would act on.
// Tables, and how they fit a terminal, are in table.go.

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

// outputError is that of stdout or stderr which could not be written.
type outputError struct{ error }

// Unwrap lets it be of the kind that it is of in any file.
func (e outputError) Unwrap() error { return e.error }

// checkedFile is stdout or stderr; its errors are told from those of other files.
type checkedFile struct{ f *os.File }

// Write writes to the file.
func (c checkedFile) Write(p []byte) (int, error) {
	n, err := c.f.Write(p)
	if err != nil {
		err = outputError{err}
	}
	return n, err
}

// newOutput writes to a file, and finds out whether that is a terminal.
func newOutput(f *os.File) *output {
	t := isTerminal(f)
	o := &output{Writer: bufio.NewWriterSize(checkedFile{f}, 64<<10), raw: f, terminal: t, plain: !t}
	if t {
		o.width, _, _ = term.GetSize(int(f.Fd())) // not known: nothing is made to fit
	}
	return o
}

// whileRead does something that may not write for long, and ends its context when nobody reads what is written any more, as after
// "| head": nobody would notice otherwise. That is the error then.
func whileRead(ctx context.Context, o *output, do func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		if unread(ctx, o.raw) {
			end(syscall.EPIPE)
		}
	})
	err := do(ctx)
	end(nil)
	looking.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, syscall.EPIPE) {
		return cause
	}
	return err
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
		if r == '\n' || !shown.Hidden(r) {
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

// minWrapped is how narrow a text may become that is wrapped beside something.
const minWrapped = 12

// wrapped breaks a text between words, so that it fits the terminal where it begins at a column.
func (o *output) wrapped(s string, column int) string {
	width := o.width - column
	if o.width == 0 || width < minWrapped {
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
