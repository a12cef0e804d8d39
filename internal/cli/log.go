package cli

import (
	"context"
	"iter"
	"slices"
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
	// follow goes on with what is added, until the command is interrupted.
	follow bool
	// full shows long lists whole on a terminal, too.
	full bool

	key  unibus.PublicKey // of by
	last unibus.LogEntry  // up to which the log is verified
}

// newLog makes log.
func newLog(a *app) *cobra.Command {
	l := &logCommand{a: a}
	c := &cobra.Command{
		Use: "log ROOM | --bus | FILE [ROOM]", Short: "Who did what when, verified from the first entry", Args: cobra.MaximumNArgs(2), ValidArgsFunction: completer{a}.roomsOrFile,
		Long:    "Print the log of a room, or with --bus and no ROOM that of the allowlist, each entry verified. --bus ID\nor NAME says which bus, as everywhere. Times are what the authors of entries say.\n\nWith --follow it goes on with what is added, as soon as that is verified, until it is interrupted; -o json\nthen prints an entry a line.\n\nOf a FILE that unibus verify --export or unibus backup wrote it prints all logs, or that of one ROOM, or with\n--bus behind it that of the allowlist, with no server and no identity. Names are those that people had then.",
		Example: "  unibus log ops.alerts --since 7d\n  unibus log --bus --by alice\n  unibus log audit.ub ops.alerts\n  unibus log --bus --follow -o json |\n    jq -r 'select(.op == \"revoke\") | .body.keys[]'",
		PreRunE: func(cmd *cobra.Command, args []string) error {
			file, bus := namesFile(args), busAlone(cmd)
			switch {
			case len(args) == 0 && !cmd.Flags().Changed("bus"):
				return usage("log: a ROOM, or --bus for the log of the allowlist")
			case len(args) == 1 && bus && !file:
				return superfluous("bus", "log: a ROOM, or --bus for the log of the allowlist")
			case len(args) == 2 && !file && namesFile(args[1:]):
				return hinted(usage("log %s: the FILE comes first", args[0]), hintFileFirst(cmd, args))
			case len(args) == 2 && !file:
				return hinted(usage("log %s: it is no export and no backup", args[0]), hintUseLine(cmd))
			case len(args) == 2 && bus:
				return superfluous("bus", "log %s: a ROOM, or --bus for the log of the allowlist", args[0])
			}
			return nil
		},
		RunE: roomOrFile(l.runFile, a.client(l.run)),
	}
	a.set.defineBusAlone(c, "the log of the allowlist", completer{a}.anyBus)
	defineSince(c, &l.since, "only entries of so long ago (7d) or since a `TIME`")
	c.Flags().StringVar(&l.by, "by", "", "only entries of `USER`")
	_ = c.RegisterFlagCompletionFunc("by", completer{a}.users) // the flag exists
	c.Flags().BoolVarP(&l.follow, "follow", "f", false, "go on with what is added, until interrupted")
	defineFull(c, &l.full, "long lists")
	return c
}

// run prints the entries that are asked for, and up to where the log is verified, which it is from the first.
func (l *logCommand) run(ctx context.Context, c *unibus.Client, args []string) error {
	if l.by != "" {
		u, err := presentOrFormer(ctx, c, l.by)
		if err != nil {
			return err
		}
		l.key = u.Key
	}
	log, err := logNamed(ctx, c, args)
	if err != nil {
		return err
	}
	defer l.tellVerified()
	if l.follow {
		return whileRead(ctx, l.a.out, func(ctx context.Context) error { return l.runFollow(ctx, log) })
	}
	entries, err := log.entries(ctx)
	if err != nil {
		return err
	}
	shown := l.chosen(entries)
	return l.a.out.value(shown, func() {
		if len(shown) == 0 {
			l.a.notice("no entries match")
		}
		l.table().print(l.rows(shown))
	})
}

