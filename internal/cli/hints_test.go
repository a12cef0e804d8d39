package cli

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestHintsStandInOneFile: what helps is written in hints.go, and everywhere else taken from there.
func TestHintsStandInOneFile(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	for _, name := range files {
		if name == "hints.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := goparser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.Ident); !ok || f.Name != "hinted" || len(call.Args) != 2 {
				return true
			}
			calls++
			ast.Inspect(call.Args[1], func(n ast.Node) bool {
				if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
					t.Errorf("%v: the hint %s does not stand in hints.go", set.Position(text.Pos()), text.Value)
				}
				return true
			})
			return true
		})
	}
	if calls < 10 {
		t.Errorf("only %d hints were looked at", calls)
	}
}
