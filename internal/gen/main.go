// Command gen writes the folders completions/ and man/ below the working directory from the command tree, so that they say
// what the commands do say of themselves. They are checked in, for packages are made of them; its test fails when they are
// not current. What is in them is package cli's (Generate). A page bears the month in which what it says last changed.
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/unibus/unibus/internal/cli"
)

func main() {
	if err := generate("completions", "man", "."); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// generate writes the two folders into one.
func generate(completions, man, into string) error {
	today, err := today()
	if err != nil {
		return err
	}
	fresh, err := os.MkdirTemp("", "gen")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := cli.Generate(filepath.Join(fresh, completions), filepath.Join(fresh, man), today.Format("Jan 2006")); err != nil {
		return err
	}
	for _, folder := range []string{completions, man} {
		if err := replace(filepath.Join(into, folder), filepath.Join(fresh, folder)); err != nil {
			return err
		}
	}
	return nil
}

// today is when pages that changed are said to be made; SOURCE_DATE_EPOCH, in seconds, for builds that are to be repeated.
func today() (time.Time, error) {
	seconds, err := strconv.ParseInt(cmp.Or(os.Getenv("SOURCE_DATE_EPOCH"), fmt.Sprint(time.Now().Unix())), 10, 64)
	return time.Unix(seconds, 0).UTC(), err
}

// replace makes the files of a folder those of a fresh one; files that differ in nothing but their date stay.
func replace(folder, fresh string) error {
	files, err := os.ReadDir(fresh)
	if err != nil {
		return err
	}
	kept := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(fresh, f.Name()))
		if err != nil {
			return err
		}
		if old, err := os.ReadFile(filepath.Join(folder, f.Name())); err == nil && bytes.Equal(undated(old), undated(b)) {
			b = old
		}
		kept[f.Name()] = b
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, b := range kept {
		if err := os.WriteFile(filepath.Join(folder, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// undated is a page without its date.
func undated(page []byte) []byte { return dated.ReplaceAll(page, []byte("$1")) }

// dated is the title of a page, up to its date.
var dated = regexp.MustCompile(`(?m)^(\.TH "[A-Z-]+" "1") "[A-Z][a-z]{2} 20[2-9][0-9]"`)
