// Command mutants shows that no rule goes untested. It puts a panic into each refusal of the packages that decide
// what is believed and who is let in, one at a time, and wants a test of that package to fail because of it.
//
// The refusals are found in the code (find.go) and listed in list.txt, so that a change shows which rules come and
// go. Those that cannot be tested stand in excused.txt, each with its reason. It fails when the list is not what the
// code says, when a mutant survives that is not excused, and when one is excused for nothing.
//
// No file of the packages is changed: one test binary a package is compiled from altered copies, with all mutants in
// it, and an environment variable says which one is to panic. A first run of each test tells which refusals it
// reaches; for each mutant then only such tests run, the quickest first, until one fails.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/unibus/unibus/test/run"
)

var (
	write = flag.Bool("write", false, "write the list anew")
	only  = flag.String("only", "", "look at mutants with this in their names only")
)

// subject is a package under test.
type subject struct {
	dir   string
	files []string // those that count; nil: all
	skip  string   // a test that does not run
}

// subjects are the packages whose refusals count. Of the service it is what decides about logins, and of its tests
// all but the conformance suite of stores, which takes long and logs in as it should.
var subjects = []subject{
	{dir: "internal/inbox"},
	{dir: "internal/ledger"},
	{dir: "internal/crypto"},
	{
		dir:   "internal/service",
		files: []string{"authorize.go", "login.go", "verify.go", "allowlist.go", "roster.go", "seats.go", "turns.go", "crowd.go", "hello.go"},
		skip:  "TestRemote",
	},
}

// listed and excusedFile are where this program keeps what it knows, from the top of the repository.
const (
	listed      = "test/mutants/list.txt"
	excusedFile = "test/mutants/excused.txt"
)

func main() {
	flag.Parse()
	run.Main(func(ctx context.Context) error {
		if *write {
			return writeList()
		}
		return check(ctx)
	})
}

// suspect is a package with its mutants.
type suspect struct {
	subject
	*source
}

// name is what a mutant has in the list.
func (s *suspect) name(n int) string { return s.dir + " " + s.mutants[n-1] }

// named reports whether any mutant of a package is to be looked at.
func (s *suspect) named() bool { return bytes.Contains(list([]*suspect{s}), []byte(*only)) }

func findAll() ([]*suspect, error) {
	var all []*suspect
	for _, s := range subjects {
		src, err := find(s.dir, func(file string) bool { return s.files == nil || slices.Contains(s.files, file) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.dir, err)
		}
		all = append(all, &suspect{s, src})
	}
	return all, nil
}

func list(all []*suspect) []byte {
	var out bytes.Buffer
	for _, s := range all {
		for n := range s.mutants {
			fmt.Fprintln(&out, s.name(n+1))
		}
	}
	return out.Bytes()
}

func writeList() error {
	all, err := findAll()
	if err != nil {
		return err
	}
	return os.WriteFile(listed, list(all), 0o644)
}

func check(ctx context.Context) error {
	all, err := findAll()
	if err != nil {
		return err
	}
	excuses, err := readExcuses()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "unibus-mutants-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	faults := []error{upToDate(list(all))}
	for i, s := range all {
		if !s.named() {
			continue
		}
		b, err := s.build(ctx, filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return fmt.Errorf("%s: %w", s.dir, err)
		}
		faults = append(faults, b.judge(ctx, excuses))
	}
	names := strings.Split(string(list(all)), "\n")
	for name := range excuses {
		if !slices.Contains(names, name) {
			faults = append(faults, fmt.Errorf("excused, and not there any more: %s", name))
		}
	}
	return errors.Join(faults...)
}

// upToDate compares the list with what the code says.
func upToDate(now []byte) error {
	was, err := os.ReadFile(listed)
	if err != nil {
		return err
	}
	if bytes.Equal(was, now) {
		return nil
	}
	old, current := strings.Split(string(was), "\n"), strings.Split(string(now), "\n")
	for _, line := range current {
		if !slices.Contains(old, line) {
			log.Println("not listed:", line)
		}
	}
	for _, line := range old {
		if !slices.Contains(current, line) {
			log.Println("listed, and not there any more:", line)
		}
	}
	return fmt.Errorf("%s is not what the code says: go run ./test/mutants -write", listed)
}

// readExcuses reads lines of a mutant's name, " # " and a reason. Others are empty, or begin with #.
func readExcuses() (map[string]string, error) {
	text, err := os.ReadFile(excusedFile)
	if err != nil {
		return nil, err
	}
	excuses := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndex(line, " # ")
		if i < 0 {
			return nil, fmt.Errorf("%s: no reason: %s", excusedFile, line)
		}
		excuses[line[:i]] = line[i+3:]
	}
	return excuses, nil
}

// judge tries all mutants of a package, and says which survive without an excuse, or do not need theirs.
func (b *binary) judge(ctx context.Context, excuses map[string]string) error {
	reached, err := b.reached(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", b.dir, err)
	}
	var faults []error
	killed, excused := 0, 0
	for n := 1; n <= len(b.mutants) && ctx.Err() == nil; n++ {
		name := b.name(n)
		if !strings.Contains(name, *only) {
			continue
		}
		dies, err := b.kill(ctx, n, reached[n])
		reason := excuses[name]
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case dies && reason != "":
			faults = append(faults, fmt.Errorf("excused for nothing, a test fails: %s", name))
		case dies:
			killed++
		case reason != "":
			excused++
		default:
			how := "no test reaches it"
			if len(reached[n]) > 0 {
				how = "no test fails"
			}
			faults = append(faults, fmt.Errorf("survives, %s: %s", how, name))
		}
	}
	log.Printf("%s: of %d mutants tests tell of %d, %d are excused, %d are at fault", b.dir, len(b.mutants), killed, excused, len(faults))
	return errors.Join(append(faults, ctx.Err())...)
}
