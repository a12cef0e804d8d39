package main

import (
	"bytes"
	"cmp"
	"context"
	_ "embed" // of hooks
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/unibus/unibus/test/run"
)

// hooks is what the mutants in a package call.
//
//go:embed hooks.go.txt
var hooks string

// binary is the tests of a package with all its mutants.
type binary struct {
	*suspect
	path  string
	out   string   // where a test writes which mutants it reaches
	rapid []string // flags of package rapid, if its tests use it
}

// steady makes random tests try the same every time, and write down no failures, which are meant here.
var steady = []string{"-rapid.seed=1", "-rapid.nofailfile"}

// try is a test that reaches a mutant, and how long it takes without it.
type try struct {
	test string
	took time.Duration
}

// patience is how much longer than usual a test may take with a mutant; one that hangs has failed.
const patience = 2 * time.Minute

// build compiles the tests of a package from altered copies of its files.
func (s *suspect) build(ctx context.Context, dir string) (*binary, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	b := &binary{suspect: s, path: filepath.Join(dir, "test"), out: filepath.Join(dir, "reached")}
	own := filepath.Join(s.dir, "mutants_hooks.go") // exists in the overlay only
	s.source.files[own] = fmt.Appendf(nil, hooks, s.source.name, len(s.mutants)+1)
	file, err := run.Overlay(dir, s.source.files)
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", file, "-o", b.path, "./"+s.dir).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	flags, _ := b.command(ctx, 0, "-help").CombinedOutput() // which counts as a failure
	if bytes.Contains(flags, []byte("-rapid.nofailfile")) {
		b.rapid = steady
	}
	return b, nil
}

// reached runs every test by itself, and says which reach which mutants, the quickest first.
func (b *binary) reached(ctx context.Context) (map[int][]try, error) {
	names, err := b.command(ctx, 0, "-test.list", ".").Output()
	if err != nil {
		return nil, err
	}
	by := map[int][]try{}
	for _, test := range strings.Fields(string(names)) {
		if test == b.skip {
			continue
		}
		began := time.Now()
		numbers, out, err := b.run(ctx, 0, test, patience)
		if err != nil {
			return nil, fmt.Errorf("%s without any mutant: %w\n%s", test, err, out)
		}
		for _, n := range numbers {
			by[n] = append(by[n], try{test, time.Since(began)})
		}
	}
	for _, tries := range by {
		slices.SortStableFunc(tries, func(a, b try) int { return cmp.Compare(a.took, b.took) })
	}
	return by, nil
}

// kill runs the tests that reach a mutant, until one fails because of it.
func (b *binary) kill(ctx context.Context, n int, tries []try) (bool, error) {
	for _, t := range tries {
		numbers, _, err := b.run(ctx, n, t.test, t.took+patience)
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
			return false, errors.Join(err, ctx.Err())
		}
		if err != nil && slices.Contains(numbers, n) {
			return true, nil
		}
	}
	return false, nil
}

// run runs one test with one mutant, and returns which mutants it reached.
func (b *binary) run(ctx context.Context, n int, test string, timeout time.Duration) (numbers []int, out []byte, err error) {
	if err := os.WriteFile(b.out, nil, 0o600); err != nil {
		return nil, nil, err
	}
	args := append([]string{"-test.short", "-test.failfast", "-test.run", "^" + test + "$", "-test.timeout", timeout.String()}, b.rapid...)
	out, failed := b.command(ctx, n, args...).CombinedOutput()
	text, err := os.ReadFile(b.out)
	if err != nil {
		return nil, out, err
	}
	for _, word := range strings.Fields(string(text)) {
		number, err := strconv.Atoi(word)
		if err != nil {
			return nil, out, err
		}
		numbers = append(numbers, number)
	}
	return numbers, out, failed
}

func (b *binary) command(ctx context.Context, n int, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.path, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "UNIBUS_MUTANT="+strconv.Itoa(n), "UNIBUS_MUTANTS_REACHED="+b.out)
	return cmd
}
