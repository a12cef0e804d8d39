package cli

import (
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// exampleWidth is how wide a line of an example may be, with the two spaces before it, to be shown whole by man at 80 columns.
const exampleWidth = 75

// TestExamples: the help of every command that can be run has an example; each of its lines can be pasted into a shell,
// and calls commands that exist with arguments and flags that they take. One call at least is of the command itself.
func TestExamples(t *testing.T) {
	b := newTestBus(t)
	b.write("audit.ub", string(archiveHead[:])) // which examples name
	root := func() *cobra.Command { return newRoot(newApp(b.temp(""), b.temp(""), b.temp(""))) }
	for _, c := range runnable(root()) {
		var own []string
		for line := range strings.SplitSeq(c.Example, "\n") {
			if strings.Contains(line, " # ") {
				t.Errorf("%s: the example %q has a comment, which zsh takes for arguments", c.CommandPath(), line)
			}
			if utf8.RuneCountInString(line) > exampleWidth || !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the example %q does not begin with two spaces, or is wider than %d", c.CommandPath(), line, exampleWidth)
			}
		}
		calls, err := unibusCalls(c.Example)
		if err != nil {
			t.Errorf("%s: the examples are nothing for a shell: %v", c.CommandPath(), err)
		}
		for _, args := range calls {
			named, err := parseCall(root(), args)
			if err != nil {
				t.Errorf("%s: an example calls unibus %s: %v", c.CommandPath(), strings.Join(args, " "), err)
			}
			own = append(own, named)
		}
		if !slices.ContainsFunc(own, func(named string) bool { return strings.HasPrefix(named+" ", c.CommandPath()+" ") }) {
			t.Errorf("%s: no example is of it: %q", c.CommandPath(), c.Example)
		}
	}
}

// TestExamplesRefused: what TestExamples looks for is found.
func TestExamplesRefused(t *testing.T) {
	b := newTestBus(t)
	for line, want := range map[string]string{
		"unibus room mend ops.alerts":                           "unknown command",
		"unibus rooms ls --only stale":                          "--only: unknown flag",
		"echo x | unibus pub":                                   "pub: ROOM is missing",
		"unibus rooms ls | xargs -I{} unibus kick {}":           "kick: USER is missing",
		"unibus rooms ls --all --member bob":                    "not both",
		`curl -H "Authorization: $(unibus tokens)" http://h`:    "unknown command",
		"unibus whoami; ssh bus.example.org 'unibus --store x'": "",
	} {
		calls, err := unibusCalls(line)
		if err != nil || len(calls) == 0 {
			t.Errorf("%q: %q, %v", line, calls, err)
		}
		said := ""
		for _, args := range calls {
			if _, err := parseCall(newRoot(newApp(b.temp(""), b.temp(""), b.temp(""))), args); err != nil {
				said += err.Error()
			}
		}
		if !strings.Contains(said, want) || (want == "") != (said == "") {
			t.Errorf("%q: %q instead of %q", line, said, want)
		}
	}
	if _, err := unibusCalls("unibus pub ops.alerts 'it"); err == nil {
		t.Error("half a word is taken for a line of a shell")
	}
}

// runnable are a command and those below it that do something, or show their own help.
func runnable(c *cobra.Command) (list []*cobra.Command) {
	if c.IsAvailableCommand() || c.Name() == "help" || !c.HasParent() {
		list = append(list, c)
	}
	for _, sub := range c.Commands() {
		list = append(list, runnable(sub)...)
	}
	return list
}

// unibusCalls are the arguments of each call of unibus that a shell would make of some lines, also of those that another program
// makes (xargs). What only running it would tell, as the output of a command, is a word.
func unibusCalls(lines string) (calls [][]string, err error) {
	file, err := syntax.NewParser().Parse(strings.NewReader(lines), "")
	if err != nil {
		return nil, err
	}
	words := &expand.Config{
		Env:       expand.FuncEnviron(func(string) string { return "word" }),
		CmdSubst:  func(w io.Writer, _ *syntax.CmdSubst) error { _, err := io.WriteString(w, "word"); return err },
		ProcSubst: func(*syntax.ProcSubst) (string, error) { return "file", nil },
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok || err != nil {
			return err == nil
		}
		var args []string
		args, err = expand.Fields(words, call.Args...)
		if i := slices.Index(args, "unibus"); i >= 0 {
			if args[0] == "xargs" && !strings.Contains(args[1], "-I") {
				args = append(args, "word") // what it reads
			}
			calls = append(calls, args[i+1:])
		}
		return true
	})
	return calls, err
}

// parseCall reads a command line as it is read when it is run, without running it, and returns the path of its command.
func parseCall(root *cobra.Command, args []string) (string, error) {
	c, rest, err := root.Find(joinBusFlag(root, args))
	if err != nil {
		return "", err
	}
	if err := c.ParseFlags(rest); err != nil {
		return "", c.FlagErrorFunc()(c, err)
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return "", err
	}
	if c.PreRunE != nil {
		err = c.PreRunE(c, c.Flags().Args())
	}
	return c.CommandPath(), err
}
