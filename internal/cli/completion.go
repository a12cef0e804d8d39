package cli

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/unibus/unibus"
	"github.com/unibus/unibus/internal/bus"
)

// What a shell completes: completion prints the script that asks this program, and a completer answers with rooms and
// users of the bus, quickly or not at all.

// shells are those completion scripts exist for: what cobra writes, but for what has to be otherwise.
var shells = map[string]shell{
	"bash": {func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) }, []edit{
		{`    _get_comp_words_by_ref "$@" cur prev words cword`, bashWords},
		{`    out=$(eval "${requestComp}" 2>/dev/null)`, bashAsk},
		{`        filteringCmd="_filedir`, `        filteringCmd="__unibus_filedir`},
		{`&& _filedir -d &&`, `&& __unibus_filedir -d &&`},
		{"            _filedir -d\n", "            __unibus_filedir -d\n"},
		{"                    _filedir\n", "                    __unibus_filedir\n"},
	}, bashFiles},
	"zsh": {func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) }, []edit{
		{`    out=$(eval ${requestComp} 2>/dev/null)`, zshAsk},
	}, ""},
	"fish": {func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) }, []edit{
		{`    set -l requestComp "UNIBUS_ACTIVE_HELP=0 $args[1] __complete $args[2..-1] $lastArg"`, fishAsk},
	}, ""},
	"powershell": {func(root *cobra.Command, w io.Writer) error { return root.GenPowerShellCompletionWithDesc(w) }, []edit{
		{`    Invoke-Expression -OutVariable out "$RequestComp"`, powershellAsk},
	}, ""},
}

// shell is how the completion script of a shell is made.
type shell struct {
	generate func(root *cobra.Command, w io.Writer) error
	edits    []edit
	behind   string // what more is in the script
}

// edit is what stands once in a script, and what is to stand there.
type edit struct{ old, new string }

// script writes the completion script.
func (s shell) script(root *cobra.Command, w io.Writer) error {
	var b strings.Builder
	if err := s.generate(root, &b); err != nil {
		return err
	}
	text := b.String()
	for _, e := range s.edits {
		if strings.Count(text, e.old) != 1 {
			return fmt.Errorf("what cobra writes has not one %q", e.old)
		}
		text = strings.Replace(text, e.old, e.new, 1)
	}
	_, err := io.WriteString(w, text+s.behind)
	return err
}

// The scripts have the shell itself take the line apart that is completed, with eval: so the shell would do whatever
// else the line says, before anybody has pressed enter. A line with anything like that is not completed, nor one with a
// variable: in an index, or a pattern, its value is done as well.
const (
	bashMore = `*[$'\x60$'\<\>\(\)\;\&\|]*` // the pattern of such lines
	bashAsk  = `    if [[ ${requestComp} == ` + bashMore + ` ]]; then
        out=:1 # an error
    else
        out=$(eval "${requestComp}" 2>/dev/null)
    fi`
	zshAsk = `    if [[ ${requestComp} == *[\` + "`" + `\$\<\>\(\)\;\&\|]* ]]; then
        return 1
    fi
    out=$(eval ${requestComp} 2>/dev/null)`
	// The words are without their quotes here.
	fishAsk = `    if string match -qr '[()<>;&|]' -- "$args[1]"
        return
    end
    set -l others (string join ' ' -- (string escape -- $args[2..-1]))
    set -l requestComp "UNIBUS_ACTIVE_HELP=0 $args[1] __complete $others $lastArg"`
	powershellAsk = `    if ($RequestComp -match '[` + "`" + `$()<>;&|{}]') {
        return
    }
    Invoke-Expression -OutVariable out "$RequestComp"`
)

// bashWords is in the one place where what cobra writes for bash calls the package bash-completion, which not everybody has.
// Without it the words are those between spaces, up to the cursor: bash itself would divide them at = and :, too. A line
// of several commands cannot be divided so.
const bashWords = `    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local line=${COMP_LINE:0:COMP_POINT}
    if [[ ${line} == ` + bashMore + ` ]]; then
        return 1
    fi
    read -ra words <<<"${line}"
    if [[ ${line} == *[[:space:]] ]]; then
        words+=("")
    fi
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=${words[cword-1]}`

// bashFiles completes files, or with -d folders, without the package, too.
const bashFiles = `
__unibus_filedir()
{
    if declare -F _filedir >/dev/null; then
        _filedir "$@"
        return
    fi
    compopt -o filenames 2>/dev/null # names are quoted
    if [[ ${1-} == -d ]]; then
        mapfile -t COMPREPLY < <(compgen -d -- "${cur}")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "${cur}")
    fi
}
`

// newCompletion makes completion, for the shells that cobra knows.
func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print a completion script for bash, zsh, fish or powershell", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Long: `Print what has a shell complete the commands of unibus, its flags, and the names of rooms and users: for one session as
the first three examples do, for zsh after compinit, or for each as those that write a file.

