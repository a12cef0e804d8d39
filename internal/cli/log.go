package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
)

// log prints who did what when. It and verify take --bus alone, for the log of the allowlist: how that is told from
// --bus ID, which every command takes, stands here too.

// logCommand is log and its flags, beside --bus.
type logCommand struct {
	a *app
	// since leaves out what is older, as its author claims; a zero time is no limit.
	since time.Time
	// by is whose entries alone are shown; empty: everybody's.
	by string
}

// newLog makes log.
func newLog(a *app) *cobra.Command {
	l := &logCommand{a: a}
	c := &cobra.Command{
		Use: "log ROOM | --bus", Short: "Who did what when, verified from the first entry", Args: cobra.MaximumNArgs(1), ValidArgsFunction: completer{a}.rooms,
		Long:    "Print the log of a room, or with --bus and no ROOM that of the allowlist, each entry verified. --bus ID\ninsists on the bus with that id, as everywhere. Times are what the authors of entries say.",
		Example: "  unibus log ops.alerts --since 7d\n  unibus log --bus --by alice",
		PreRunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !cmd.Flags().Changed("bus") || len(args) == 1 && cmd.Flag("bus").Value.String() == noBusID {
				return usage("log: a ROOM, or --bus for the log of the allowlist")
			}
			return nil
		},
		RunE: a.client(l.run),
	}
	a.set.defineBusAlone(c, "the log of the allowlist")
	c.Flags().Var(newValue(&l.since, parseSince), "since", "only entries of so long ago (7d) or since a `TIME`")
	completeValues(c, "since", "1h", "24h", "7d", "today", "yesterday")
	c.Flags().StringVar(&l.by, "by", "", "only entries of `USER`")
	_ = c.RegisterFlagCompletionFunc("by", completer{a}.users) // the flag exists
	return c
}

// run prints the entries that are asked for, and up to where the log is verified, which it is from the first.
func (l *logCommand) run(ctx context.Context, c *unibus.Client, args []string) error {
	var by unibus.PublicKey
	if l.by != "" {
		u, err := presentOrFormer(ctx, c, l.by)
		if err != nil {
			return err
		}
		by = u.Key
	}
	entries, err := entriesOf(ctx, c, args)
	if err != nil {
		return err
	}
	shown := []unibus.LogEntry{}
	for _, e := range entries {
		if !e.Time.Before(l.since) && (l.by == "" || e.By == by) {
			shown = append(shown, e)
		}
	}
	last := entries[len(entries)-1] // no log is empty
	hash := last.Hash
	if l.a.err.terminal {
		hash = hash[:16] // as much as fits, and as --accept takes
	}
	defer l.a.notice("verified from entry 1 to %d (%s)", last.Seq, hash)
	return l.a.out.value(shown, func() {
		var rows [][]string
		for _, e := range shown {
			rows = append(rows, []string{number(e.Seq), formatTime(e.Time), e.Name, e.Op, e.Summary})
		}
		l.a.out.table([]string{"SEQ", "TIME", "BY", "OP", "WHAT"}, rows)
	})
}

// entriesOf are those of the room that is named, or else of the bus.
func entriesOf(ctx context.Context, c *unibus.Client, names []string) ([]unibus.LogEntry, error) {
	if len(names) == 0 {
		return c.BusLog(ctx)
	}
	r, err := c.Room(ctx, names[0])
	if err != nil {
		return nil, err
	}
	return r.Log(ctx)
}

// noBusID is the value of a --bus that stands alone, where that is possible. No bus has such an id, and settings are
// looked for all the same: see given.
const noBusID = "any"

// defineBusAlone lets --bus stand alone: what it means then is said of a command, unless there is a ROOM.
func (s *settings) defineBusAlone(c *cobra.Command, means string) {
	parse := func(text string) (unibus.ID, error) {
		if text == noBusID {
			return unibus.ID{}, nil
		}
		return parseBus(text)
	}
	c.Flags().Var(newValue(&s.bus, parse), "bus", means+", unless there is a ROOM; with an `ID` insist on the bus that has it")
	c.Flags().Lookup("bus").NoOptDefVal = noBusID
}

// joinBusFlag writes "--bus ID" as one word where --bus may also stand alone: of such a flag the flag library
// takes what follows for an argument.
func joinBusFlag(root *cobra.Command, args []string) []string {
	cmd, _, err := root.Find(args)
	if err != nil {
		return args // an unknown command, which is told where it is run
	}
	if bus := cmd.LocalNonPersistentFlags().Lookup("bus"); bus == nil || bus.NoOptDefVal == "" {
		return args
	}
	// What follows -- is no flag, and what follows --bus is an id unless it is a flag.
	var out []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(out, args[i:]...)
		}
		if args[i] == "--bus" && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			out = append(out, "--bus="+args[i+1])
			i++
			continue
		}
		out = append(out, args[i])
	}
	return out
}
