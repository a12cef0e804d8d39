// Command unibus is private rooms on a shared NATS bus; see the README.
package main

import (
	"os"

	"github.com/unibus/unibus/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