make install has it for bash, zsh and fish below its PREFIX, in share/bash-completion/completions, share/zsh/site-functions
and share/fish/vendor_completions.d, where they look if PREFIX is /usr or /usr/local. With PREFIX=~/.local bash (with the
package bash-completion) and fish look there, too; zsh does once ~/.zshrc says so, before compinit:
fpath=(~/.local/share/zsh/site-functions $fpath)`,
		Example: `  source <(unibus completion bash)
  source <(unibus completion zsh)
  unibus completion fish | source
  mkdir -p ~/.local/share/bash-completion/completions
  unibus completion bash >~/.local/share/bash-completion/completions/unibus
  mkdir -p ~/.config/fish/completions
  unibus completion fish >~/.config/fish/completions/unibus.fish
  unibus completion powershell | Out-String | Invoke-Expression
  unibus completion powershell >> $PROFILE`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, ok := shells[args[0]]
			if !ok {
				return hinted(usage("completion %s: bash, zsh, fish or powershell", args[0]), hintUseLine(cmd))
			}
			return s.script(cmd.Root(), a.out)
		},
	}
}

// completeValues offers fixed values for a flag.
func completeValues(c *cobra.Command, flag string, values ...string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

// prepareCompletion has shells show what flags do without the marks of values' names, which help makes use of, and offer files
// only where a command takes one. Flags and commands that do say so in the name of their value; for what offers something
// else, nothing changes.
func prepareCompletion(c *cobra.Command) {
	look := func(f *pflag.Flag) {
		name, usage := pflag.UnquoteUsage(f)
		f.Usage = usage
		complete := cobra.CompletionFunc(cobra.NoFileCompletions)
		switch {
		case name == "FILE" || f.NoOptDefVal != "":
			return
		case name == "DIR":
			complete = completeFolders
		}
		_ = c.RegisterFlagCompletionFunc(f.Name, complete) // the error of one that has something to offer
	}
	c.PersistentFlags().VisitAll(look)
	c.LocalNonPersistentFlags().VisitAll(look)
	if c.ValidArgsFunction == nil && c.ValidArgs == nil && !c.HasSubCommands() && !strings.Contains(c.Use, " FILE|-") {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, sub := range c.Commands() {
		prepareCompletion(sub)
	}
}

// completeFolders offers folders.
func completeFolders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeContexts offers the NATS contexts of this machine.
func completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return slices.DeleteFunc(bus.Contexts(), func(name string) bool { return !inert.MatchString(name) }), cobra.ShellCompDirectiveNoFileComp
}

// completer offers what the bus has.
type completer struct{ a *app }

// offer connects, and offers what list finds there and begins with a prefix. Nothing is said of what fails: someone is
// typing.
func (o completer) offer(cmd *cobra.Command, prefix string, list func(ctx context.Context, c *unibus.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	const done = cobra.ShellCompDirectiveNoFileComp
	// cobra does not prepare a command that is only being completed.
	if o.a.prepare(cmd, nil) != nil {
		return nil, done
	}
	options, err := o.a.options()
	if err != nil {
		return nil, done
	}
	options.Timeout, options.Notice = quickTimeout, nil
	ctx, cancel := context.WithTimeout(context.Background(), 2*quickTimeout)
	defer cancel()
	c, err := unibus.Connect(ctx, options)
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
		if strings.HasPrefix(s, prefix) && inert.MatchString(s) {
			out = append(out, s)
		}
	}
	return out, done
}

// inert are words in which no shell finds anything to do. Others are not offered: a shell puts what it is offered on the line
// as it is, and bash even runs what it finds there when it completes the next word. Anyone may give a room such a subject.
var inert = regexp.MustCompile(`^[A-Za-z0-9_.:/@+,][A-Za-z0-9_.:/@+,-]*$`)

// anyBus offers the names of the buses that are known, without asking any of them.
func (o completer) anyBus(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return o.ofBuses(cmd, prefix, func(j busJSON) (string, string) { return j.Name, visible(j.Server) + " " + j.Bus })
}

// addresses offers where those are.
func (o completer) addresses(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.ofBuses(cmd, prefix, func(j busJSON) (string, string) { return visible(j.Server), j.Name + " " + j.Bus })
}

// ofBuses offers a word of each bus that is known, with what says more about it.
func (o completer) ofBuses(cmd *cobra.Command, prefix string, word func(busJSON) (word, about string)) ([]string, cobra.ShellCompDirective) {
	const done = cobra.ShellCompDirectiveNoFileComp
	if o.a.prepare(cmd, nil) != nil {
		return nil, done
	}
	known, err := o.a.known()
	if err != nil {
		return nil, done
	}
	buses, _ := unibus.Buses(context.Background(), known) // nothing is said of what fails
	var out []string
	for _, b := range buses {
		if word, about := word(newBusJSON(b)); strings.HasPrefix(word, prefix) {
			out = append(out, strings.TrimSpace(word+"\t"+about))
		}
	}
	return out, done
}

// firstBus is for commands whose first argument is a bus that is known.
func (o completer) firstBus(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.anyBus(cmd, args, prefix)
}

// rooms offers the subjects of my rooms.
func (o completer) rooms(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return o.offer(cmd, prefix, func(ctx context.Context, c *unibus.Client) ([]string, error) {
		refs, err := c.ListMyRooms(ctx)
		var out []string
		for _, r := range refs {
			out = append(out, r.Subject)
		}
		return out, err
	})
}

// roomsOrFile is rooms for a command that a file may be the first argument of: where no room is, the shell offers files.
func (o completer) roomsOrFile(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	out, then := o.rooms(cmd, args, prefix)
	if len(args) == 0 && len(out) == 0 {
		then = cobra.ShellCompDirectiveDefault
	}
	return out, then
}

// users offers the names on the allowlist.
func (o completer) users(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return o.offer(cmd, prefix, func(_ context.Context, c *unibus.Client) ([]string, error) {
		var out []string
		for _, u := range c.Users() {
			if u.Active {
				out = append(out, u.Name)
			}
		}
		return out, nil
	})
}

// whose are those whom a command that takes a room and users is about.
type whose int

const (
	members   whose = iota // of the room
	outsiders              // who are not in it
)

// roomThen is for ROOM USER…: after the room those whom the command is about, and who are not named yet.
func (o completer) roomThen(who whose) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return o.rooms(cmd, args, prefix)
		}
		return o.offer(cmd, prefix, func(ctx context.Context, c *unibus.Client) ([]string, error) {
			r, err := c.Room(ctx, args[0])
			if err != nil {
				return nil, err
			}
			in := map[unibus.PublicKey]bool{}
			for _, m := range r.Members() {
				in[m.Key] = true
			}
			var out []string
			for _, u := range c.Users() {
				if u.Active && in[u.Key] == (who == members) && !slices.Contains(args[1:], u.Name) {
					out = append(out, u.Name)
				}
			}
			return out, nil
		})
	}
}

// roomUserRole is for ROOM USER ROLE.
func (o completer) roomUserRole(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 2 {
		return roomRoles, cobra.ShellCompDirectiveNoFileComp
	}
	if len(args) > 2 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.roomThen(members)(cmd, args, prefix)
}
