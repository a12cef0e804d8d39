package cli

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"
)

// What is said of command lines that name no command, or give one what it does not take: cobra finds it, and here it
// becomes a usage error in our own words.

// Annotations of commands.
const (
	// annotationAsks marks commands that ask a question of their own. There --yes is the answer to that, and to
	// nothing else: whoever means to archive a room has not said that its name may mean another one by now.
	annotationAsks = "asks"
	// annotationFounds marks commands that make a store which is not there, and found a bus in it. To all others it
	// has to be there: a path that was mistyped is no empty bus.
	annotationFounds = "founds"
)

// newGroup is a command that only has commands below it. Its example is what one does with some of them, one after the other.
func newGroup(use, short, example string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.NoArgs, RunE: showHelp}
	c.AddCommand(sub...)
	return c
}

// showHelp is the run of a command that does nothing by itself.
func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// checkHelp makes asking for the help of what is no command a usage error; cobra would show that of what is above it.
func (a *app) checkHelp(root *cobra.Command) {
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
			a.helpError = wrongArgs(cmd, cmd.Flags().Args())
			return
		}
		var page bytes.Buffer
		root.SetOut(&page)
		help(cmd, args)
		root.SetOut(a.out)
		fmt.Fprint(a.out, fitHelp(showBusAlone(page.String()), a.out.helpWidth()))
	})
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.RunE = helpOf
			c.ValidArgsFunction = withTopics(c.ValidArgsFunction)
			c.Example = "  unibus help pub\n  unibus help room create\n  unibus help exit-codes"
		}
	}
}

// withTopics completes the pages of help beside what else help is of.
func withTopics(commands cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		found, how := commands(cmd, args, begun)
		for _, t := range topics {
			if len(args) == 0 && strings.HasPrefix(t.name, begun) {
				found = append(found, cobra.CompletionWithDesc(t.name, t.short))
			}
		}
		return found, how
	}
}

// helpOf shows the help of the command that is named.
func helpOf(cmd *cobra.Command, args []string) error {
	named, rest, err := cmd.Root().Find(args)
	if err == nil && len(rest) > 0 && named.HasSubCommands() {
		err = wrongArgs(named, rest)
	}
	if err != nil {
		return err
	}
	named.InitDefaultHelpFlag()
	return named.Help()
}

// checkArgs makes wrong arguments of a command and of those below it usage errors.
func checkArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err == nil || errors.As(err, new(usageError)) { // in our own words
				return err
			}
			return wrongArgs(cmd, args)
		}
	}
	if check := c.PreRunE; check != nil && strings.Contains(c.Use, " ") {
		c.PreRunE = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if len(args) == 0 && errors.As(err, new(usageError)) && !errors.As(err, new(hintError)) {
				return hinted(err, hintUseLine(cmd)) // it was not said what the command is about
			}
			return err
		}
	}
	for _, sub := range c.Commands() {
		checkArgs(sub)
	}
}

// wrongArgs says that a command does not take the arguments it was given.
func wrongArgs(cmd *cobra.Command, args []string) error {
	name := strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()))
	if !cmd.HasSubCommands() {
		why := "it does not take " + english.Plural(len(args), "argument", "")
		if missing := missingArgs(cmd, len(args)); len(missing) > 0 {
			why = english.WordSeries(missing, "and") + " " + english.PluralWord(len(missing), "is", "are") + " missing"
		}
		hint := hintUseLine(cmd)
		if f := cmd.LocalNonPersistentFlags().Lookup("file"); f != nil && len(args) == 1 {
			hint = hintFile(cmd, args[0])
		}
		return hinted(usage("%s: %s", name, why), hint)
	}
	hint := hintCommands(cmd)
	if name == "user" && args[0] == "rename" {
		hint = hintRename(args[1:])
	} else if near := nearCommands(cmd, args[0]); len(near) > 0 {
		hint = hintNear(near)
	}
	return hinted(usage("%s: unknown command", strings.TrimSpace(name+" "+args[0])), hint)
}

// missingArgs are what a command takes, as its usage has them, behind the first n.
func missingArgs(cmd *cobra.Command, n int) (missing []string) {
	for _, arg := range strings.Fields(cmd.Use)[1:] {
		if arg == "|" || strings.HasPrefix(arg, "[") || strings.HasPrefix(arg, "-") { // what follows may be left out, or is another way
			break
		}
		missing = append(missing, strings.TrimRight(arg, ".…"))
	}
	return missing[min(n, len(missing)):]
}

// nearCommands are the commands that may have been meant by a name that is none below cmd: those spelled nearly like
// it, pages of help, and those of that name in other groups.
func nearCommands(cmd *cobra.Command, name string) (near []string) {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && (isNear(name, sub.Name()) || slices.Contains(sub.SuggestFor, name)) {
			near = append(near, sub.CommandPath())
		}
	}
	for _, t := range topics {
		if !cmd.HasParent() && isNear(name, t.name) {
			near = append(near, cmd.Name()+" help "+t.name)
		}
	}
	for _, group := range cmd.Root().Commands() {
		// One who types rooms create means room create; one who types ls at the top may mean any.
		beside := group.Name() == cmd.Name()+"s" || group.Name()+"s" == cmd.Name() // room and rooms
		if !beside && group.Parent() != cmd {
			continue
		}
		for _, sub := range group.Commands() {
			if !sub.Hidden && (sub.Name() == name || sub.HasAlias(name)) {
				near = append(near, sub.CommandPath())
			}
		}
	}
	return near
}
