package cli

import (
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
		"bash": {"PS1='> ' exec bash --norc --noprofile", "source <(unibus completion bash)"},
		"zsh":  {"PS1='> ' exec zsh -f", "autoload -U compinit; compinit -u -D; source <(unibus completion zsh)"},
		"fish": {"exec fish --no-config", "function fish_prompt; echo -n '> '; end; unibus completion fish | source"},
	} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				t.Skip(shell + " is not installed")
			}
			p := b.sitDown(t, "admin", 100)
			p.types(lines[0])
			p.must(p.AwaitScreen(p.ctx, "its prompt", func(screen string) bool {
				_, last, _ := strings.Cut(screen, "\n")
				return last != "" && last != "$"
			}))
			p.types(lines[1], "clear")
			p.must(p.AwaitScreen(p.ctx, "a clear screen", func(screen string) bool { return strings.HasPrefix(screen, ">") && !strings.Contains(screen, "clear") }))
			if shell == "bash" { // it shows what there is when it is asked twice
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
			if _, err := os.Stat(b.path("evil")); err == nil {
				t.Error("a room's subject was run")
			}
		})
	}
}

// completes types a text, and presses keys behind it.
func (p *person) completes(text string, keys ...string) {
	p.t.Helper()
	p.must(p.Type(text))
	p.waits(text)
	p.presses(keys...)
}
