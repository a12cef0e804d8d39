// Command pictures writes docs/pictures: what the program looks like, each picture from a real run of it in a real terminal.
// It needs tmux. What the pictures show is in pictures.go, and is all there is to change for another one.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// patience is how long all of it may take.
const patience = 5 * time.Minute

func main() {
	dir := flag.String("dir", filepath.Join("docs", "pictures"), "the folder to write to")
	only := flag.String("only", "", "the name of the one picture to write")
	flag.Parse()
	if err := run(*dir, *only); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

// run writes the pictures, or one of them.
func run(dir, only string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := newStage(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	for _, p := range pictures {
		if only != "" && p.name != only {
			continue
		}
		drawn, err := s.draw(p)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, p.name+".svg"), drawn, 0o644)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}
