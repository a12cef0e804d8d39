package cli

import (
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/jedib0t/go-pretty/v6/text"
)

// What people see at a terminal while pub sends: what to do, when they type; how far it is, when something else writes and it
// takes a while; and how much it was at the end. A script sees none of it.

const (
	progressAfter = time.Second            // what is done sooner needs no progress
	progressEvery = 200 * time.Millisecond // often enough to look alive
)

// sendingProgress is a line on stderr that says how far sending is. The zero value is one that is not shown.
type sendingProgress struct {
	err   *output
	began time.Time
	bytes atomic.Int64  // handed over so far, in bodies
	acked func() uint64 // messages, so far
	shown bool          // it was at least once; to be read when it has ended

	stop, stopped chan struct{} // nil: it is not shown
}

// start shows the line from a while on, until end. acked is asked from another goroutine.
func (p *sendingProgress) start(err *output, acked func() uint64) {
	p.err, p.acked, p.began = err, acked, time.Now()
	p.stop, p.stopped = make(chan struct{}), make(chan struct{})
	go p.run()
}

// run draws the line until it is told to stop, and then removes it.
func (p *sendingProgress) run() {
	defer close(p.stopped)
	for wait := progressAfter; ; wait = progressEvery {
		select {
		case <-p.stop:
			p.err.setStatus("")
			return
		case <-time.After(wait):
		}
		if foreground(p.err.raw) { // else the line is a shell's by now
			p.shown = true
			p.err.setStatus(p.line(time.Since(p.began)))
		}
	}
}

// line says how far it is after so long.
func (p *sendingProgress) line(after time.Duration) string {
	acked := p.acked()
	rate := int64(float64(acked) / after.Seconds())
	return english.Plural(int(acked), "message", "") + " acknowledged, " + humanize.Comma(rate) + "/s, " + humanize.IBytes(uint64(p.bytes.Load())) + " read"
}

// end removes the line, if there is one.
func (p *sendingProgress) end() {
	if p.stop != nil {
		close(p.stop)
		<-p.stopped
	}
}

// setStatus shows a line below all that is printed, in the place of the one before; empty: none any more. It is for a
// terminal alone.
func (o *output) setStatus(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clearStatus()
	o.fit()
	o.status = line
	o.drawStatus()
	o.Flush()
}

// clearStatus removes the line of setStatus, for what is printed in its place.
func (o *output) clearStatus() {
	if o.status != "" {
		_, _ = o.WriteString("\r\x1b[K") // a failed write is kept by the buffer
	}
}

// drawStatus shows the line again. One that is wider than the terminal could not be removed.
func (o *output) drawStatus() {
	line := o.status
	if o.width > 1 {
		line = text.Trim(line, o.width-1)
	}
	_, _ = o.WriteString(line) // a failed write is kept by the buffer
}

// tellTyped says what to do to who types what is sent.
func (p *pubCommand) tellTyped() {
	switch {
	case p.whole:
		p.a.notice("one message of as many lines as it takes; ^D ends")
	case p.null:
		p.a.notice("messages end with NUL; ^D ends")
	default:
		p.a.notice("a message a line; ^D ends")
	}
}
