//go:build unix

package main

import (
	"fmt"
	"log"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// findings are the lines that tell of what an honest bus never does. Processes are told to be quiet, so that nothing
// else has this form.
var findings = regexp.MustCompile(`(?m)^unibus: (gap|missing|rolled-back|lost|forged|refused|fork|withheld|key|view|replayed|open|dropped|ahead): `)

// Exit codes (CLI.md).
const (
	done        = 0
	notFound    = 3
	denied      = 4
	unavailable = 5
	integrity   = 6
	conflict    = 7
	interrupted = 130
)

// result is a process that has ended.
type result struct {
	what         string // its name, room and command
	began, ended time.Time
	code         int // -1: killed
	signalled    bool
	out, said    string
	acked        int // lines, of pub
	overdue      bool
}

// judge notes how everything went. It is safe for concurrent use.
type judge struct {
	over    func() bool // the run was interrupted: what fails from now on says nothing
	mu      sync.Mutex
	numbers map[string]*numbers // by who did what
}

// numbers are what one kind of round or fault came to.
type numbers struct {
	times, processes, lines, acknowledged, unavailable, failed int
}

// of are the numbers of an actor; the caller holds the lock.
func (j *judge) of(actor string) *numbers {
	n := j.numbers[actor]
	if n == nil {
		n = &numbers{}
		j.numbers[actor] = n
	}
	return n
}

func (j *judge) count(actor string, f func(n *numbers)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(j.of(actor))
}

// fail notes what is not as promised, and tells it.
func (j *judge) fail(actor, room string, err error) {
	if j.over() {
		return
	}
	j.count(actor, func(n *numbers) { n.failed++ })
	log.Printf("FAILED: %s: %s: %v", actor, room, err)
}

func (j *judge) failures() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, each := range j.numbers {
		n += each.failed
	}
	return n
}

// process judges how a process ended: with 0, or as it may besides, and with 5 only while something happened to the
// servers. It reports whether it ended with 0.
func (j *judge) process(b *bus, actor, room string, r result, besides ...int) bool {
	j.count(actor, func(n *numbers) { n.processes++ })
	troubled := b.troubled(r.began, r.ended)
	ok := r.code == done || r.code == unavailable && troubled || slices.Contains(besides, r.code) ||
		r.signalled && (r.code == interrupted || r.code == -1)
	if r.code == unavailable && troubled {
		j.count(actor, func(n *numbers) { n.unavailable++ })
		tell("%s: %s: %s", actor, r.what, strings.TrimSpace(r.said))
	}
	switch {
	case r.overdue:
		j.fail(actor, room, fmt.Errorf("no end after %v: %s: %s", r.ended.Sub(r.began).Round(time.Second), r.what, r.said))
	case findings.MatchString(r.said) || r.code == integrity:
		j.fail(actor, room, fmt.Errorf("FINDING: %v", r))
	case !ok:
		j.fail(actor, room, fmt.Errorf("servers troubled: %v: %v", troubled, r))
	}
	return r.code == done
}

// String is what a report says of a process.
func (r result) String() string {
	return fmt.Sprintf("%s: exit %d, from %s to %s: %s", r.what, r.code, r.began.Format("15:04:05.000"), r.ended.Format("15:04:05.000"), strings.TrimSpace(r.said))
}

// summary is a table of all numbers.
func (j *judge) summary() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out strings.Builder
	row := "%-24s %7v %10v %9v %13v %12v %7v\n"
	fmt.Fprintf(&out, row, "", "times", "processes", "read", "acknowledged", "unavailable", "failed")
	for _, actor := range slices.Sorted(maps.Keys(j.numbers)) {
		n := j.numbers[actor]
		fmt.Fprintf(&out, row, actor, n.times, n.processes, n.lines, n.acknowledged, n.unavailable, n.failed)
	}
	return out.String()
}
