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
)

// TestHouse: files are short, and made of short functions and small types, and whatever is exported says what it
// promises.
func TestHouse(t *testing.T) {
	found := breaches(t)
	for _, b := range slices.Sorted(maps.Keys(found)) {
		t.Errorf("%s: %s", b, found[b])
	}
}

// breaches are what breaks a rule, "rule place", and by how much. Places have no line numbers: those move.
func breaches(t *testing.T) map[string]string {
	found := map[string]string{}
	methods := map[string]int{} // by folder and type
	for _, file := range goFiles(t) {
		text, err := os.ReadFile(root + file)
		if err != nil {
			t.Fatal(err)
		}
		longest, test := maxFile, strings.HasSuffix(file, "_test.go")
		if test {
			longest = maxTestFile
		}
		if n := bytes.Count(text, []byte("\n")); n > longest {
			found["file "+file] = fmt.Sprintf("%d lines, more than %d", n, longest)
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		functions(fset, parsed, file, found, methods)
		if !test {
			undocumented(parsed, file, found)
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
		if !ok {
			continue
		}
		name := f.Name.Name
		if of := receiver(f); of != "" {
			name = of + "." + name
			folder := path.Dir(file)
			if folder == "." {
				folder = path.Base(module)
			}
			methods[folder+"."+of]++
		}
		if n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1; n > maxFunction {
			found["function "+file+" "+name] = fmt.Sprintf("%d lines, more than %d", n, maxFunction)
		}
	}
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
