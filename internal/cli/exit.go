package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/errlist"
	"github.com/unibus/unibus/internal/redact"
)

// How a run ends: an error becomes one line on stderr, a hint, and an exit code. A command returns its error; only
// what stands here maps its kind to a number. The texts of hints are in hints.go.

// Exit codes, on which scripts depend.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitDenied      = 4
	exitUnavailable = 5
	exitIntegrity   = 6
	exitConflict    = 7
	exitInterrupted = 130
)

// usageError is a command line, or a setting, that makes no sense.
type usageError struct{ error }

// Unwrap lets an error be of its other kinds as well.
func (u usageError) Unwrap() error { return u.error }

// usage makes a usageError.
func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// hintError is an error of the command line with what helps.
type hintError struct {
	error
	hint string
}

// Unwrap lets an error with a hint be of the kinds that it is without.
func (h hintError) Unwrap() error { return h.error }

// hinted adds to an error what helps, one of the texts of hints.go.
func hinted(err error, hint string) error { return hintError{err, hint} }

// exitCode maps an error to the exit code that scripts rely on. The order matters: an error may be of several kinds,
// and what was tampered with is told even when the run was interrupted as well.
func exitCode(ctx context.Context, err error) int {
	var bad usageError
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE): // whoever reads stdout has enough
		return exitDone
	case errors.Is(err, unibus.ErrIntegrity), errors.Is(err, admin.ErrArchive), errors.Is(err, admin.ErrDiffers):
		return exitIntegrity
	// After an interruption all else may be a consequence of it.
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &bad), errors.Is(err, unibus.ErrInvalid):
		return exitUsage
	// A disk that is full matters to a store; of stdout it is only known that it does not take what is written.
	case errors.As(err, new(outputError)):
		return exitFailed
	// A file that may not be read is a denial like any; that of a socket only says that nobody answers.
	case errors.Is(err, unibus.ErrDenied), errors.Is(err, os.ErrPermission) && !errors.Is(err, unibus.ErrUnavailable):
		return exitDenied
	case errors.Is(err, unibus.ErrNotFound):
		return exitNotFound
	case errors.Is(err, unibus.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EROFS):
		return exitUnavailable
	case errors.Is(err, unibus.ErrExists), errors.Is(err, unibus.ErrConflict):
		return exitConflict
	}
	return exitFailed
}

// maxErrors is how many errors are told of: all rooms may be out of reach at once.
const maxErrors = 10

// printError prints an error in one line, and what helps in another; if several things are wrong, each by itself.
func (a *app) printError(err error) {
	many := errlist.Split(err)
	if more := len(many) - maxErrors; more > 0 {
		many = append(many[:maxErrors:maxErrors], fmt.Errorf("and %d more", more))
	}
	for i, one := range many {
		hint := a.hint(one)
		if i+1 < len(many) && a.hint(many[i+1]) == hint { // what helps with several stands below them
			hint = ""
		}
		a.printOne(one, hint)
	}
}

// each gives every error that an error has together something, as a hint; nil stays nil.
func each(err error, give func(error) error) error {
	all := slices.Clone(errlist.Split(err))
	for i, one := range all {
		all[i] = give(one)
	}
	return errlist.Join(all...)
}

// printOne prints an error in a line, and what helps in another.
func (a *app) printOne(err error, hint string) {
	a.endLine()
	// A reader that has enough, and a command that was told to end, are no news to whoever did it; unless something
	// helps, as with what has to be done again.
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, context.Canceled) && hint == "" && a.interrupted() {
		return
	}
	a.err.print("unibus: %s\n", visible(oneLine(redact.Text(err.Error()))))
	if hint != "" {
		a.err.print("hint: %s\n", visible(hint))
	}
}

// oneLine puts the lines of a text one behind the other.
func oneLine(text string) string {
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "; ")
}