// runFollow prints entries as they come, until the command is interrupted.
func (l *logCommand) runFollow(ctx context.Context, log namedLog) error {
	table := l.table()
	for entries, err := range log.follow(ctx) {
		if err != nil {
			return err
		}
		if err := l.show(table, l.chosen(entries)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// show prints some entries at once: as rows of a table, or a line of JSON each.
func (l *logCommand) show(table *grid, entries []unibus.LogEntry) error {
	if !l.a.out.json {
		table.print(l.rows(entries))
		return l.a.out.Flush()
	}
	for i := range entries {
		if err := l.a.out.encode(&entries[i]); err != nil {
			return err
		}
	}
	return l.a.out.Flush()
}

// chosen are those of some entries that the flags ask for; all of them count as verified.
func (l *logCommand) chosen(entries []unibus.LogEntry) []unibus.LogEntry {
	shown := []unibus.LogEntry{}
	for _, e := range entries {
		if !e.Time.Before(l.since) && (l.by == "" || e.By == l.key) {
			shown = append(shown, e)
		}
		l.last = e
	}
	return shown
}

// table begins a table of entries.
func (l *logCommand) table() *grid {
	g := newGrid(l.a.out, []string{"SEQ", "TIME", "BY", "OP", "WHAT"})
	if l.follow { // what comes later stands below what has come
		g.measure([][]string{{"", "", "", "archive", ""}})
	}
	return g
}

// rows are entries as a table shows them: on a terminal with long lists cut short.
func (l *logCommand) rows(entries []unibus.LogEntry) (rows [][]string) {
	for _, e := range entries {
		what := e.Summary
		if l.a.out.terminal && !l.full {
			what = e.Brief
		}
		rows = append(rows, []string{number(e.Seq), formatTime(e.Time), e.Name, e.Op, what})
	}
	return rows
}

// tellVerified says up to where the log is verified.
func (l *logCommand) tellVerified() {
	if l.last.Seq == 0 { // nothing was read
		return
	}
	l.a.endLine()
	l.a.notice("verified from entry 1 to %d (%s)", l.last.Seq, l.a.headHash(l.last.Hash))
}

// headHash is the hash of a head as it is told: on a terminal as much as fits, and as --accept takes.
func (c *console) headHash(hash string) string {
	if c.err.terminal {
		return hash[:16]
	}
	return hash
}

// namedLog is the log that a command names: all of it as of now, or from now on as well.
type namedLog struct {
	entries func(ctx context.Context) ([]unibus.LogEntry, error)
	follow  func(ctx context.Context) iter.Seq2[[]unibus.LogEntry, error]
}

// logNamed is the log of the room that is named, or else that of the bus.
func logNamed(ctx context.Context, c *unibus.Client, names []string) (namedLog, error) {
	if len(names) == 0 {
		follow := func(ctx context.Context) iter.Seq2[[]unibus.LogEntry, error] { return unibus.FollowBusLog(ctx, c) }
		return namedLog{c.BusLog, follow}, nil
	}
	r, err := c.Room(ctx, names[0])
	if err != nil {
		return namedLog{}, err
	}
	follow := func(ctx context.Context) iter.Seq2[[]unibus.LogEntry, error] { return unibus.FollowLog(ctx, r) }
	return namedLog{r.Log, follow}, nil
}

// noBusID is the value of a --bus that stands alone, where that is possible. No bus has such an id or name, and settings are
// looked for all the same: see given.
const noBusID = "*"

// showBusAlone is a page of help on which a --bus that may stand alone is shown so, and not as the flag library does.
func showBusAlone(page string) string {
	return strings.ReplaceAll(page, `--bus ID|NAME[="`+noBusID+`"]`, "--bus [ID|NAME]    ") // as wide, for it is in columns
}

// defineBusAlone lets --bus stand alone: what it means then is said of a command, unless there is a ROOM.
func (s *settings) defineBusAlone(c *cobra.Command, means string, complete cobra.CompletionFunc) {
	parse := func(text string) (string, error) {
		if text == noBusID {
			return "", nil
		}
		return parseBus(text)
	}
	c.Flags().Var(newValue(&s.bus, parse), "bus", means+", unless there is a ROOM; with an `ID|NAME` the bus that is meant")
	c.Flags().Lookup("bus").NoOptDefVal = noBusID
	_ = c.RegisterFlagCompletionFunc("bus", complete) // the flag exists
}

// joinBusFlag writes "--bus ID" as one word where --bus may also stand alone: of such a flag the flag library
// takes what follows for an argument.
func joinBusFlag(root *cobra.Command, args []string) []string {
	if len(args) > 0 && args[0] == cobra.ShellCompRequestCmd { // what a shell has so far of a command line
		return append(args[:1:1], joinBusFlag(root, args[1:])...)
	}
	cmd, _, err := root.Find(args)
	if err != nil {
		return args // an unknown command, which is told where it is run
	}
	if bus := cmd.LocalNonPersistentFlags().Lookup("bus"); bus == nil || bus.NoOptDefVal == "" {
		return args
	}
	// What follows -- is no flag, and what follows --bus is an id unless it is a flag.
	var out, rest []string
	for i := 0; i < len(args) && rest == nil; i++ {
		switch {
		case args[i] == "--":
			rest = args[i:]
		case args[i] == "--bus" && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-"):
			out = append(out, "--bus="+args[i+1])
			i++
		default:
			out = append(out, args[i])
		}
	}
	// Beside one that names a bus, one that stands alone has nothing to add, and would not be the last word.
	if slices.ContainsFunc(out, func(arg string) bool { return strings.HasPrefix(arg, "--bus=") }) {
		out = slices.DeleteFunc(out, func(arg string) bool { return arg == "--bus" })
	}
	return append(out, rest...)
}
