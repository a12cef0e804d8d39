package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

// subFlags are the flags of sub.
type subFlags struct {
	all, fresh, end    bool
	last, count        int
	since              time.Time
	queue              string
	wait               time.Duration
	raw, null, headers bool
	several            bool // rooms, so that their names are worth telling
}

func (a *app) subCmd() *cobra.Command {
	var f subFlags
	c := &cobra.Command{
		Use: "sub ROOM|PATTERN…", Short: "Read messages", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeRooms,
		Long: "Read the messages of rooms as they come. A pattern (ops.>) means every room of mine that matches,\nalso ones I am invited to later. To a terminal: time, sender and body; else the body and a newline.\nWith -o json a line for each message, with body, or body_base64 if that is not UTF-8; \"unsure\" says that it may lack\nits beginning.\n\nAlso with --raw a message is followed by a newline, or with --null by NUL. To get back one exactly as it was:\n-o json | jq -r '.body_base64 // (.body | @base64)' | base64 -d",
		Example: `  unibus sub 'ops.>' | grep -i error
  unibus sub ops.alerts --since 24h --end -o json | jq -r .name
  unibus sub files --last 1 --end -o json | jq -r '.body_base64 // (.body | @base64)' | base64 -d >file`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(a)
			if err != nil {
				return err
			}
			f.several = len(args) > 1 || strings.ContainsAny(args[0], "*>")
			return a.with(cmd.Context(), func(c *unibus.Client) error { return a.subscribe(cmd.Context(), c, args, f, o) }, args...)
		},
	}
	fs := c.Flags()
	fs.BoolVar(&f.fresh, "new", false, "begin with what comes from now on (the default)")
	fs.BoolVar(&f.all, "all", false, "begin with the first message stored")
	fs.Var(newValue(&f.last, count), "last", "begin with the last `N` messages stored")
	fs.Var(newValue(&f.since, since), "since", "begin so long ago (24h, 7d), or at a `TIME`")
	fs.BoolVar(&f.end, "end", false, "end when everything stored has been read")
	fs.Var(newValue(&f.count, count), "count", "end after `N` messages")
	fs.Var(newValue(&f.wait, longer), "wait", "end after so long without a message")
	fs.BoolVar(&f.raw, "raw", false, "bodies as they are, to a terminal too, each followed by a newline")
	fs.BoolVar(&f.null, "null", false, "end bodies with NUL instead of newline")
	fs.BoolVar(&f.headers, "headers", false, "show headers, a line each before the body")
	fs.StringVar(&f.queue, "queue", "", "share the messages with other readers of the queue `GROUP`")
	return c
}

func (f *subFlags) options(a *app) (unibus.SubscribeOptions, error) {
	o := unibus.SubscribeOptions{All: f.all, Last: f.last, Since: f.since, End: f.end, Queue: f.queue, Parts: true, Notice: a.subNotice}
	starts := 0
	for _, given := range []bool{f.fresh, f.all, f.last > 0, !f.since.IsZero()} {
		if given {
			starts++
		}
	}
	if starts > 1 {
		return o, usage("--new, --all, --last and --since: one of them")
	}
	if f.queue != "" && (f.all || f.last > 0 || !f.since.IsZero() || f.end) {
		return o, usage("--queue shares new messages: leave out --all, --last, --since and --end")
	}
	return o, nil
}

// subNotice tells on stderr what is missing or wrong.
func (a *app) subNotice(n unibus.Notice) {
	a.found.note(n)
	if a.out.json && n.Kind == unibus.NoticeGap {
		gap := map[string]any{"stream": n.Stream.String(), "from": n.From, "to": n.To, "room_id": n.Room, "sender": n.Sender}
		line, err := json.Marshal(map[string]any{"gap": gap})
		if err == nil {
			a.err.say("%s\n", line)
		}
		return
	}
	if n.Finding { // not to be silenced
		a.err.say("unibus: %s: %s\n", n.Kind, visible(n.String()))
		return
	}
	a.notice("%s: %s", n.Kind, n)
}

