// Package cli is the unibus command: cobra commands and their output, on top of package unibus. It
// decides nothing about rooms; it reads flags, calls the library, prints, and maps the kinds of
// errors to exit codes, once (in exitCode).
package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/adrg/xdg"
	"github.com/dustin/go-humanize/english"
	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/admin"
	"github.com/unibus/unibus/internal/redact"
	"github.com/unibus/unibus/internal/service"
	"github.com/unibus/unibus/internal/store"
)

// Exit codes, on which scripts depend.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitDenied      = 4
	exitUnavailable = 5
	exitIntegrity   = 6
	exitConflict    = 7
	exitInterrupted = 130
)

// app is one run of the command.
type app struct {
	in       *os.File
	out, err *output
	set      settings
	data     string         // --data, of whichever command runs
	cmd      *cobra.Command // the one that runs
	accepted string         // the hash of a log that a person takes for what it is
	helpless error          // help was asked for with what is no command
	found    findings       // of what was read
}

// Main runs the command line and returns its exit code.
func Main(args []string, in, out, errOut *os.File) int {
	signal.Ignore(syscall.SIGPIPE) // a closed stdout is an error to look at, not a death
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	a := &app{in: in, out: newOutput(out), err: newOutput(errOut)}
	root := a.root()
	root.SetArgs(joinBus(root, args))
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = a.helpless
	}
	if flushed := a.out.Flush(); err == nil {
		err = flushed
	}
	if err != nil {
		a.printError(err)
	}
	return exitCode(ctx, err)
}

// usageError is a command line, or a setting, that makes no sense.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// hintError is an error with what helps.
type hintError struct {
	error
	hint string
}

func (h hintError) Unwrap() error { return h.error }

func hinted(err error, hint string) error { return hintError{err, hint} }

// exitCode maps an error to the exit code that CLI users rely on.
func exitCode(ctx context.Context, err error) int {
	var bad usageError
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE):
		return exitDone
	case errors.Is(err, unibus.ErrIntegrity), errors.Is(err, admin.ErrArchive), errors.Is(err, admin.ErrDiffers):
		return exitIntegrity
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &bad), errors.Is(err, unibus.ErrInvalid):
		return exitUsage
	case errors.Is(err, unibus.ErrDenied), errors.Is(err, os.ErrPermission) && !errors.Is(err, unibus.ErrUnavailable):
		return exitDenied
	case errors.Is(err, unibus.ErrNotFound):
		return exitNotFound
	case errors.Is(err, unibus.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ENOSPC):
		return exitUnavailable
	case errors.Is(err, unibus.ErrExists), errors.Is(err, unibus.ErrConflict):
		return exitConflict
	}
	return exitFailed
}

// printError prints one line, and one with what helps; of several logs that were rolled back, for each.
func (a *app) printError(err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok && !slices.ContainsFunc(many.Unwrap(), notRolledBack) {
		for _, one := range many.Unwrap() {
			a.printError(one)
		}
		return
	}
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, context.Canceled) && a.hint(err) == "" && a.interrupted() {
		return
	}
	a.err.say("unibus: %s\n", visible(oneLine(redact.Text(err.Error()))))
	if hint := a.hint(err); hint != "" {
		a.err.say("hint: %s\n", visible(hint))
	}
}

// notRolledBack reports whether an error is none that names a log which was rolled back, and what helps with it.
func notRolledBack(err error) bool {
	return !errors.Is(err, unibus.ErrLogRolledBack) || unibus.Hint(err) == ""
}

// oneLine puts the lines of a text one behind the other.
func oneLine(text string) string {
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "; ")
}

// lookWith is how to look what is left.
const lookWith = "; what is there: unibus doctor"

// hint is what helps with an error; empty for nothing.
func (a *app) hint(err error) string {
	if hint := tlsHint(err); hint != "" { // it is running
		return hint
	}
	if file := a.set.keys; file != "" && errors.Is(err, unibus.ErrNotFound) {
		if _, missing := os.Stat(file); errors.Is(missing, os.ErrNotExist) {
			return "--keys FILE: service.nk in the data folder of unibus serve, or the one that unibus nats-config made"
		}
	}
	var own hintError
	if errors.As(err, &own) {
		return own.hint
	}
	if hint := unibus.Hint(err); hint != "" {
		return hint
	}
	switch {
	case errors.Is(err, unibus.ErrStateDamaged):
		return "no server did this: bring back a copy of it that is as new, or " + a.forget()
	case errors.Is(err, unibus.ErrStateNotKept):
		return "the folder " + a.stateDir() + " has to be yours to write, and its disk to have room"
	case errors.Is(err, unibus.ErrOtherBus):
		return "ask whoever runs the bus whether it was made anew; to accept the new one, " + a.forget()
	case errors.Is(err, unibus.ErrIntegrity) && len(a.found.rooms) > 0:
		return a.found.hint()
	case errors.Is(err, store.ErrDamagedThere):
		return "what the bus keeps is damaged: whoever runs it looks with unibus doctor"
	case errors.Is(err, store.ErrDamaged):
		return "bring back a backup into a new file: unibus restore ARCHIVE --store sqlite:NEW, and serve that: unibus serve --store sqlite:NEW" + lookWith
	case errors.Is(err, syscall.ENOSPC):
		return "make room on that disk"
	case errors.Is(err, unibus.ErrNoBus):
		return "unibus room create or unibus user add makes one there"
	}
	return ""
}

