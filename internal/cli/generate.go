package cli

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// This file writes what is made of the command tree: completions, and man pages (manpages.go).

// completionFiles are the names under which shells look for completions.
var completionFiles = map[string]string{"bash": "unibus.bash", "zsh": "_unibus", "fish": "unibus.fish", "powershell": "unibus.ps1"}

// Generate writes completion scripts and man pages into two folders. The date is that of the pages, as they show it.
func Generate(completions, man, date string) error {
	root := newRoot(newApp(os.Stdin, os.Stdout, os.Stderr))
	for _, dir := range []string{completions, man} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// What a shell is given by unibus completion, under the name that shells and packages look for.
	for shell, s := range shells {
		var b bytes.Buffer
		if err := s.script(root, &b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(completions, completionFiles[shell]), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return writeManPages(root, man, date)
}

// commands are all commands below one that do something by themselves, and what that is.
func commands(c *cobra.Command) (list [][2]string) {
	for _, sub := range c.Commands() {
		if sub.HasSubCommands() {
			list = append(list, commands(sub)...)
		} else if sub.IsAvailableCommand() {
			list = append(list, [2]string{strings.TrimSuffix(sub.UseLine(), " [flags]"), sub.Short})
		}
	}
	return list
}

// environment are the environment variables that the program reads.
func environment(root *cobra.Command) (list [][2]string) {
	// The very list that settings are read by: the page cannot say more, or less.
	flags := settable(root)
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		_, does := pflag.UnquoteUsage(flags[name])
		list = append(list, [2]string{strings.Join(variables(name), ", "), "--" + name + ": " + does})
	}
	return append(list,
		[2]string{"UNIBUS_FEATURES", "feature flags for this run: name,-other"},
		[2]string{"NO_COLOR", "no colour, whatever it is set to"},
		[2]string{"XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_DATA_HOME", "where the files below are; else ~/.config, ~/.local/state and ~/.local/share"},
		[2]string{"SSL_CERT_FILE", "a file of the authorities that may vouch for servers, in place of the system's"})
}

// files are those that the program keeps, and what each is.
var files = [][2]string{
	{"$XDG_CONFIG_HOME/unibus/config.yaml", "Settings that neither the command line nor the environment gives: a flag's name without dashes, a colon, its value; a line each. A name stands there once, as the flag is spelled; a value stands there as on the command line, in quotes or not, an empty one is none, and what follows a # is a comment. Only the global flags but --yes, and those of unibus serve; any other name is an error."},
	{"$XDG_CONFIG_HOME/unibus/identity.nk", "The identity: a secret seed. Whoever has it is you."},
	{"$XDG_STATE_HOME/unibus/KEY.db", "What the identity with that key has verified, so that nobody can take it back, and the names and servers of the buses that it joined."},
	{"$XDG_DATA_HOME/unibus/", "The data folder of unibus serve: service.nk (the service's keys), unibus.db (the store, unless it is in JetStream), jetstream/ (messages)."},
}

// exitStatus are the exit codes.
var exitStatus = [][2]string{
	{fmt.Sprint(exitDone), "done"},
	{fmt.Sprint(exitFailed), "failed"},
	{fmt.Sprint(exitUsage), "the command line or a setting makes no sense"},
	{fmt.Sprint(exitNotFound), "not found"},
	{fmt.Sprint(exitDenied), "denied: not on the allowlist, no permission, or against a rule of the room or the bus"},
	{fmt.Sprint(exitUnavailable), "unavailable, or timed out"},
	{fmt.Sprint(exitIntegrity), "integrity: something was altered, withheld, rolled back or forked"},
	{fmt.Sprint(exitConflict), "conflict, or it exists already"},
	{fmt.Sprint(exitInterrupted), "interrupted"},
}
