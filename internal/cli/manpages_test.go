package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// manSections are those that every page has, in this order; COMMANDS is before OPTIONS on pages of those that have some below.
var manSections = []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"}

// TestManPages: there is a page for each command, under its own name, and with all sections. What is true of all commands is
// on that of the program alone, and each page that is pointed to is there.
func TestManPages(t *testing.T) {
	b, dir := newTestBus(t), t.TempDir()
	root := newRoot(newApp(b.temp(""), b.temp(""), b.temp("")))
	if err := writeManPages(root, dir, "Jan 2026"); err != nil {
		t.Fatal(err)
	}
	see := regexp.MustCompile(`(?m)^\\fB(.*)\\fP\(1\),?$`)
	for _, c := range runnable(root) {
		if c.Name() == "help" {
			continue
		}
		name := manName(c)
		raw, err := os.ReadFile(filepath.Join(dir, name+".1"))
		if err != nil {
			t.Fatal(err)
		}
		page := string(raw)
		if title := fmt.Sprintf(".TH %q \"1\" \"Jan 2026\" ", strings.ToUpper(name)); !strings.HasPrefix(page, title) {
			t.Errorf("%s does not begin with %s", name, title)
		}
		var sections []string
		for _, m := range regexp.MustCompile(`(?m)^\.SH (.*)$`).FindAllStringSubmatch(page, -1) {
			if m[1] != "COMMANDS" || !c.HasAvailableSubCommands() {
				sections = append(sections, m[1])
			}
		}
		if !slices.Equal(sections, manSections) {
			t.Errorf("%s has the sections %q", name, sections)
		}
		for _, whole := range []string{`\fB\-\-no\-color\fP`, "UNIBUS_LISTEN\\fP", "rolled back", "service.nk (the"} {
			if strings.Contains(page, whole) != (c == root) {
				t.Errorf("%s and %q: that is for the page of the program", name, whole)
			}
		}
		pointed := see.FindAllStringSubmatch(page, -1)
		if len(pointed) == 0 {
			t.Errorf("%s points to no other page", name)
		}
		for _, m := range pointed {
			if _, err := os.Stat(filepath.Join(dir, strings.ReplaceAll(m[1], `\-`, "-")+".1")); err != nil {
				t.Errorf("%s points to what is not there: %v", name, err)
			}
		}
	}
}

// TestManPage: a page, whole, of a command that has flags of each kind; what is in it for a shell, or would be a command to
// roff, is what it is.
func TestManPage(t *testing.T) {
	b := newTestBus(t)
	c, _, err := newRoot(newApp(b.temp(""), b.temp(""), b.temp(""))).Find([]string{"log"})
	if err != nil {
		t.Fatal(err)
	}
	c.Use, c.Short, c.Long, c.Example = "log ROOM", "Show it", "First\nline.\n\n.second: 'a' ~b ^c `d` \\e", "  log 'x' |\n    jq -r '\"\\(.y)\"'"
	got := manPage(c, "Jan 2026")
	for _, want := range []string{
		"NAME\nunibus\\-log \\- Show it\n.SH SYNOPSIS\n\\fBunibus log\\fP ROOM [flags]\n",
		"DESCRIPTION\nFirst\nline.\n.PP\n\\&.second: \\(aqa\\(aq \\(tib \\(hac \\(gad\\(ga \\ee\n",
		".TP\n\\fB\\-\\-bus[=ID|NAME]\\fP\n", ".TP\n\\fB\\-f, \\-\\-follow\\fP\ngo on with", ".TP\n\\fB\\-\\-since TIME\\fP\n",
		"EXAMPLES\n.EX\nlog \\(aqx\\(aq |\n  jq \\-r \\(aq\"\\e(.y)\"\\(aq\n.EE\n",
		"EXIT STATUS\n0 done; 1 failed; ", "6 integrity; ",
		"SEE ALSO\n\\fBunibus\\fP(1),\n\\fBunibus\\-chat\\fP(1),\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
