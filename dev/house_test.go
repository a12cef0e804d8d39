package dev

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// This file measures every Go file against the rules of the house, beside what make lint asks of it. There are no
// exceptions.

const root = "../"

// The rules, in lines and methods; test files may be longer, since a table of cases is not easier to read in two.
const (
	maxFunction = 60
	maxFile     = 400
	maxTestFile = 700
	maxMethods  = 20

	mostly    = 45 // lines of 95 functions in 100
	leastTold = 12 // lines with comments in 100, of those that are not empty
)

// TestHouse: files are short, and made of short functions and small types, and whatever is exported says what it
// promises.
func TestHouse(t *testing.T) {
	found := breaches(t)
	for _, b := range slices.Sorted(maps.Keys(found)) {
		t.Errorf("%s: %s", b, found[b])
	}
}

// TestShares: most functions are shorter still, and the code tells enough of why it is as it is.
func TestShares(t *testing.T) {
	var lengths []int
	told, lines := 0, 0
	for _, file := range goFiles(t) {
		if isTest(file) {
			continue
		}
		g := parse(t, file)
		for _, d := range g.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				lengths = append(lengths, length(g.fset, f))
			}
		}
		for _, c := range g.Comments {
			told += length(g.fset, c)
		}
		for line := range bytes.Lines(g.text) {
			if len(bytes.TrimSpace(line)) > 0 {
				lines++
			}
		}
	}
	slices.Sort(lengths)
	if p95 := lengths[len(lengths)*95/100]; p95 > mostly {
		t.Errorf("5 functions in 100 have %d lines or more, more than %d", p95, mostly)
	}
	if 100*told < leastTold*lines {
		t.Errorf("%d of %d lines have comments, fewer than %d in 100", told, lines, leastTold)
	}
}

// length is how many lines something takes.
func length(fset *token.FileSet, n ast.Node) int {
	return fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1
}

// breaches are what breaks a rule, "rule place", and by how much. Places have no line numbers: those move.
func breaches(t *testing.T) map[string]string {
	found := map[string]string{}
	methods := map[string]int{} // by folder and type
	for _, file := range goFiles(t) {
		g := parse(t, file)
		longest, test := maxFile, isTest(file)
		if test {
			longest = maxTestFile
		}
		if n := bytes.Count(g.text, []byte("\n")); n > longest {
			found["file "+file] = fmt.Sprintf("%d lines, more than %d", n, longest)
		}
		functions(g.fset, g.File, file, found, methods)
		if test {
			sleeps(g.fset, g.File, file, found)
		} else {
			undocumented(g.File, file, found)
		}
	}
	for of, n := range methods {
		if n > maxMethods {
			found["type "+of] = fmt.Sprintf("%d methods, more than %d", n, maxMethods)
		}
	}
	return found
}

// functions measures the functions of a file, and counts the methods of types.
func functions(fset *token.FileSet, parsed *ast.File, file string, found map[string]string, methods map[string]int) {
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok { // a function may stand in a variable as well
			ast.Inspect(d, func(n ast.Node) bool {
				if f, ok := n.(*ast.FuncLit); ok && length(fset, f) > maxFunction {
					found["function "+file+" without a name"] = fmt.Sprintf("%d lines, more than %d", length(fset, f), maxFunction)
				}
				return true
			})
			continue
		}
		name := f.Name.Name
		if name == "init" && f.Recv == nil {
			found["init "+file] = "it runs in every program, before anybody asked for anything"
		}
		if of := receiver(f); of != "" {
			name = of + "." + name
			folder := path.Dir(file)
			if folder == "." {
				folder = path.Base(module)
			}
			methods[folder+"."+of]++
		}
		if n := length(fset, f); n > maxFunction {
			found["function "+file+" "+name] = fmt.Sprintf("%d lines, more than %d", n, maxFunction)
		}
	}
}

// sleeps finds the places where a test waits for a time, rather than for what it waits for. One that looks again and again
// may pause in between, in the head of its loop.
func sleeps(fset *token.FileSet, parsed *ast.File, file string, found map[string]string) {
	look := func(statements []ast.Stmt) {
		for _, s := range statements {
			e, ok := s.(*ast.ExprStmt)
			if !ok {
				continue
			}
			x := e.X
			if receives, ok := x.(*ast.UnaryExpr); ok && receives.Op == token.ARROW {
				x = receives.X
			}
			call, ok := x.(*ast.CallExpr)
			if !ok {
				continue
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				continue
			}
			if of, ok := f.X.(*ast.Ident); ok && of.Name == "time" && (f.Sel.Name == "Sleep" || f.Sel.Name == "After") {
				found[fmt.Sprintf("sleep %s:%d", file, fset.Position(s.Pos()).Line)] = "a test waits for what it waits for, not for a time"
			}
		}
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BlockStmt:
			look(n.List)
		case *ast.CaseClause:
			look(n.Body)
		case *ast.CommClause:
			look(n.Body)
		}
		return true
	})
}

// receiver is the type that a function is a method of; empty for none.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of := f.Recv.List[0].Type
	for {
		switch x := of.(type) {
		case *ast.StarExpr:
			of = x.X
		case *ast.IndexExpr:
			of = x.X
		case *ast.IndexListExpr:
			of = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// undocumented finds the exported names of a file without a comment. What stands in a group of names is documented by
// the comment of the group, or at the end of its line.
func undocumented(parsed *ast.File, file string, found map[string]string) {
	tell := func(name *ast.Ident) {
		if name.IsExported() {
			found["comment "+file+" "+name.Name] = "it is exported, and nothing says what it promises"
		}
	}
	for _, d := range parsed.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if of := receiver(d); d.Doc == nil && (of == "" || ast.IsExported(of)) {
				tell(d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if d.Doc == nil && s.Doc == nil && s.Comment == nil {
						tell(s.Name)
					}
					if i, ok := s.Type.(*ast.InterfaceType); ok && s.Name.IsExported() {
						for _, m := range i.Methods.List {
							for _, name := range m.Names {
								if m.Doc == nil && m.Comment == nil {
									tell(name)
								}
							}
						}
					}
				case *ast.ValueSpec:
					for _, name := range s.Names {
						if d.Doc == nil && s.Doc == nil && s.Comment == nil {
							tell(name)
						}
					}
				}
			}
		}
	}
}

// goFile is a file as it is read, and as it is parsed.
type goFile struct {
	*ast.File
	fset *token.FileSet
	text []byte
}

// parse reads a file, by its path from the root.
func parse(t *testing.T, file string) goFile {
	t.Helper()
	text, err := os.ReadFile(root + file)
	if err != nil {
		t.Fatal(err)
	}
	g := goFile{fset: token.NewFileSet(), text: text}
	if g.File, err = parser.ParseFile(g.fset, file, text, parser.ParseComments); err != nil {
		t.Fatal(err)
	}
	return g
}

// imports are the paths of what a file imports.
func imports(t *testing.T, parsed *ast.File) (paths []string) {
	t.Helper()
	for _, i := range parsed.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}

// isTest reports whether a file is of tests.
func isTest(file string) bool { return strings.HasSuffix(file, "_test.go") }

// goFiles are all Go files of the repository, by their paths from its root.
func goFiles(t *testing.T) []string {
	var files []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && p != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || name == "dist") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(name, ".go") {
			rel, err := filepath.Rel(root, p)
			files = append(files, filepath.ToSlash(rel))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
