package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/freeport"
)

// TestReadme: the blocks of the README that lead from nothing to a message do that, pasted one after the other into each
// shell there is.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "## From nothing to a message, in three blocks\n")
	blocks := strings.Split(section, "```sh\n")
	if !found || len(blocks) < 4 {
		t.Fatal("the README has no three blocks")
	}
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, block := range blocks[1:4] {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(block) {
			if !strings.HasPrefix(line, "make install ") && !strings.HasPrefix(line, "export PATH=") { // this program is what is tested
				script.WriteString(line)
			}
		}
	}
	script.WriteString("kill $!\nwait\n")
	for shell, args := range map[string][]string{"bash": {"--norc", "--noprofile", "-i"}, "dash": {"-i"}, "zsh": {"-f", "-i"}} {
		t.Run(shell, func(t *testing.T) { paste(t, shell, args, script.String()) })
	}
}

// paste has a shell take a script as it takes what is typed, at another address than the default one, which it is for.
func paste(t *testing.T, shell string, args []string, script string) {
	path, err := exec.LookPath(shell)
	if err != nil {
		t.Skip(shell + " is not installed")
	}
	b := newTestBus(t)
	address := freeport.Local()
	t.Setenv("UNIBUS_LISTEN", address)
	t.Setenv("UNIBUS_SERVER", "nats://"+address)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(script, "127.0.0.1:4222", address))
	cmd.SysProcAttr = ownSession // or it would take the terminal of whoever runs the tests
	cmd.Dir = b.dir
	var told strings.Builder
	cmd.Stderr = &told
	out, err := cmd.Output()
	if err != nil || !strings.HasSuffix(string(out), "\ndisk full on db1\nlooking\n") {
		t.Errorf("%v\n%s\n%s", err, out, told.String())
	}
}
