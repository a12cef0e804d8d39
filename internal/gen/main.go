// Command gen writes the folders completions/ and man/ below the working directory from the command tree, so that they say
// what the commands do say of themselves. They are checked in, for packages are made of them; a test in package cli fails
// when they are not current. What is in them is package cli's (Generate).
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
