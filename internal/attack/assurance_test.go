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
	inFolder = regexp.MustCompile("^`([^`]+)` `Test")
	aTest    = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
)

// TestAssurance: docs/assurance.md names tests that are there, at least one in each line, and all of this
// package.
func TestAssurance(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs", "assurance.md"))
	if err != nil {
		t.Fatal(err)
	}
	named, lines := map[string]bool{}, 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| attack |") {
			continue
		}
		if lines++; len(cells) != 3 {
			t.Errorf("not three cells: %s", line)
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
	if lines == 0 {
		t.Error("docs/assurance.md has no lines")
	}
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
