package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Help is ordered by what people are about, those of every day first; what is true of all commands is on pages of its own
// (topics), which unibus help shows as it shows commands.

// groups are those of commands, in the order of help, and which are in them.
var groups = []struct{ title, commands string }{
	{"Every day:", "pub sub chat rooms log verify"},
	{"Rooms and who is in them:", "room invite kick leave role members rekey"},
	{"Myself:", "init whoami join bus forget token"},
	{"The bus, for who runs it:", "user serve doctor backup restore migrate store nats-config"},
	{"And:", "api demo bench completion version help"},
}

// addGroups puts the commands into groups. One that is in none is told by a test.
func addGroups(root *cobra.Command) {
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, name := range strings.Fields(g.commands) {
			if c, _, err := root.Find([]string{name}); err == nil && c != root {
				c.GroupID = g.title
			}
		}
	}
	root.SetHelpCommandGroupID(groups[len(groups)-1].title)
}

// topic is a page of help that is about no command; its text is made when somebody looks at it.
type topic struct {
	name, short string
	page        func(root *cobra.Command, width int) string // for a terminal of a width; 0: for none
}

var topics = []topic{
	{"flags", "The flags that every command takes", func(root *cobra.Command, _ int) string {
		return "These flags are taken by every command, before or after its name. All but --yes can be set elsewhere:\nunibus help configuration. Without a terminal what would ask needs --yes; but kick, leave, and user revoke of others, which\nscripts may have to do at once, ask nobody there.\n\n" + root.PersistentFlags().FlagUsages()
	}},
	{"configuration", "The configuration file and the environment", func(root *cobra.Command, width int) string {
		return "What the command line leaves out comes from the environment, else from the configuration file, else\nfrom its default. Nothing else is looked for there. --bus NAME goes before a server that is named there.\n\n" + listing(environment(root), width) + "\n" + listing(files, width)
	}},
	{"exit-codes", "What the exit code says", func(_ *cobra.Command, width int) string {
		return "Scripts can rely on these.\n\n" + listing(exitStatus, width)
	}},
	{"identities", "Keys, files and several identities", func(*cobra.Command, int) string { return identitiesHelp }},
}

// addTopics adds the pages.
func (a *app) addTopics(root *cobra.Command) {
	for _, t := range topics {
		c := &cobra.Command{Use: t.name, Short: t.short}
		c.SetHelpFunc(func(*cobra.Command, []string) {
			width := a.out.helpWidth()
			fmt.Fprint(a.out, fitHelp(t.page(root, width), width))
		})
		root.AddCommand(c)
	}
}

// listing is a list of names and what they are, as help shows it.
func listing(list [][2]string, width int) string {
	const column = 6
	if width -= column; width < minWrapped {
		width = 90
	}
	var b strings.Builder
	for _, one := range list {
		fmt.Fprintf(&b, "  %s\n      %s\n", one[0], wrapText(one[1], width, column))
	}
	return b.String()
}

// identitiesHelp is the page about identities.
const identitiesHelp = `An identity is one secret seed, in a file that only you may read: unibus init makes it. Its key, U and 55
letters and digits, is what an admin allows and what others see of you; whoever has the file is you. Where a USER is
asked for, the first 8 characters of a key will do, or as many as tables show on a terminal; --full shows all.

  unibus init                              make one, in ~/.config/unibus/identity.nk
  unibus whoami                            its key; --card is what lets others invite you before you have connected
  unibus --identity work.nk init           another one; with --identity it is used instead
  UNIBUS_IDENTITY=work.nk unibus sub ops   likewise

What an identity has verified, and the buses that it joined, are kept apart for each, in ~/.local/state/unibus.
One identity may be in many buses, under names of its own for them. The one joined last is in use:

  unibus join nats://a:4222#BUSID --as work
  unibus join nats://b:4222#BUSID --as home
  unibus bus ls                            which there are; * is the one in use
  unibus bus use work                      commands go there from now on
  unibus --bus home rooms ls               this one goes there; UNIBUS_BUS=home likewise
  unibus bus rm home --yes                 forget it; what was verified of it is kept

A server that is named, by --server, a NATS context or a variable, goes before the bus in use; with --bus as well,
that bus has to be there.

Nobody can make a lost seed again: keep a copy of the file where nobody else finds it. An admin can only allow
another key, and take away the old one: unibus user revoke.
`

// usageTemplate is how the use of a command is shown: as cobra does it, but for the flags that every command takes.
func usageTemplate(root *cobra.Command) string {
	t := root.UsageTemplate()
	const pointer = "\n\nFlags of every command, as --server and -o json: unibus help flags"
	for _, r := range [][2]string{
		{"{{rpad .CommandPath .CommandPathPadding}} {{.Short}}", "{{rpad .CommandPath .CommandPathPadding}}  {{.Short}}"}, // in columns, as fitHelp knows them
		{"\n\nGlobal Flags:\n{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}", pointer},
		{"{{if .HasAvailableLocalFlags}}\n\nFlags:", "{{if not .HasParent}}" + pointer + "{{else if .HasAvailableLocalFlags}}\n\nFlags:"},
	} {
		if !strings.Contains(t, r[0]) {
			panic("cobra shows the use of commands otherwise") // the program is wrong, and no test of it passes
		}
		t = strings.Replace(t, r[0], r[1], 1)
	}
	return t
}
