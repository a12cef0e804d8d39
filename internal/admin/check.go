package admin

import (
	"fmt"
	"time"

	"github.com/unibus/unibus/internal/remedy"
)

// Checks are what doctor prints, a line each. Whoever makes one says what was found and, as a fact, what would help; the
// command line makes words of that. The functions that make checks stand by what they look at: servers.go, machine.go,
// replicas.go, streams.go, kept.go and views.go.

// Outcomes of a check.
const (
	Pass = "pass"
	Warn = "warn"
	Fail = "fail"
)

// Check is one thing that was looked at.
type Check struct {
	Name   string
	Status string // Pass, Warn or Fail
	Detail string // what was found
	Help   remedy.Remedy
}

// Look is how a store is looked at.
type Look struct {
	Repair bool // mend what can be mended
	Served bool // it is certainly the store that the service serves from
	Report func(Check)
}

// check is where checks of a name are reported.
func (l *Look) check(name string) reporter { return reporter{name, l.Report} }

// reporter reports checks under one name.
type reporter struct {
	name   string
	report func(Check)
}

func (r reporter) pass(format string, args ...any) {
	r.report(Check{Name: r.name, Status: Pass, Detail: fmt.Sprintf(format, args...)})
}

func (r reporter) warn(help remedy.Remedy, format string, args ...any) {
	r.report(Check{r.name, Warn, fmt.Sprintf(format, args...), help})
}

func (r reporter) fail(help remedy.Remedy, format string, args ...any) {
	r.report(Check{r.name, Fail, fmt.Sprintf(format, args...), help})
}

// unknown reports that a check could not be made, and why.
func (r reporter) unknown(err error) { r.fail(noHelp, "%v", err) }

// noHelp is for what nothing is known to help with.
var noHelp = remedy.Remedy{}

// help is a remedy that needs no facts.
func help(kind remedy.Kind) remedy.Remedy { return remedy.Remedy{Kind: kind} }

// Clocks may be apart by minutes before tokens suffer from it: checkers allow 5 (SPEC.md §3).
const (
	warnSkew = 5 * time.Second
	maxSkew  = 2 * time.Minute
)

// Clock reports, as the check name, how far another's clock is ahead of this machine's.
func Clock(name, whose string, skew time.Duration, report func(Check)) {
	r := reporter{name, report}
	text := fmt.Sprintf("that of %s is %v from this machine's", whose, skew.Abs().Round(time.Millisecond))
	switch {
	case skew.Abs() > maxSkew:
		r.fail(help(remedy.KeepClocks), "%s: logins will be refused", text)
	case skew.Abs() > warnSkew:
		r.warn(help(remedy.KeepClocks), "%s", text)
	default:
		r.pass("%s at most", text)
	}
}
