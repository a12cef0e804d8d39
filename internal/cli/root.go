// Package cli is the unibus command: cobra commands and their output, on top of package unibus. It
// decides nothing about rooms; it reads flags, calls the library, prints, and maps the kinds of
// errors to exit codes, once (in exitCode), and to what helps, once (in hints.go,
// usagehints.go and remedies.go).
//
// Each command is a struct of its flags and a method run, in the file of its group; a function makes
// it a cobra command. What all commands share is an app: settings, streams and how the bus is reached.
// What a command promises to scripts is in testdata/*.txt, and its JSON in docs/json.md.
package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// app is one run of the command, as its commands see it. Its parts own what they hold: settings the global flags,
// console the streams, session how the bus is reached.
type app struct {
	session
	found     findings // what the run met that is not as it should be
	helpError error    // help was asked for with what is no command
}

// newApp is a run with settings as they are when nothing is set.
func newApp(in, out, errOut *os.File) *app {
	return &app{session: session{console: console{set: &settings{}, in: in, out: newOutput(out), err: newOutput(errOut)}}}
}

// Main runs the command line until it is done or SIGINT or SIGTERM comes, and returns its exit code.
func Main(args []string, in, out, errOut *os.File) int {
	signal.Ignore(syscall.SIGPIPE) // a closed stdout is an error to look at, not a death
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return run(ctx, args, in, out, errOut)
}

// run runs the command line until it is done or the context ends, which counts as an interruption.
func run(ctx context.Context, args []string, in, out, errOut *os.File) int {
	a := newApp(in, out, errOut)
	a.words = args
	root := newRoot(a)
	root.SetArgs(joinBusFlag(root, args))
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) { // which takes a look at each command and flag
		prepareCompletion(root)
	}
	root.SetIn(in)
	root.SetOut(a.out) // with which it is known whether help could be written
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = a.helpError
	}
	if flushed := a.out.Flush(); err == nil {
		err = flushed
	}
	if err != nil {
		a.printError(a.set.place(err))
	}
	return exitCode(ctx, err)
}

// newRoot makes the tree of commands.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "unibus",
		Short: "Private rooms on a shared NATS bus",
		Long:  "unibus is private rooms on a shared NATS bus: a room is an end-to-end-encrypted subject, an allowlist\nsays who may connect, and signed logs say who is in which room.",
		Example: `  unibus init
  unibus serve &
  unibus room create ops.alerts
  journalctl -fu app | unibus pub ops.alerts
  unibus sub 'ops.>'`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: a.prepare,
		Args:              cobra.NoArgs,
	}
	version := root.Flags().Bool("version", false, "print the version")
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *version {
			return printVersion(a.out)
		}
		return showHelp(cmd, args)
	}
	root.SetFlagErrorFunc(flagError)
	a.set.define(root.PersistentFlags())
	completeValues(root, "output", "text", "json")
	_ = root.RegisterFlagCompletionFunc("context", completeContexts) // the flag exists
	_ = root.RegisterFlagCompletionFunc("bus", completer{a}.anyBus)  // likewise
	root.AddCommand(newInit(a), newWhoami(a), newJoin(a), newBus(a), newForget(a), newServe(a), newNATSConfig(a), newDemo(a), newBench(a), newUser(a), newRoom(a), newRooms(a),
		newInvite(a), newKick(a), newLeave(a), newRole(a), newMembers(a), newRekey(a),
		newPub(a), newSub(a), newChat(a), newLog(a), newVerify(a), newMigrate(a), newBackup(a), newRestore(a), newStore(a), newDoctor(a), newToken(a), newAPI(a), newCompletion(a), newVersion(a))
	addGroups(root)
	a.addTopics(root)
	root.SetUsageTemplate(usageTemplate(root))
	checkArgs(root)
	a.checkHelp(root)
	return root
}

// prepare reads the settings before any command runs.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	a.cmd = cmd
	if err := a.set.read(cmd); err != nil {
		return err
	}
	if _, err := features(); err != nil {
		return err
	}
	a.out.json = a.set.output == "json"
	if a.set.noColor || os.Getenv("NO_COLOR") != "" {
		a.out.plain, a.err.plain = true, true
	}
	warnMisspelled(cmd.Root(), a.notice)
	return nil
}
