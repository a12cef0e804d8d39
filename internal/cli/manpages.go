package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A man page for each command, made of what help says of it. What is true of all commands is whole on the page of the program,
// unibus(1), from the lists that the program itself goes by; the others say it in short, and point there.
//
// The pages are written here, and not by cobra, so that what is shown in them can be copied into a shell: to roff a dash, a
// quote and a tilde are other signs than those of a shell unless each is written so.

// writeManPages writes the pages of a command and of those below it into a folder. The date is for all.
func writeManPages(c *cobra.Command, folder, date string) error {
	if c.HasParent() && !c.IsAvailableCommand() { // a page of help, or a second name
		return nil
	}
	if err := os.WriteFile(filepath.Join(folder, manName(c)+".1"), []byte(manPage(c, date)), 0o644); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if err := writeManPages(sub, folder, date); err != nil {
			return err
		}
	}
	return nil
}

// manName is what the page of a command is called.
func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manPage is the page of a command.
func manPage(c *cobra.Command, date string) string {
	var b strings.Builder
	// Nothing is hyphenated, for what is a name or an address could not be told from its parts; nor are lines stretched.
	fmt.Fprintf(&b, ".TH \"%s\" \"1\" \"%s\" \"unibus\" \"unibus\"\n.nr HY 0\n.nh\n.ad l\n", strings.ToUpper(manName(c)), date)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(manName(c)), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n%s", synopsis(c))
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s", roffText(description(c)))
	shared := sharedSections
	if !c.HasParent() {
		shared = wholeSections(c)
	}
	sections := append([]section{
		{title: "COMMANDS", list: commands(c)},
		{title: "OPTIONS", list: options(c), after: optionsText(c)},
		{title: "EXAMPLES", example: strings.TrimPrefix(strings.ReplaceAll(c.Example, "\n  ", "\n"), "  ")},
	}, shared...)
	for _, s := range sections {
		s.write(&b)
	}
	fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", strings.Join(seeAlso(c), ",\n"))
	return b.String()
}

// synopsis is how a command is called.
func synopsis(c *cobra.Command) string {
	path := c.CommandPath()
	c.InheritedFlags() // of which the line speaks, too, once cobra has looked for them
	text := fmt.Sprintf("\\fB%s\\fP%s\n", roff(path), roff(strings.TrimPrefix(c.UseLine(), path)))
	if c.HasAvailableSubCommands() {
		text += fmt.Sprintf(".br\n\\fB%s\\fP COMMAND [flags]\n", roff(path))
	}
	return text
}

// description is what help says of a command at length, if there is more to say than its name does.
func description(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

// options are the flags of a command; for the program as a whole, those of every command.
func options(c *cobra.Command) (list [][2]string) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, does := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		switch {
		case f.Value.Type() == "bool":
		case f.NoOptDefVal != "":
			name += "[=" + value + "]"
		default:
			name += " " + value
		}
		if d := f.DefValue; f.Value.Type() != "bool" && d != "" && d != "[]" && d != "0s" && d != "0" {
			does += " (default " + d + ")"
		}
		list = append(list, [2]string{name, does})
	})
	return list
}

// optionsText is about the flags that are on another page.
func optionsText(c *cobra.Command) string {
	const elsewhere = "Those of every command, as --server and -o json, are in unibus(1); unibus help flags shows them."
	switch {
	case !c.HasParent():
		return "All but --version are taken by every command, before or after its name, as --help is, which shows the help of a command."
	case len(options(c)) == 0:
		return "It has none of its own. " + elsewhere
	}
	return elsewhere
}

// seeAlso are the pages of what is above a command, below it and, among those of every day and the like, beside it.
func seeAlso(c *cobra.Command) (pages []string) {
	add := func(c *cobra.Command) { pages = append(pages, "\\fB"+roff(manName(c))+"\\fP(1)") }
	for up := c.Parent(); up != nil; up = up.Parent() {
		add(up)
	}
	if c.HasParent() {
		for _, beside := range c.Parent().Commands() {
			// The last group is of those that have nothing in common.
			if beside != c && beside.IsAvailableCommand() && beside.GroupID == c.GroupID && c.GroupID != groups[len(groups)-1].title {
				add(beside)
			}
		}
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			add(sub)
		}
	}
	return pages
}

// section is one of a man page, of which any part may be left out: a text, a list of names and what they are, a text after
// that, lines for a shell.
type section struct {
	title, text    string
	list           [][2]string
	after, example string
}

// write writes the section, unless there is nothing in it.
func (s section) write(b *strings.Builder) {
	var parts []string
	if s.text != "" {
		parts = append(parts, roffText(s.text))
	}
	for _, one := range s.list {
		parts = append(parts, fmt.Sprintf(".TP\n\\fB%s\\fP\n%s\n", roff(one[0]), roff(one[1])))
	}
	if s.after != "" {
		parts = append(parts, ".PP\n"+roffText(s.after))
	}
	if s.example != "" {
		parts = append(parts, ".EX\n"+roff(s.example)+"\n.EE\n")
	}
	if parts != nil {
		fmt.Fprintf(b, ".SH %s\n%s", s.title, strings.TrimPrefix(strings.Join(parts, ""), ".PP\n"))
	}
}

// sharedSections are what is true of all commands, in short.
var sharedSections = []section{
	{title: "EXIT STATUS", text: exitStatusInShort()},
	{title: "ENVIRONMENT", text: "UNIBUS_SERVER, UNIBUS_BUS, UNIBUS_IDENTITY and others stand for flags that the command line leaves out, and NO_COLOR for no colour: unibus(1)."},
	{title: "FILES", text: "The identity is in $XDG_CONFIG_HOME/unibus/identity.nk, settings are in config.yaml beside it; the others are in unibus(1)."},
}

// wholeSections are the same for the page of the program.
func wholeSections(root *cobra.Command) []section {
	return []section{
		{title: "EXIT STATUS", list: exitStatus},
		{title: "ENVIRONMENT", list: environment(root), text: "Flags are those of every command and of unibus serve, where the command line leaves them out; no other flag is looked for here."},
		{title: "FILES", list: files},
	}
}

// exitStatusInShort names the codes; what else there is to say of one follows a colon.
func exitStatusInShort() string {
	var words []string
	for _, one := range exitStatus {
		what, _, _ := strings.Cut(one[1], ":")
		words = append(words, one[0]+" "+what)
	}
	return strings.Join(words, "; ") + ". More is in unibus(1)."
}

// roffText writes paragraphs, with an empty line between them, as they are filled by whoever shows them.
func roffText(s string) string {
	return strings.ReplaceAll(roff(strings.TrimSpace(s)), "\n\n", "\n.PP\n") + "\n"
}

// roff writes a text so that a man page shows it as it is, and so that it can be copied from there.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") { // it would be a command
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