// subscribe reads until the end that the flags name.
func (a *app) subscribe(ctx context.Context, c *unibus.Client, names []string, f subFlags, o unibus.SubscribeOptions) error {
	s, err := c.Subscribe(ctx, names, o)
	if err != nil {
		return err
	}
	if f.end {
		a.nothingStored(ctx, c, names, f)
	} else {
		a.notice("reading %s", strings.Join(names, ", "))
	}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })() // the error is that of the loop below
	var timer *time.Timer
	var idled atomic.Bool
	if f.wait > 0 {
		timer = time.AfterFunc(f.wait, func() {
			idled.Store(true)
			if f.end {
				_ = s.Close() // likewise
			} else {
				s.Finish()
			}
		})
		defer timer.Stop()
	}
	n := 0
	for m, err := range s.Messages() {
		if err != nil {
			return err
		}
		if timer != nil {
			timer.Reset(f.wait)
		}
		if err := a.show(&m, f); err != nil {
			return err
		}
		if n++; n == f.count {
			break
		}
		if !s.Waiting() { // what follows at once goes out together
			if err := a.out.Flush(); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(a.out.Flush(), s.Close()); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch {
	case idled.Load() && n < f.count:
		return fmt.Errorf("%w: %d of %s came, and none for %s", unibus.ErrUnavailable, n, english.Plural(f.count, "message", ""), f.wait)
	case idled.Load() && f.end: // what is stored was not read to its end
		return fmt.Errorf("%w: %s came, and none for %s, before everything stored was read", unibus.ErrUnavailable, english.Plural(n, "message", ""), f.wait)
	}
	return nil
}

// nothingStored says why a reading that ends with what is stored will show nothing.
func (a *app) nothingStored(ctx context.Context, c *unibus.Client, names []string, f subFlags) {
	if !f.all && f.last == 0 && f.since.IsZero() {
		a.notice("nothing stored was asked for: add --all, --last N or --since D")
		return
	}
	for _, name := range names {
		if strings.ContainsAny(name, "*>") {
			continue // of several rooms
		}
		if r, err := c.Room(ctx, name); err == nil && !r.Info().Policy.Stored() { // an error is the reading's to tell
			a.notice("%s stores nothing: there is no past to read", r.Subject())
		}
	}
}

// messageJSON is a message as scripts see it.
type messageJSON struct {
	Room    string              `json:"room_id"`
	Subject string              `json:"subject"`
	Sender  string              `json:"sender"`
	Name    string              `json:"name"`
	Time    time.Time           `json:"time"`
	Epoch   uint32              `json:"epoch"`
	Stream  string              `json:"stream"`
	Counter uint64              `json:"counter"`
	Headers map[string][]string `json:"headers"`
	Body    *string             `json:"body,omitempty"`
	Base64  []byte              `json:"body_base64,omitempty"`
	Former  bool                `json:"former,omitempty"`
	Late    bool                `json:"late,omitempty"`
	Unsure  bool                `json:"unsure,omitempty"`
}

func newMessageJSON(m *unibus.Message) messageJSON {
	j := messageJSON{
		Room: m.Room.String(), Subject: m.Subject, Sender: m.Sender.String(), Name: m.Name, Time: m.Time, Epoch: m.Epoch,
		Stream: m.Stream.String(), Counter: m.Counter, Headers: map[string][]string{}, Former: m.Former, Late: m.Late, Unsure: m.Unsure,
	}
	for _, h := range m.Headers {
		j.Headers[h.Key] = append(j.Headers[h.Key], h.Value)
	}
	if body := string(m.Body); utf8.ValidString(body) {
		j.Body = &body
	} else {
		j.Base64 = m.Body
	}
	return j
}

// unsureSize is from how many bytes on it is likely enough that a message came in several frames, to say so when the
// first may be missing.
const unsureSize = 64 << 10

// show prints one message; it goes out with the next flush.
func (a *app) show(m *unibus.Message, f subFlags) error {
	if m.Unsure && m.Size() >= unsureSize {
		a.notice("%s: the frame before a message of %s by %s was not read: that may be only its end", visible(m.Subject), humanize.IBytes(uint64(m.Size())), visible(m.Name))
	}
	lines := !a.out.json && (!a.out.terminal || f.raw || f.null)
	if !lines && m.Parts != nil {
		m.Body, m.Parts = slices.Concat(m.Parts...), nil
	}
	if a.out.json {
		return a.out.encode(newMessageJSON(m))
	}
	end := byte('\n')
	if f.null {
		end = 0
	}
	if lines {
		if f.headers {
			for _, h := range m.Headers {
				fmt.Fprintf(a.out, "%s: %s\n", visible(h.Key), visible(h.Value))
			}
		}
		for _, part := range append(m.Parts, m.Body) {
			_, _ = a.out.Write(part) // a failed write is kept by the buffer, and returned below
		}
		return a.out.WriteByte(end)
	}
	paint := func(c text.Color, s string) string {
		if a.out.plain {
			return s
		}
		return c.Sprint(s)
	}
	line := paint(text.FgHiBlack, m.Time.Local().Format(time.TimeOnly)) + " "
	if f.several {
		line += paint(text.FgCyan, visible(m.Subject)) + " "
	}
	line += paint(text.FgGreen, visible(m.Name))
	if m.Former {
		line += paint(text.FgYellow, " (former)")
	}
	if m.Late {
		line += paint(text.FgYellow, " (late, of "+stamp(m.Time)+")")
	}
	fmt.Fprintf(a.out, "%s  %s\n", line, visible(string(m.Body)))
	if f.headers {
		for _, h := range m.Headers {
			fmt.Fprintf(a.out, "    %s: %s\n", visible(h.Key), visible(h.Value))
		}
	}
	return nil
}
