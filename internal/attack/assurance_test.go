package attack

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Of a line of docs/assurance.md: the folder that tests are in, and the tests.
var (
	inFolder  = regexp.MustCompile("^`([^`]+)` `Test")
	aSentence = regexp.MustCompile("\\. ([A-Z`])") // its end, and how the next begins
	aTest     = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
)

// TestAssurance: docs/assurance.md names tests that are there, at least one in each line, and all of this
// package.
func TestAssurance(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs", "assurance.md"))
	if err != nil {
		t.Fatal(err)
	}
	named, lines, said, promised := map[string]bool{}, 0, map[string]bool{}, promisesIn(t, filepath.Join(root, "docs", "promises.md"))
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| attack |") || strings.HasPrefix(line, "| the promise |") {
			continue
		}
		if lines++; len(cells) != 3 {
			t.Errorf("not three cells: %s", line)
			continue
		}
		said[strings.TrimPrefix(cells[0], "| ")] = true
		if cells[1] == "none" && promised[strings.TrimPrefix(cells[0], "| ")] == noPromise {
			continue
		}
		folder := ""
		for _, part := range strings.Split(cells[1], ", ") {
			if m := inFolder.FindStringSubmatch(part); m != nil {
				folder = m[1]
			}
			name := aTest.FindStringSubmatch(part)
			if name == nil || !testsIn(t, filepath.Join(root, folder))[name[1]] {
				t.Errorf("there is no test %s in %s", part, folder)
				continue
			}
			named[folder+" "+name[1]] = true
		}
	}
	for name := range testsIn(t, ".") {
		if name != "TestAssurance" && !named["internal/attack "+name] {
			t.Errorf("docs/assurance.md does not tell of %s", name)
		}
	}
	for sentence := range promised {
		if !said[sentence] {
			t.Errorf("docs/assurance.md does not tell what is behind: %s", sentence)
		}
	}
	if lines == 0 || len(promised) == 0 {
		t.Error("docs/assurance.md or docs/promises.md has no lines")
	}
}

// What a sentence of docs/promises.md is.
const (
	promise = iota + 1
	noPromise
)

// promisesIn are the sentences of what is promised, and what is not.
func promisesIn(t *testing.T, path string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for heading, kind := range map[string]int{"## What it promises\n": promise, "## What it does not promise\n": noPromise} {
		_, rest, ok := strings.Cut(string(text), heading)
		if !ok {
			t.Fatalf("%s has no %s", path, heading)
		}
		section, _, _ := strings.Cut(rest, "\n## ")
		for _, point := range strings.Split("\n"+section, "\n- ")[1:] {
			point, _, _ = strings.Cut(point, "\n\n")
			words := strings.Join(strings.Fields(point), " ")
			for _, sentence := range strings.Split(aSentence.ReplaceAllString(words, ".\n$1"), "\n") {
				out[sentence] = kind
			}
		}
	}
	return out
}

// testsIn are the tests in a folder, of all packages there.
func testsIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") && fn.Name.Name != "TestMain" {
				out[fn.Name.Name] = true
			}
		}
	}
	return out
}
