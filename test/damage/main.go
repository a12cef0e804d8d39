// Command damage breaks what a bus keeps on its disk, one thing at a time, and looks at what people see of it
// then. Of a stored room that three people wrote to it flips bits, and removes blocks, files and folders, each on a
// fresh copy of what a server left that was stopped, and of one that was killed (room). Of the SQLite store's
// write-ahead log it flips every byte that the last changes wrote (log). It prints what came of each kind of
// damage, and fails when something is not as promised.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"

	"github.com/unibus/unibus/test/run"
)

var (
	binary  = flag.String("unibus", "bin/unibus", "the program under test")
	folder  = flag.String("dir", "", "an empty folder to work in, which is kept (default one that is removed)")
	verbose = flag.Bool("v", false, "tell more")
	workers = flag.Int("workers", 2, "how many copies are looked at at once")
	seed    = flag.Uint64("seed", 1, "of what is chosen by chance")
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "damage [flags] [room] [log]")
		flag.PrintDefaults()
	}
	flag.Parse()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"room", "log"}
	}
	tries := map[string]func(ctx context.Context, dir string) error{"room": damagedRoom, "log": damagedLog}
	for _, name := range names {
		if tries[name] == nil {
			flag.Usage()
			os.Exit(2)
		}
	}
	run.Main(func(ctx context.Context) error {
		var failed []error
		for _, name := range names {
			if err := within(ctx, name, tries[name]); err != nil {
				failed = append(failed, fmt.Errorf("%s: FAILED: %w", name, err))
			}
		}
		return errors.Join(failed...)
	})
}

// within calls f with a folder of its own.
func within(ctx context.Context, name string, f func(ctx context.Context, dir string) error) error {
	dir, err := os.MkdirTemp(*folder, "unibus-damage-"+name+"-")
	if err != nil {
		return err
	}
	if *folder == "" {
		defer os.RemoveAll(dir)
	}
	return f(ctx, dir)
}

// tell logs what only those want to know who look closely.
func tell(format string, args ...any) {
	if *verbose {
		log.Printf(format, args...)
	}
}
