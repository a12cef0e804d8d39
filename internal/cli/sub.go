package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

// sub: a subscription is read until the end that the flags name, and each message is shown (message.go). What is missing
// or wrong is told by tellNotice, beside.

// subCommand is sub and its flags.
type subCommand struct {
	a *app
	messageFlags
	// Where to begin: at most one of these is given, and none means onlyNew.
	all, onlyNew bool
	last         int
	since        time.Time
	// Where to end: at the end of what is stored; after so many messages, if count is not 0; after so long without one,
	// if wait is not 0.
	end   bool
	count int
	wait  time.Duration
	// queue is the group of readers that share the messages, so that each goes to one of them; empty: none.
	queue string
}

// newSub makes sub.
func newSub(a *app) *cobra.Command {
	s := &subCommand{a: a, messageFlags: messageFlags{page: &page{}}}
	c := &cobra.Command{
		Use: "sub ROOM|PATTERN…", Short: "Read messages", Args: cobra.MinimumNArgs(1), ValidArgsFunction: completer{a}.rooms,
		Long: "Read the messages of rooms as they come. A pattern (ops.>) means every room of mine that matches,\nalso ones I am invited to later. To a terminal: time, sender and body, and a line\nwhere what was stored ends and what comes begins; else the body and a newline.\nWith -o json a line for each message, with body, or body_base64 if that is not UTF-8; \"unsure\" says that it may lack\nits beginning.\n\nAlso with --raw a message is followed by a newline, or with --null by NUL. To get back one exactly as it was:\n-o json | jq -r '.body_base64 // (.body | @base64)' | base64 -d",
		Example: `  unibus sub 'ops.>' | grep -i error
  unibus sub ops.alerts --since 24h --end -o json | jq -r .name
  unibus sub 'ops.>' --template '{{.subject}} {{.name}}: {{.body}}'
  unibus sub ops.alerts --since 24h --end --format '%T %n %s\n'
  unibus sub files --last 1 --end -o json |
    jq -r '.body_base64 // (.body | @base64)' | base64 -d >file`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := s.options()
			if err != nil {
				return err
			}
			s.several = len(args) > 1 || strings.ContainsAny(args[0], "*>")
			return a.with(cmd.Context(), func(c *unibus.Client) error {
				return whileRead(cmd.Context(), a.out, func(ctx context.Context) error { return s.run(ctx, c, args, o) })
			}, args...)
		},
	}
	fs := c.Flags()
	fs.BoolVar(&s.onlyNew, "new", false, "begin with what comes from now on (the default)")
	fs.BoolVar(&s.all, "all", false, "begin with the first message stored")
	fs.Var(newValue(&s.last, parseCount), "last", "begin with the last `N` messages stored in each room")
	defineSince(c, &s.since, "begin so long ago (24h, 7d), or at a `TIME` (14:00, yesterday)")
	fs.BoolVar(&s.end, "end", false, "end when everything stored has been read")
	fs.Var(newValue(&s.count, parseCount), "count", "end after `N` messages")
	fs.Var(newValue(&s.wait, parsePositive), "wait", "end after so long without a message")
	fs.BoolVar(&s.raw, "raw", false, "bodies as they are, to a terminal too, each followed by a newline")
	fs.BoolVar(&s.null, "null", false, "end bodies with NUL instead of newline")
	fs.BoolVar(&s.headers, "headers", false, "show headers: a line each and an empty line before the body; at a terminal below it")
	fs.Var(newValue(&s.template, parseTemplate), "template", "write each message as a Go `TEMPLATE` says, over the fields that JSON has: '{{.time}} {{.name}}: {{.body}}'")
	fs.Var(newValue(&s.format, parseFormat), "format", "write each message as `FORMAT` says, and nothing after it, as kcat's -f does: "+formatFieldNames+"; "+formatEscapeNames)
	fs.StringVar(&s.queue, "queue", "", "share the messages with other readers of the queue `GROUP`")
	return c
}

// options are what the flags say where to begin and to end.
func (s *subCommand) options() (unibus.SubscribeOptions, error) {
	o := unibus.SubscribeOptions{All: s.all, Last: s.last, Since: s.since, End: s.end, Queue: s.queue, Parts: true, Notice: s.a.tellNotice}
	// Two of them would contradict each other, and none is as good as --new.
	var starts []string
	for _, start := range []struct {
		flag  string
		given bool
	}{{"new", s.onlyNew}, {"all", s.all}, {"last", s.last > 0}, {"since", !s.since.IsZero()}} {
		if start.given {
			starts = append(starts, start.flag)
		}
	}
	if len(starts) > 1 { // the last says the most
		return o, superfluous(strings.Join(starts[:len(starts)-1], ","), "--new, --all, --last and --since: one of them")
	}
	if err := s.checkForm(); err != nil {
		return o, err
	}
	if s.queue != "" && (s.all || s.last > 0 || !s.since.IsZero() || s.end) {
		return o, superfluous("all,last,since,end", "--queue shares new messages: leave out --all, --last, --since and --end")
	}
	if len(starts) > 0 && !s.onlyNew && !s.end && s.forPeople(s.a.out) { // else there is nothing that it would be set off from
		o.CaughtUp = s.showLive
	}
	return o, nil
}

