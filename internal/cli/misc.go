package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/dev"
)

// Version is the program's version, set when it is built.
var Version = "0.0.0-dev"

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			on, err := dev.Features(os.Getenv("UNIBUS_FEATURES"))
			if err != nil {
				return usage("UNIBUS_FEATURES: %w", err)
			}
			v := map[string]any{"version": Version, "go": runtime.Version(), "protocol": "v1", "features": on}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						v["commit"] = s.Value
					}
				}
			}
			return a.out.value(v, func() { fmt.Fprintf(a.out, "unibus %s (%s, protocol v1)\n", v["version"], v["go"]) })
		},
	}
}

func (a *app) logCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "log ROOM | --bus", Short: "Who did what when, verified from the first entry", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeRooms,
		Long: "Print the log of a room, or with --bus and no ROOM that of the allowlist, each entry verified. --bus ID\ninsists on the bus with that id, as everywhere.",
		PreRunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !cmd.Flags().Changed("bus") || len(args) == 1 && cmd.Flag("bus").Value.String() == noBusID {
				return usage("log: a ROOM, or --bus for the log of the allowlist")
			}
			return nil
		},
		RunE: a.client(func(ctx context.Context, c *unibus.Client, args []string) error {
			entries, err := a.entries(ctx, c, args)
			if err != nil {
				return err
			}
			return a.out.value(entries, func() {
				var rows [][]string
				for _, e := range entries {
					rows = append(rows, []string{strconv.FormatUint(e.Seq, 10), stamp(e.Time), e.Name, e.Op, e.Summary})
				}
				a.out.table([]string{"SEQ", "TIME", "BY", "OP", "WHAT"}, rows)
			})
		}),
	}
	a.busAlone(c, "the log of the allowlist")
	return c
}

// busAlone lets --bus stand alone: what it means then is said of a command, unless there is a ROOM.
func (a *app) busAlone(c *cobra.Command, means string) {
	c.Flags().Var(newValue(&a.set.bus, optional(busID)), "bus", means+", unless there is a ROOM; with an `ID` insist on the bus that has it")
	c.Flags().Lookup("bus").NoOptDefVal = noBusID
}

// noBusID is the value of a --bus that stands alone, where that is possible.
const noBusID = "any"

// optional reads what may be left out.
func optional(parse parser[unibus.ID]) parser[unibus.ID] {
	return func(text string) (unibus.ID, error) {
		if text == noBusID {
			return unibus.ID{}, nil
		}
		return parse(text)
	}
}

// joinBus writes "--bus ID" as one word where --bus may also stand alone: of such a flag the flag library
// takes what follows for an argument.
func joinBus(root *cobra.Command, args []string) []string {
	cmd, _, err := root.Find(args)
	if err != nil {
		return args // an unknown command, which is told where it is run
	}
	if bus := cmd.LocalNonPersistentFlags().Lookup("bus"); bus == nil || bus.NoOptDefVal == "" {
		return args
	}
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

func (a *app) entries(ctx context.Context, c *unibus.Client, args []string) ([]unibus.LogEntry, error) {
	if len(args) == 0 {
		return c.BusLog(ctx)
	}
	r, err := c.Room(ctx, args[0])
	if err != nil {
		return nil, err
	}
	return r.Log(ctx)
}

// shells are those completion scripts exist for.
var shells = map[string]func(root *cobra.Command, w io.Writer) error{
	"bash":       func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
	"zsh":        func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
	"fish":       func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	"powershell": func(root *cobra.Command, w io.Writer) error { return root.GenPowerShellCompletionWithDesc(w) },
}

func (a *app) completionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print a completion script for bash, zsh, fish or powershell", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Example:   "  source <(unibus completion bash)",
		RunE: func(cmd *cobra.Command, args []string) error {
			generate := shells[args[0]]
			if generate == nil {
				return usage("completion %s: bash, zsh, fish or powershell", args[0])
			}
			return generate(cmd.Root(), a.out)
		},
	}
}

// offer connects for a completion, quickly or not at all.
func (a *app) offer(cmd *cobra.Command, prefix string, list func(ctx context.Context, c *unibus.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	const done = cobra.ShellCompDirectiveNoFileComp
	if a.prepare(cmd, nil) != nil {
		return nil, done
	}
	o, err := a.options()
	if err != nil {
		return nil, done
	}
	o.Timeout, o.Notice = quick, nil
	ctx, cancel := context.WithTimeout(context.Background(), 2*quick)
	defer cancel()
	c, err := unibus.Connect(ctx, o)
	if err != nil {
		return nil, done
	}
	defer c.Close()
	all, err := list(ctx, c)
	if err != nil {
		return nil, done
	}
	var out []string
	for _, s := range all {
		if strings.HasPrefix(s, prefix) {
			out = append(out, s)
		}
	}
	return out, done
}

func (a *app) completeRooms(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.offer(cmd, prefix, func(ctx context.Context, c *unibus.Client) ([]string, error) {
		refs, err := c.ListMyRooms(ctx)
		var out []string
		for _, r := range refs {
			out = append(out, r.Subject)
		}
		return out, err
	})
}

func (a *app) completeUsers(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return a.offer(cmd, prefix, func(_ context.Context, c *unibus.Client) ([]string, error) {
		var out []string
		for _, u := range c.Users() {
			if u.Active {
				out = append(out, u.Name)
			}
		}
		return out, nil
	})
}

func (a *app) completeRole(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 2 {
		return roomRoles, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeRoomThenUsers(cmd, args, prefix)
}

func (a *app) completeRoomThenUsers(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeRooms(cmd, args, prefix)
	}
	return a.completeUsers(cmd, args, prefix)
}