// tlsHint is what helps with a server that does not speak TLS as it has to.
func tlsHint(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &authority):
		return "to trust the authority of its certificate: SSL_CERT_FILE=FILE, a file with that authority's certificate, from whoever runs the bus"
	case errors.As(err, &name):
		return "go to it by a name that its certificate is for"
	case errors.As(err, &certificate):
		return "its certificate is not valid, or this machine's clock is off: ask whoever runs the bus"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "it does not speak TLS: nats:// instead of tls://, if that is meant"
	}
	return ""
}

// forget says how what was verified is given up, which nothing but a person decides.
func (a *app) forget() string {
	o, err := a.options()
	if err != nil {
		return "use another --state DIR"
	}
	return fmt.Sprintf("move %s away while no unibus runs: all that this identity has verified, of every bus, is forgotten with it", o.StateFile())
}

func (a *app) interrupted() bool { return a.cmd != nil && a.cmd.Context().Err() != nil }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "unibus",
		Short: "Private rooms on a shared NATS bus",
		Long:  "unibus is private rooms on a shared NATS bus: a room is an end-to-end-encrypted subject, an allowlist\nsays who may connect, and signed logs say who is in which room.",
		Example: `  unibus init
  unibus serve &                           # embedded NATS + SQLite; I am the first admin
  unibus room create ops.alerts
  journalctl -fu app | unibus pub ops.alerts
  unibus sub 'ops.>'`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: a.prepare,
		Args:              cobra.NoArgs,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
			a.helpless = wrongArgs(cmd, cmd.Flags().Args())
			return
		}
		help(cmd, args)
	})
	a.set.define(root.PersistentFlags())
	a.complete(root, "output", "text", "json")
	root.AddCommand(a.initCmd(), a.whoamiCmd(), a.joinCmd(), a.serveCmd(), a.natsConfigCmd(), a.demoCmd(), a.userCmd(), a.roomCmd(), a.roomsCmd(),
		a.inviteCmd(), a.kickCmd(), a.leaveCmd(), a.roleCmd(), a.membersCmd(), a.rekeyCmd(),
		a.pubCmd(), a.subCmd(), a.logCmd(), a.verifyCmd(), a.migrateCmd(), a.backupCmd(), a.restoreCmd(), a.storeCmd(), a.doctorCmd(), a.tokenCmd(), a.completionCmd(), a.versionCmd())
	fixArgs(root)
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.RunE = helpOf
		}
	}
	return root
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

// fixArgs makes wrong arguments usage errors.
func fixArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if check(cmd, args) == nil {
				return nil
			}
			return wrongArgs(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		fixArgs(sub)
	}
}

// wrongArgs says that a command does not take the arguments it was given.
func wrongArgs(cmd *cobra.Command, args []string) error {
	name := strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()))
	if !cmd.HasSubCommands() {
		why := "it does not take " + english.Plural(len(args), "argument", "")
		if len(args) == 0 {
			why = "it needs an argument"
		}
		return hinted(usage("%s: %s", name, why), "usage: "+cmd.UseLine())
	}
	hint := cmd.CommandPath() + " --help shows the commands"
	cmd.SuggestionsMinimumDistance = 2
	near := cmd.SuggestionsFor(args[0])
	for i := range near {
		near[i] = cmd.CommandPath() + " " + near[i]
	}
	for _, group := range cmd.Root().Commands() {
		beside := group.Name() == cmd.Name()+"s" || group.Name()+"s" == cmd.Name() // room and rooms
		for _, sub := range group.Commands() {
			if (sub.Name() == args[0] || sub.HasAlias(args[0])) && (beside || group.Parent() == cmd) {
				near = append(near, sub.CommandPath())
			}
		}
	}
	if len(near) > 0 {
		hint = "there is " + strings.Join(near, ", ")
	}
	return hinted(usage("%s: unknown command", strings.TrimSpace(name+" "+args[0])), hint)
}

// group is a command that only has commands below it.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(sub...)
	return c
}