// showLive sets off what comes from what was there.
func (s *subCommand) showLive() {
	s.a.out.rule("live")
	_ = s.a.out.Flush() // a failed write is kept by the buffer, and returned with the next message
}

// checkForm refuses what would have messages written in two ways at once.
func (s *subCommand) checkForm() error {
	switch {
	case s.template != nil && s.a.out.json:
		return s.orJSON("template")
	case s.format != nil && s.template != nil:
		return superfluous("template", "--format or --template, not both")
	case s.format != nil && s.a.out.json:
		return s.orJSON("format")
	case s.format != nil && s.null:
		return superfluous("null", `--format says itself what a message ends with: \0 instead of --null`)
	case s.format != nil && s.headers:
		return superfluous("headers", "--format says itself where headers stand: %%h instead of --headers")
	}
	return nil
}

// orJSON refuses a flag that says how messages are written beside JSON; where that is a setting made elsewhere, the flag is
// what can be left out.
func (s *subCommand) orJSON(flag string) error {
	extra := "output"
	if !given(s.a.cmd.Flags().Lookup(extra)) {
		extra = flag
	}
	return superfluous(extra, "--%s or -o json, not both", flag)
}

// run reads until the end that the flags name.
func (s *subCommand) run(ctx context.Context, c *unibus.Client, names []string, o unibus.SubscribeOptions) error {
	messages, err := c.Subscribe(ctx, names, o)
	if errors.Is(err, unibus.ErrInvalid) {
		for _, name := range names {
			if strings.ContainsAny(name, "*>") && likePattern(name) != name {
				return hinted(err, hintPattern(name))
			}
		}
	}
	if err != nil {
		return err
	}
	if s.end {
		s.tellNothingStored(ctx, c, names)
	} else {
		s.a.notice("reading %s", strings.Join(names, ", "))
	}
	defer context.AfterFunc(ctx, func() { _ = messages.Close() })() // the error is that of the loop below
	idle := s.closeWhenIdle(messages)
	defer idle.stop()
	// Messages are printed as they come, and go out when none follows at once: a pipe gets them in large pieces, a person
	// without delay.
	n := 0
	for m, err := range messages.Messages() {
		if err != nil {
			return err
		}
		idle.reset()
		if err := s.a.showMessage(&m, s.messageFlags); err != nil {
			return err
		}
		if n++; n == s.count {
			break
		}
		if !messages.Waiting() { // what follows at once goes out together
			if err := s.a.out.Flush(); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(s.a.out.Flush(), messages.Close()); err != nil {
		return err
	}
	if s.a.interrupted() {
		s.a.endLine()
		s.a.notice("%s", english.Plural(n, "message", ""))
		return ctx.Err()
	}
	return s.checkComplete(n, idle.ended())
}

// checkComplete fails when less was read than the flags ask for, after nothing had come for a while; n messages were read.
func (s *subCommand) checkComplete(n int, idled bool) error {
	switch {
	case idled && n < s.count:
		return fmt.Errorf("%w: %d of %s came, and none for %s", unibus.ErrUnavailable, n, english.Plural(s.count, "message", ""), s.wait)
	case idled && s.end: // what is stored was not read to its end
		return fmt.Errorf("%w: %s came, and none for %s, before everything stored was read", unibus.ErrUnavailable, english.Plural(n, "message", ""), s.wait)
	}
	return nil
}

// idleTimer ends a subscription after a while without a message; without a wait it does nothing.
type idleTimer struct {
	wait  time.Duration
	timer *time.Timer // nil without a wait
	fired atomic.Bool // set by the timer's own goroutine
}

// closeWhenIdle starts the timer of --wait. With --end the subscription is closed, since the rest of what is stored did not
// come; without, it is finished, so that messages that have come and wait behind a gap are still given.
func (s *subCommand) closeWhenIdle(messages *unibus.Subscription) *idleTimer {
	t := &idleTimer{wait: s.wait}
	if s.wait == 0 {
		return t
	}
	t.timer = time.AfterFunc(s.wait, func() {
		t.fired.Store(true)
		if s.end {
			_ = messages.Close() // the error is that of the loop that reads
		} else {
			messages.Finish()
		}
	})
	return t
}

// reset begins the wait again.
func (t *idleTimer) reset() {
	if t.timer != nil {
		t.timer.Reset(t.wait)
	}
}

// stop ends the timer without ending the subscription.
func (t *idleTimer) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

// ended reports whether the wait was over before the subscription ended otherwise.
func (t *idleTimer) ended() bool { return t.fired.Load() }

// tellNothingStored says, for a command that reads to the end of what is stored, when it will show nothing, and why.
func (s *subCommand) tellNothingStored(ctx context.Context, c *unibus.Client, names []string) {
	if !s.all && s.last == 0 && s.since.IsZero() {
		s.a.notice("nothing stored was asked for: add --all, --last N or --since TIME")
		return
	}
	for _, name := range names {
		if strings.ContainsAny(name, "*>") {
			continue // of several rooms
		}
		if r, err := c.Room(ctx, name); err == nil && !r.Info().Policy.Stored() { // an error is the reading's to tell
			s.a.notice("%s stores nothing: there is no past to read", r.Subject())
		}
	}
}
