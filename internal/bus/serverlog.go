package bus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/unibus/unibus/internal/redact"
)

// This file passes on what the embedded server logs (serverLog), and reads in it what the machine lacks (signs).

// signs are what a server's log says of its machine. The server has no other way to tell.
type signs struct {
	stuck   atomic.Bool            // something could not be written since JetStream was last started
	noFiles atomic.Bool            // a connection could not be accepted, or a file not opened
	started atomic.Bool            // the server listens
	fatal   atomic.Pointer[string] // why it never will; nil: nothing is known
	trouble chan struct{}
}

func newSigns() *signs { return &signs{trouble: make(chan struct{}, 1)} }

// read looks at a line of the log.
func (s *signs) read(line string) {
	noSpace := strings.Contains(line, "no space left") || strings.HasPrefix(line, "JetStream out of ")
	// A stream that is stuck repeats, with each message that it does not keep, what it met once.
	noFiles := strings.Contains(line, "too many open files") && !strings.Contains(line, "failed to store a msg")
	if !noSpace && !noFiles {
		return
	}
	if noSpace || strings.Contains(line, "Critical write error") {
		s.stuck.Store(true)
	}
	if noFiles {
		s.noFiles.Store(true)
	}
	select {
	case s.trouble <- struct{}{}:
	default: // whoever looks has not looked yet
	}
}

// serverLog passes on what the NATS server says at the level of its importance.
type serverLog struct {
	log   *slog.Logger
	signs *signs
}

// report passes on what went wrong, and lets whoever watches the machine know of it.
func (l *serverLog) report(level slog.Level, format string, v ...any) {
	line := redact.Text(fmt.Sprintf(format, v...))
	l.signs.read(line)
	l.log.Log(context.Background(), level, line)
}

// Noticef passes on what happens in the ordinary course.
func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }

// Warnf passes on what the server gets over by itself, as much as it knows.
func (l *serverLog) Warnf(format string, v ...any) { l.report(slog.LevelInfo, format, v...) }

// Fatalf logs why the server cannot go on. Whoever starts it is told instead.
func (l *serverLog) Fatalf(format string, v ...any) {
	if l.signs.started.Load() {
		l.report(slog.LevelError, format, v...)
		return
	}
	line := redact.Text(fmt.Sprintf(format, v...))
	l.signs.fatal.CompareAndSwap(nil, &line)
}

// Errorf passes on what went wrong for somebody; most of it is a client's doing.
func (l *serverLog) Errorf(format string, v ...any) { l.report(slog.LevelInfo, format, v...) }

// Debugf is never called: the server is not told to debug.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef is never called, as Debugf.
func (l *serverLog) Tracef(string, ...any) {}
