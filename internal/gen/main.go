// Command gen writes completions/ and man/ from the command tree. A test holds what is checked in
// against it.
package main

import (
	"fmt"
	"os"

	"github.com/unibus/unibus/internal/cli"
)

func main() {
	if err := cli.Generate("completions", "man"); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
