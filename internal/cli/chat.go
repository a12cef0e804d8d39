package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/cli/chat"
	"github.com/unibus/unibus/internal/errlist"
)

// chat: the screen is package chat's; here it is begun, and told of what came of it when it is gone.

// chatCommand is chat and its flags.
type chatCommand struct {
	a *app
	// last is how many messages of a room's past are shown to begin with.
	last int
}

// newChat makes chat.
func newChat(a *app) *cobra.Command {
	t := &chatCommand{a: a, last: 200}
	c := &cobra.Command{
		Use: "chat [ROOM|PATTERN…]", Short: "Read and write rooms on a full screen", ValidArgsFunction: completer{a}.rooms,
		Long: "Show rooms on a full screen: what was and is said in them, who is in them, and a line to write in; without a\nROOM all rooms of mine, also those I am invited to later. What is read is checked as unibus sub checks it. f1 shows the\nkeys; page up reads on into the past, and ctrl+c ends.",
		Example: `  unibus chat
  unibus chat ops.alerts
  unibus chat 'ops.>'`,
		RunE: func(cmd *cobra.Command, args []string) error { return t.run(cmd.Context(), args) },
	}
	c.Flags().Var(newDefault(&t.last, "200", parseCount), "last", "begin with the last `N` messages of a room")
	return c
}

// maxNotices is how many of the client's notices wait for the screen; of more, the last is left out.
const maxNotices = 16

// run shows rooms until the person ends it.
func (t *chatCommand) run(ctx context.Context, rooms []string) error {
	a, told := t.a, ctx // to end, by anything but the terminal
	if !isTerminal(a.in) || !a.out.terminal {
		return hinted(usage("chat needs a terminal to show rooms on, and to be typed at"), hintNoScreen)
	}
	if !signal.Ignored(syscall.SIGHUP) { // the terminal is to be given back as it was
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
		defer stop()
	}
	notices := make(chan string, maxNotices)
	a.elsewhere = func(text string) {
		select {
		case notices <- text:
		default:
		}
	}
	var result chat.Result
	err := a.with(ctx, func(c *unibus.Client) error {
		name, err := t.busName(ctx, c)
		if err != nil {
			return err
		}
		view, err := chat.New(ctx, c, chat.Options{
			Bus: name,
			In:  a.in, Out: a.out.raw, Environ: os.Environ(), Plain: a.out.plain, Last: t.last, Rooms: rooms, Timeout: max(a.set.timeout, minClosing),
			Hint: a.hint,
			Waiting: func(n int) {
				a.err.print("waiting until %s stored; ctrl+c ends at once\n", english.PluralWord(n, "the last message is", fmt.Sprintf("%d messages are", n)))
			},
		})
		if err != nil {
			return err
		}
		result, err = view.Run(ctx, notices)
		return errlist.Join(err, result.Abandoned, result.Reading, told.Err())
	}, rooms...)
	a.elsewhere = nil
	t.tell(result)
	return err
}

// busName is the name of the bus, if this identity knows others as well.
func (t *chatCommand) busName(ctx context.Context, c *unibus.Client) (string, error) {
	o, err := t.a.known()
	if err != nil {
		return "", err
	}
	buses, err := unibus.Buses(ctx, o)
	if n := slices.IndexFunc(buses, func(b unibus.KnownBus) bool { return b.Bus == c.Bus() }); err == nil && n >= 0 && len(buses) > 1 {
		return buses[n].Name, nil
	}
	return "", err
}

// tell says what came of the chat.
func (t *chatCommand) tell(r chat.Result) {
	for _, n := range r.Findings {
		t.a.tellNotice(n)
	}
	if r.Sent > 0 && r.Unsent == 0 {
		t.a.notice("%s sent", english.Plural(r.Sent, "message", ""))
	}
	if r.Unsent > 0 {
		t.a.err.print("unibus: %d of %s acknowledged\n", r.Sent, english.Plural(r.Sent+r.Unsent, "message", ""))
	}
}
