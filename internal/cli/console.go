package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"

	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/redact"
)

// console is the person or the script at the other end: stdin, stdout and stderr, what is told to them and what they
// are asked. Results go to out, everything else to err.
type console struct {
	set      *settings // quiet: no notices; yes: the answer to what is asked
	in       *os.File
	out, err *output

	// elsewhere takes notices while the terminal is a full screen; nil: it is none.
	elsewhere func(text string)
}

// notice tells people something, unless they asked for quiet.
func (c *console) notice(format string, args ...any) {
	if c.set.quiet {
		return
	}
	text := redact.Text(fmt.Sprintf(format, args...))
	if c.elsewhere != nil {
		c.elsewhere(text)
		return
	}
	c.err.print("%s\n", visible(text))
}

// interactive reports whether a person is there who can be asked: one who can type, and sees the question.
func (c *console) interactive() bool { return isTerminal(c.in) && c.err.terminal }

// progress shows a bar on a terminal while work is done, and returns the work's error.
func (c *console) progress(what string, work func(admin.Progress) error) error {
	if !c.err.terminal || c.set.quiet {
		return work(func(int64, int64) {})
	}
	w := c.progressWriter()
	t := &progress.Tracker{Message: what}
	w.AppendTracker(t)
	// Drawing has ended before this returns, so that nothing is printed into the bar.
	ended := make(chan struct{})
	go func() { // ends with Stop, which is waited for
		defer close(ended)
		w.Render()
	}()
	err := work(func(done, all int64) {
		t.UpdateTotal(all)
		t.SetValue(min(done, all-1)) // the end is when all is checked
	})
	if err != nil {
		t.MarkAsErrored()
	} else {
		t.MarkAsDone()
	}
	w.Stop()
	<-ended
	return err
}

// progressWriter draws a bar on stderr.
func (c *console) progressWriter() progress.Writer {
	w := progress.NewWriter()
	w.SetOutputWriter(c.err.raw)
	w.SetAutoStop(false)
	w.SetTrackerLength(20) // a line fits 80 columns, or it could not be written over
	w.SetMessageLength(12)
	w.SetUpdateFrequency(100 * time.Millisecond)
	w.SetStyle(progress.StyleBlocks)
	w.Style().Visibility.Value = true
	w.Style().Visibility.ETA = true
	if c.err.plain {
		w.SetStyle(progress.StyleDefault)
	}
	return w
}