// prepare reads the settings before any command runs.
func (a *app) prepare(cmd *cobra.Command, _ []string) error {
	a.cmd = cmd
	if err := readSettings(cmd); err != nil {
		return err
	}
	a.misspelled(cmd.Root())
	a.out.json = a.set.output == "json"
	if a.set.noColor || os.Getenv("NO_COLOR") != "" {
		a.out.plain, a.err.plain = true, true
	}
	return nil
}

func (a *app) identityFile() string {
	if f := a.set.identity; f != "" {
		return f
	}
	return filepath.Join(xdg.ConfigHome, "unibus", "identity.nk")
}

func (a *app) stateDir() string {
	if d := a.set.state; d != "" {
		return d
	}
	return filepath.Join(xdg.StateHome, "unibus")
}

// notice tells people something, unless they asked for quiet.
func (a *app) notice(format string, args ...any) {
	if a.set.quiet {
		return
	}
	a.err.say("%s\n", visible(redact.Text(fmt.Sprintf(format, args...))))
}

// options are how this run connects.
func (a *app) options(rooms ...string) (unibus.Options, error) {
	if a.set.store == service.JetStream {
		return unibus.Options{}, hinted(usage("--store %s: that is for unibus serve", service.JetStream), "without --store everything goes through the service")
	}
	file := a.identityFile()
	id, err := unibus.LoadIdentity(file)
	if err != nil {
		return unibus.Options{}, err
	}
	return unibus.Options{
		Identity: id, Name: unibus.IdentityName(file), StateDir: a.stateDir(),
		Server: a.set.server, Context: a.set.context, Store: a.set.store, Keys: a.set.keys, Bus: a.set.busText(),
		Make: a.cmd.Annotations[founds] != "", Timeout: a.set.timeout, Rooms: rooms, Confirm: a.set.yes && a.cmd.Annotations[asks] == "",
		Accept: a.accepted,
		Notice: func(text string) { a.notice("%s", text) },
	}, nil
}

// What the memory of a process is kept below, in bytes, where that can be done by freeing what is not used any more, which
// a collector in no hurry lets double. A reader holds no more than 128 MiB of what is unfinished (SPEC.md §6); a server
// keeps what was stored in the last 10 s, in case it is read.
const (
	clientMemory = 150 << 20
	serverMemory = 1 << 30
)

// keepBelow keeps the memory below a limit, unless the environment gives another.
func keepBelow(memory int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory)
	}
}

// with connects, for rooms that will be used, runs f and closes.
func (a *app) with(ctx context.Context, f func(c *unibus.Client) error, rooms ...string) error {
	o, err := a.options(rooms...)
	if err != nil {
		return err
	}
	keepBelow(clientMemory)
	c, err := unibus.Connect(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close())
}

// client is with for a command that does nothing else.
func (a *app) client(f func(ctx context.Context, c *unibus.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return a.with(cmd.Context(), func(c *unibus.Client) error { return f(cmd.Context(), c, args) })
	}
}

// room is client for a command whose first argument is a room.
func (a *app) room(f func(ctx context.Context, c *unibus.Client, r *unibus.Room, args []string) error) func(*cobra.Command, []string) error {
	return a.client(func(ctx context.Context, c *unibus.Client, args []string) error {
		r, err := c.Room(ctx, args[0])
		if err != nil {
			return err
		}
		return f(ctx, c, r, args[1:])
	})
}

// users resolves USER arguments.
func users(ctx context.Context, c *unibus.Client, names []string) ([]unibus.PublicKey, error) {
	keys := make([]unibus.PublicKey, len(names))
	for i, name := range names {
		u, err := c.User(ctx, name)
		if err != nil {
			return nil, err
		}
		keys[i] = u.Key
	}
	return keys, nil
}

// asks marks commands that ask a question of their own. There --yes is the answer to that, and to nothing
// else: whoever means to archive a room has not said that its name may mean another one by now.
const asks = "asks"

// founds marks commands that make a store which is not there, and found a bus in it. To all others it has to be
// there: a path that was mistyped is no empty bus.
const founds = "founds"

// confirm asks on a terminal; without one the answer has to be --yes.
func (a *app) confirm(question string) error {
	if a.set.yes {
		return nil
	}
	if !isTerminal(a.in) || !a.err.terminal {
		return usage("%s: without a terminal this needs --yes", question)
	}
	a.err.say("%s? [y/N] ", question)
	var answer string
	if _, err := fmt.Fscanln(a.in, &answer); err != nil && !errors.Is(err, io.EOF) || !strings.EqualFold(answer, "y") && !strings.EqualFold(answer, "yes") {
		return errors.New("not confirmed")
	}
	return nil
}

// complete offers fixed values for a flag.
func (a *app) complete(c *cobra.Command, flag string, values ...string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

// quick is how long completions and whoami wait for a server.
const quick = time.Second
