package main

import (
	"go/ast"
	"go/token"
	"strings"
)

// This file reads the form of single expressions and types.

// parts takes a condition apart at an operator.
func parts(e ast.Expr, op token.Token) []ast.Expr {
	if b, ok := e.(*ast.BinaryExpr); ok && b.Op == op {
		return append(parts(b.X, op), parts(b.Y, op)...)
	}
	return []ast.Expr{e}
}

// returns reports whether the last result of a function is of a type.
func returns(t *ast.FuncType, name string) bool {
	return t.Results != nil && isIdent(t.Results.List[len(t.Results.List)-1].Type, name)
}

// receiver is the name of the type that a method belongs to, without its parameters.
func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.IndexListExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return "?"
}

// isIdent reports whether an expression is this name and nothing more.
func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// isName reports whether an expression is any name.
func isName(e ast.Expr) bool {
	_, ok := e.(*ast.Ident)
	return ok
}

// isSentence reports whether an expression is a text for people.
func isSentence(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && lit.Kind == token.STRING && strings.Contains(lit.Value, " ")
}

// isNotice reports whether an expression makes a Notice, which somebody is told.
func isNotice(e ast.Expr) bool {
	lit, ok := e.(*ast.CompositeLit)
	return ok && isIdent(lit.Type, "Notice")
}

// called is the name of what is called, without the package or the value that it is of.
func called(call *ast.CallExpr) string {
	switch fn := call.Fun.(type) {
	case *ast.Ident:
		return fn.Name
	case *ast.SelectorExpr:
		return fn.Sel.Name
	}
	return ""
}

// calls reports whether an expression is a call of that name.
func calls(e ast.Expr, name string) bool {
	call, ok := e.(*ast.CallExpr)
	return ok && called(call) == name
}

// isNewError reports whether a call is one of errors.New.
func isNewError(call *ast.CallExpr) bool {
	fn, ok := call.Fun.(*ast.SelectorExpr)
	return ok && fn.Sel.Name == "New" && isIdent(fn.X, "errors")
}
