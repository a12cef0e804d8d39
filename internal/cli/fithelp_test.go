package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// helpAt is what help of a command looks like on a terminal of a width; 0: for a pipe.
func helpAt(t *testing.T, b *testBus, width int, args ...string) string {
	t.Helper()
	a := newApp(b.temp(""), b.temp(""), b.temp(""))
	a.out.width = width
	root := newRoot(a)
	root.SetOut(a.out)
	root.SetArgs(append([]string{"help"}, args...))
	if err := root.Execute(); err != nil {
		t.Fatalf("help %s: %v", args, err)
	}
	a.out.Flush()
	page, err := os.ReadFile(a.out.raw.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// TestHelpFits: no line of any command's help is wider than the terminal, but for examples, which are there to be copied, and
// nothing of it is lost.
func TestHelpFits(t *testing.T) {
	b := newTestBus(t)
	var each func(c *cobra.Command, check func(args []string))
	each = func(c *cobra.Command, check func(args []string)) {
		check(strings.Fields(c.CommandPath())[1:])
		for _, sub := range c.Commands() {
			each(sub, check)
		}
	}
	pages := 0
	each(newRoot(newApp(b.temp(""), b.temp(""), b.temp(""))), func(args []string) {
		pages++
		whole := words(helpAt(t, b, 0, args...))
		for _, width := range []int{50, 80, 200} {
			page := helpAt(t, b, width, args...)
			if got := words(page); got != whole && !strings.Contains(page, "# ") { // comments go before their examples
				t.Errorf("help %s in %d columns says\n%s\ninstead of\n%s", args, width, got, whole)
			}
			examples := false
			for line := range strings.Lines(page) {
				line = strings.TrimRight(line, " \n")
				if line != "" && line[0] != ' ' {
					examples = line == "Examples:"
				}
				if most := min(width, maxHelpWidth); !examples && columns(line) > most {
					t.Errorf("help %s in %d columns: %q has %d", args, width, line, columns(line))
				}
			}
		}
	})
	if pages < 40 {
		t.Errorf("only %d pages were looked at", pages)
	}
}

// words are those of a text, whatever is between them.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }

// TestFitHelp: what follows on stands below what it goes on with; a comment that has no room goes before its example.
func TestFitHelp(t *testing.T) {
	const page = `Print what there is, in as many
words as it takes.

Examples:
  unibus sub 'ops.>' | grep -i error
  unibus serve &       # the bus

Flags:
      --all    every one of the messages there are
  -h       help
Usage:
  unibus doctor --one --two --three
`
	const want = `Print what there is, in as
many words as it takes.

Examples:
  unibus sub 'ops.>' | grep -i error
  # the bus
  unibus serve &

Flags:
      --all
          every one of the
          messages there are
  -h       help
Usage:
  unibus doctor --one --two
  --three
`
	if got := fitHelp(page, 28); got != want {
		t.Errorf("%s\ninstead of\n%s", got, want)
	}
	if got := fitHelp(page, 0); got != page {
		t.Errorf("for a pipe: %s", got)
	}
	if got := fitHelp("  -a  one two three four five six seven\n", 30); got != "  -a  one two three four five\n      six seven\n" {
		t.Errorf("%q", got)
	}
}
