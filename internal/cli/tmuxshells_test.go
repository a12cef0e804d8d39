package cli

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestShells: what the shells complete, in each that is installed, as it is without anything beside it: no package
// bash-completion, nobody's configuration.
func TestShells(t *testing.T) {
	b := newPeopleBus(t)
	b.must(exitDone, "admin", "room", "create", "ops.alerts")
	b.must(exitDone, "admin", "room", "create", "ops.deploys")
	b.must(exitDone, "admin", "room", "create", "ops.$(touch${IFS}evil)")
	b.must(exitDone, "admin", "invite", "ops.alerts", "bob")
	for shell, lines := range map[string][]string{
		"bash":                  {"PS1='> ' exec bash --norc --noprofile", "source <(unibus completion bash)"},
		"bash with its package": {"PS1='> ' exec bash --norc --noprofile", "source " + bashPackage + "; source <(unibus completion bash)"},
		"zsh":                   {"PS1='> ' exec zsh -f", "autoload -U compinit; compinit -u -D; source <(unibus completion zsh)"},
		"fish":                  {"exec fish --no-config", "function fish_prompt; echo -n '> '; end; unibus completion fish | source"},
	} {
		t.Run(shell, func(t *testing.T) {
			program, with, _ := strings.Cut(shell, " ")
			if _, err := exec.LookPath(program); err != nil {
				t.Skip(shell + " is not installed")
			}
			if _, err := os.Stat(bashPackage); with != "" && err != nil {
				t.Skip("the package bash-completion is not installed")
			}
			p := b.sitDown(t, "admin", 100)
			p.types(lines[0])
			p.must(p.AwaitScreen(p.ctx, "its prompt", func(screen string) bool {
				_, last, _ := strings.Cut(screen, "\n")
				return last != "" && last != "$"
			}))
			p.types(lines[1], "clear")
			p.must(p.AwaitScreen(p.ctx, "a clear screen", func(screen string) bool { return strings.HasPrefix(screen, ">") && !strings.Contains(screen, "clear") }))
			if program == "bash" { // it shows what there is when it is asked twice
				p.completes("unibus kick ops.", "Tab", "Tab")
			} else {
				p.completes("unibus kick ops.", "Tab")
			}
			p.waits("ops.deploys")
			p.completes("a", "Tab")
			p.waits("unibus kick ops.alerts")
			p.completes("b", "Tab")
			p.waits("unibus kick ops.alerts bob")
			p.presses("C-u")
			p.completes("unibus sub ops.alerts --since yes", "Tab")
			p.waits("--since yesterday")
			p.presses("C-u")
			p.completes("unibus sub ops.alerts --last xdg", "Tab") // as folders here begin
			p.completes("9")
			p.waits("--last xdg9")
			p.presses("C-u")
			if program != "fish" {
				p.types("AV='a[$(touch ran)]' EV='$(touch ran)'")
			}
			p.runsNothing(b.path("ran"))
			if _, err := os.Stat(b.path("evil")); err == nil {
				t.Error("a room's subject was run")
			}
		})
	}
}

// runsNothing makes sure that what a line says besides, which would make a file, is not done before it is entered.
func (p *person) runsNothing(ran string) {
	p.t.Helper()
	for n, word := range []string{"$(touch ran)", `"$(touch ran)"`, "`touch ran`", "${x:-$(touch ran)}", "<(touch ran)", "(touch ran)", "'a;touch ran'", "--bus $(touch ran)", "$[AV]", "${EV@P}", "${HOME:AV}", "${a[AV]}"} {
		p.completes("unibus pub "+word, "Space", "Tab")
		p.completes(fmt.Sprint("end", n))
		p.presses("C-u")
		if _, err := os.Stat(ran); err == nil {
			p.t.Fatalf("%s was run", word)
		}
	}
}

// bashPackage is what the package bash-completion has shells read.
const bashPackage = "/usr/share/bash-completion/bash_completion"

// completes types a text, and presses keys behind it.
func (p *person) completes(text string, keys ...string) {
	p.t.Helper()
	p.must(p.Type(text))
	p.waits(text)
	p.presses(keys...)
}
