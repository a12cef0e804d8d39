package main

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// This file knows what a package declares: by it an error is told from a value, and a bound from a number.

// declared is what the package declares.
type declared struct {
	tells  map[string]bool // functions with a parameter why
	makes  map[string]bool // functions that do nothing but make an error
	bounds map[string]bool // constants that are numbers
}

// learn takes note of what the package declares.
func (d *declared) learn(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if hasWhy(n.Type) {
				d.tells[n.Name.Name] = true
			}
			if makesError(n) {
				d.makes[n.Name.Name] = true
			}
		case *ast.Field:
			if t, ok := n.Type.(*ast.FuncType); ok && hasWhy(t) {
				for _, name := range n.Names {
					d.tells[name.Name] = true
				}
			}
		case *ast.GenDecl:
			if n.Tok == token.CONST {
				d.constants(n)
			}
		}
		return true
	})
}

// constants takes note of the constants that are numbers: whatever is compared with one is bounded by it.
func (d *declared) constants(decl *ast.GenDecl) {
	for _, spec := range decl.Specs {
		v := spec.(*ast.ValueSpec)
		for i, name := range v.Names {
			if i >= len(v.Values) {
				continue
			}
			if lit, ok := v.Values[i].(*ast.BasicLit); !ok || lit.Kind != token.STRING {
				d.bounds[name.Name] = true
			}
		}
	}
}

// isError reports whether an expression may be an error.
func (d *declared) isError(e ast.Expr) bool { return d.isMade(e) || isIdent(e, "err") }

// isMade reports whether an expression is an error made there.
func (d *declared) isMade(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return strings.HasPrefix(e.Name, "Err")
	case *ast.SelectorExpr:
		return strings.HasPrefix(e.Sel.Name, "Err")
	case *ast.UnaryExpr:
		lit, ok := e.X.(*ast.CompositeLit)
		return ok && e.Op == token.AND && isIdent(lit.Type, "Invalid")
	case *ast.CallExpr:
		return calls(e, "Errorf") || isNewError(e) || d.makes[called(e)]
	}
	return false
}

// bounded reports whether a condition compares something with a constant number of the package.
func (d *declared) bounded(cond ast.Expr) bool {
	found := false
	ast.Inspect(cond, func(n ast.Node) bool {
		if b, ok := n.(*ast.BinaryExpr); ok {
			switch b.Op {
			case token.EQL, token.LSS, token.LEQ, token.GTR, token.GEQ:
				found = found || d.isBound(b.X) || d.isBound(b.Y)
			}
		}
		return true
	})
	return found
}

// isBound reports whether an expression is such a constant.
func (d *declared) isBound(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && d.bounds[id.Name]
}

// hasWhy reports whether a function is told why: then it tells somebody of something unwanted.
func hasWhy(t *ast.FuncType) bool {
	return slices.ContainsFunc(t.Params.List, func(p *ast.Field) bool {
		return isIdent(p.Type, "string") && slices.ContainsFunc(p.Names, func(n *ast.Ident) bool { return n.Name == "why" })
	})
}

// makesError reports whether a function is short for fmt.Errorf, or for an error of a type of its own.
func makesError(fn *ast.FuncDecl) bool {
	if fn.Body == nil || len(fn.Body.List) != 1 || !returns(fn.Type, "error") || fn.Type.Results.NumFields() != 1 {
		return false
	}
	if p := fn.Type.Params.List; len(p) == 0 || !isIdent(p[0].Type, "string") {
		return false
	}
	ret, ok := fn.Body.List[0].(*ast.ReturnStmt)
	return ok && len(ret.Results) == 1 && (calls(ret.Results[0], "Errorf") || isMadeThere(ret.Results[0]))
}

// isMadeThere reports whether an expression is &T{…}.
func isMadeThere(e ast.Expr) bool {
	made, ok := e.(*ast.UnaryExpr)
	if !ok || made.Op != token.AND {
		return false
	}
	_, ok = made.X.(*ast.CompositeLit)
	return ok
}
