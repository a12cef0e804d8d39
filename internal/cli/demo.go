package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/unibus/unibus/internal/cli/demo"
)

// demo shows the story that package demo plays: a line for each step when it is done, below it what there is to see, and
// at the end what was measured. With JSON only that.

// demoCommand is demo and its flags.
type demoCommand struct {
	a *app
	// input is a file whose lines are sent; empty: a book.
	input string
}

// newDemo makes demo.
func newDemo(a *app) *cobra.Command {
	d := &demoCommand{a: a}
	c := &cobra.Command{
		Use: "demo", Short: "Show the whole story on this machine, checking every step", Args: cobra.NoArgs,
		Long: "Found a bus in a temporary directory, allowlist alice and bob, make an encrypted room, send a\nbook through it, look at what the server kept of it, and revoke bob. Every step is checked; it\nends with 0 only if all went as told.",
		Example: `  unibus demo
  unibus demo --input notes.txt
  unibus demo -o json | jq .send_rate`,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	c.Flags().StringVar(&d.input, "input", "", "send the lines of `FILE` instead of a book")
	return c
}

// run plays the story in a folder that is gone afterwards. It fails with the first step that did not go as told.
func (d *demoCommand) run(ctx context.Context) error {
	out := d.a.out
	lines, err := d.lines()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "unibus-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// People are told of each step while the next one runs; a script gets one value at the end.
	if !out.json {
		fmt.Fprintln(out, "unibus demo: two people, one bus, one private room, a server that is not trusted")
		fmt.Fprintln(out)
	}
	facts, err := demo.Run(ctx, demo.Options{Dir: dir, Lines: lines, Visible: visible, Step: d.printStep})
	if err != nil {
		return err
	}
	return out.value(facts, func() {
		fmt.Fprintf(out, "\nall %d checks passed: %s lines, %s\nsent and acknowledged in %s, %s lines/s; read in %s, %s lines/s\n",
			facts.Steps, humanize.Comma(int64(facts.Lines)), humanize.Bytes(facts.Bytes),
			facts.Send, humanize.Comma(facts.SendRate), facts.Read, humanize.Comma(facts.ReadRate))
	})
}

// lines are those of the file, or of the book.
func (d *demoCommand) lines() ([][]byte, error) {
	in, err := d.open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var lines [][]byte
	cut := pubFlags{} // into messages, as pub does
	_, err = cut.messages(in, func(body []byte) error {
		lines = append(lines, append([]byte{}, body...))
		return nil
	})
	if err == nil && len(lines) == 0 {
		err = usage("--input %s: it has no lines", d.input)
	}
	return lines, err
}

// open opens the file that is to be sent, or the book.
func (d *demoCommand) open() (io.ReadCloser, error) {
	if d.input != "" {
		return openNamed("input", d.input)
	}
	return demo.Book()
}

// printStep prints a step that is done, and below it what there is to see of it.
func (d *demoCommand) printStep(name, detail string, _ time.Duration) {
	out := d.a.out
	if out.json {
		return
	}
	// Only the first line stands beside the name; others are what there is to see of the step.
	mark := "✓"
	if !out.plain {
		mark = text.FgGreen.Sprint(mark)
	}
	first, rest, _ := strings.Cut(detail, "\n")
	fmt.Fprintf(out, " %s %-35s %s\n", mark, name, first)
	for line := range strings.Lines(rest) {
		fmt.Fprint(out, "     ", line)
	}
	if rest != "" {
		fmt.Fprintln(out)
	}
	out.Flush()
}
