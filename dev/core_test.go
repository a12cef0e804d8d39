package dev

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// The core does no I/O and knows no clock: who calls it says what was read, and what time it is. That is held here by what its
// packages import, and by what they take from time.

// core are the packages that the rule is for.
var core = []string{"internal/crypto", "internal/ledger", "internal/inbox", "internal/outbox"}

var (
	// outside are the parts of the standard library that reach out of a process; what is below them does, too.
	outside = []string{"os", "net", "net/http", "io/fs", "io/ioutil", "syscall", "database/sql", "log", "log/slog", "path/filepath"}
	// clock is what time tells or waits for by itself.
	clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
)

// TestCore: no file of the core that is not a test imports what reaches out, or asks for the time.
func TestCore(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range goFiles(t) {
		folder := path.Dir(file)
		if !slices.Contains(core, folder) || isTest(file) {
			continue
		}
		seen[folder] = true
		for _, why := range impure(t, parse(t, file).File) {
			t.Errorf("%s: %s", file, why)
		}
	}
	if len(seen) != len(core) {
		t.Errorf("looked at %v only", seen)
	}
}

// TestImpure: what the core may not have is told.
func TestImpure(t *testing.T) {
	for text, wrong := range map[string]bool{
		`import "net/http"`: true, `import "os/exec"`: true, `import "os"`: true, `import "log/slog"`: true,
		`import "time"; var _ = time.Now`:           true,
		`import "time"; func f() { time.Sleep(1) }`: true,
		`import "time"; var _ = time.Second`:        false,
		`import "errors"`:                           false,
	} {
		parsed, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x; "+text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := impure(t, parsed); (len(got) > 0) != wrong {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// impure says what a file has that the core may not have.
func impure(t *testing.T, parsed *ast.File) (why []string) {
	for _, p := range imports(t, parsed) {
		for _, o := range outside {
			if p == o || strings.HasPrefix(p, o+"/") {
				why = append(why, "it imports "+p+", which reaches out")
				break
			}
		}
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if of, ok := s.X.(*ast.Ident); ok && of.Name == "time" && slices.Contains(clock, s.Sel.Name) {
				why = append(why, "it asks for the time: time."+s.Sel.Name)
			}
		}
		return true
	})
	return why
}
