package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// This file walks over the functions of a package: what is declared there (declared.go) and the form of the code (form.go)
// say what is a refusal, and each is marked in the text (marker.go).

// source is a package's files, with a call put before each refusal.
type source struct {
	name    string            // of the package
	files   map[string][]byte // by path
	mutants []string          // what is told of each; their numbers in the calls begin with 1
}

// find finds the refusals in the files of a package that keep takes.
//
// It goes by the form of the code alone, so that a new refusal is found without anyone naming it:
//   - an error that is returned or kept, made there or passed on;
//   - a returned false, nil or sentence, and every part of a returned condition that makes it false;
//   - a return, continue or break before the end of its function or loop, and every part of a condition without
//     which the last that it would do is left out;
//   - what is told of something unwanted: a call with a parameter why, a Notice, a Kind that is given;
//   - what happens when something has reached a constant that bounds it.
//
// Of a refusal with several causes each is one, and of several that always come together the first.
func find(dir string, keep func(file string) bool) (*source, error) {
	fset := token.NewFileSet()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	s := &source{files: map[string][]byte{}}
	f := &finder{
		declared: declared{tells: map[string]bool{}, makes: map[string]bool{}, bounds: map[string]bool{}},
		marker:   marker{fset: fset, source: s, seen: map[string]int{}},
	}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		f.learn(file)
		if keep(filepath.Base(path)) {
			files = append(files, file)
		}
		s.name = file.Name.Name
	}
	for _, file := range files {
		if err := f.file(file); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// finder walks over the functions of a package: it decides by what is declared, and marks what it finds.
type finder struct {
	declared
	marker
}

// file looks for the refusals of one file, and keeps its text with all of them marked.
func (f *finder) file(file *ast.File) error {
	path := f.fset.Position(file.Pos()).Filename
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f.text, f.edits = text, nil
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil || f.makes[fn.Name.Name] {
			continue
		}
		f.fn = fn.Name.Name
		if fn.Recv != nil {
			f.fn = receiver(fn.Recv.List[0].Type) + "." + f.fn
		}
		f.block(fn.Body.List, whole(fn.Type))
	}
	f.source.files[path] = f.edited()
	return nil
}

// place is where statements stand.
type place struct {
	fn     *ast.FuncType
	when   []ast.Expr // each of which brings one here; nil when nothing does, or not each by itself
	header string     // what stands above
	before ast.Stmt   // the statement before; nil for none
	inner  bool       // not every way through the function leads here
	whole  bool       // it is all of a loop, or of a function that returns nothing
	loop   bool       // break leaves a loop
}

// under is a place in a block of a statement at p.
func (p place) under(header string, when ...ast.Expr) place {
	p.inner, p.header, p.when, p.before, p.whole = true, header, when, nil, false
	return p
}

// block looks for refusals among statements that follow one another. Of several in a row that always come together the
// first alone is one.
func (f *finder) block(list []ast.Stmt, p place) {
	told := false // by the statement before
	for i, s := range list {
		if f.unwanted(s, p) {
			if !told {
				f.refusal(list, i, p)
			}
			told = true
		}
		p := p
		if i > 0 {
			p.before = list[i-1]
		}
		p.whole = p.whole && i == len(list)-1
		if f.nested(s, p) {
			told = false
		}
	}
}

// whole is all of a function's body.
func whole(t *ast.FuncType) place { return place{fn: t, whole: t.Results == nil} }

// refusal takes the i-th statement of a block as a refusal, or what leads there, if that is several things.
func (f *finder) refusal(list []ast.Stmt, i int, p place) {
	if len(p.when) > 1 {
		for _, cause := range p.when {
			f.wrap(cause, "mutantIf", "when "+f.snippet(cause))
		}
		return
	}
	text := f.snippet(list[i])
	if f.vague(list[i]) {
		text = f.above(list, i, p) + ": " + text
	}
	if ret, ok := list[i].(*ast.ReturnStmt); ok && len(ret.Results) > 0 {
		if last := ret.Results[len(ret.Results)-1]; isIdent(last, "err") {
			f.wrap(last, "mutantErr", text)
			return
		}
	}
	f.before(list[i].Pos(), text)
}

// above is what leads to the i-th statement of a block.
func (f *finder) above(list []ast.Stmt, i int, p place) string {
	switch {
	case p.header != "":
		return p.header
	case i == 0:
		return "at once"
	}
	switch list[i-1].(type) {
	case *ast.AssignStmt, *ast.ExprStmt:
		return f.snippet(list[i-1])
	}
	return "at the end"
}

// vague reports whether a statement says too little of itself.
func (f *finder) vague(s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.BranchStmt:
		return true
	case *ast.ReturnStmt:
		return len(s.Results) == 0 || isName(s.Results[len(s.Results)-1])
	}
	return false
}

// unwanted reports whether a statement is a refusal in itself.
func (f *finder) unwanted(s ast.Stmt, p place) bool {
	switch s := s.(type) {
	case *ast.BranchStmt:
		return p.inner && (s.Tok == token.CONTINUE || s.Tok == token.BREAK && p.loop)
	case *ast.ReturnStmt:
		if len(s.Results) == 0 {
			return p.inner
		}
		last := s.Results[len(s.Results)-1]
		if returns(p.fn, "error") {
			nothing := !slices.ContainsFunc(s.Results, func(e ast.Expr) bool { return !isIdent(e, "nil") })
			return f.isError(last) || p.inner && nothing
		}
		return slices.ContainsFunc(s.Results, func(e ast.Expr) bool { return isIdent(e, "false") }) ||
			p.inner && isIdent(last, "nil") || isSentence(last) || p.fn.Results != nil && isIdent(p.fn.Results.List[0].Type, "Kind")
	case *ast.AssignStmt:
		_, kept := s.Lhs[0].(*ast.SelectorExpr)
		return s.Tok == token.ASSIGN && slices.ContainsFunc(s.Rhs, func(e ast.Expr) bool {
			return f.isMade(e) || isSentence(e) || kept && (isIdent(e, "err") || calls(e, "Error"))
		})
	case *ast.ExprStmt:
		call, ok := s.X.(*ast.CallExpr)
		return ok && (f.tells[called(call)] || slices.ContainsFunc(call.Args, isNotice))
	}
	return false
}

// nested looks for refusals inside of a statement. It reports whether there may be a way past what follows it.
func (f *finder) nested(s ast.Stmt, p place) bool {
	switch s := s.(type) {
	case *ast.IfStmt:
		f.conditional(s, p)
	case *ast.SwitchStmt:
		p.loop = false
		f.clauses(s, p)
	case *ast.TypeSwitchStmt:
		p.loop = false
		f.bodies(s.Body.List, p)
	case *ast.SelectStmt:
		p.loop = false
		f.bodies(s.Body.List, p)
	case *ast.ForStmt:
		p.loop = true
		inner := p.under(f.between(s.Pos(), s.Body.Pos()))
		if s.Cond != nil && f.bounded(s.Cond) {
			f.before(s.Body.Lbrace+1, inner.header)
		}
		inner.whole = true
		f.block(s.Body.List, inner)
	case *ast.RangeStmt:
		p.loop = true
		inner := p.under(f.between(s.Pos(), s.Body.Pos()))
		inner.whole = true
		f.block(s.Body.List, inner)
	case *ast.BlockStmt:
		f.block(s.List, p)
	case *ast.LabeledStmt:
		f.nested(s.Stmt, p)
	case *ast.ReturnStmt:
		f.verdicts(s, p)
		f.literals(s, p)
	default:
		f.literals(s, p)
		return false
	}
	return true
}

// literals looks at the functions that stand in a statement.
func (f *finder) literals(n ast.Node, p place) {
	ast.Inspect(n, func(n ast.Node) bool {
		lit, ok := n.(*ast.FuncLit)
		if ok {
			f.block(lit.Body.List, whole(lit.Type))
		}
		return !ok
	})
}

// conditional looks at an if: what its condition leaves out, and what is refused under it or instead.
func (f *finder) conditional(s *ast.IfStmt, p place) {
	inner := p.under(f.between(s.Pos(), s.Body.Pos()), parts(s.Cond, token.LOR)...)
	if f.snippet(s.Cond) == "err != nil" && s.Init == nil && p.before != nil {
		inner.header = f.snippet(p.before)
	}
	direct := slices.ContainsFunc(s.Body.List, func(b ast.Stmt) bool { return f.unwanted(b, inner) })
	if f.bounded(s.Cond) && !direct {
		f.before(s.Body.Lbrace+1, inner.header)
	}
	if p.whole && s.Else == nil && !direct && !f.bounded(s.Cond) && f.snippet(s.Cond) != "err != nil" {
		for _, part := range parts(s.Cond, token.LAND) {
			f.wrap(part, "mutantUnless", "unless "+f.snippet(part))
		}
	}
	if s.Init != nil {
		f.literals(s.Init, p)
	}
	f.block(s.Body.List, inner)
	switch other := s.Else.(type) {
	case *ast.IfStmt:
		f.conditional(other, p)
	case *ast.BlockStmt:
		f.block(other.List, p.under("else of "+inner.header))
	}
}

// clauses looks at the cases of a switch. Where each has a condition of its own, each part of it may be a cause.
func (f *finder) clauses(s *ast.SwitchStmt, p place) {
	if s.Tag != nil {
		f.bodies(s.Body.List, p)
		return
	}
	for _, c := range s.Body.List {
		clause := c.(*ast.CaseClause)
		var when []ast.Expr
		for _, e := range clause.List {
			when = append(when, parts(e, token.LOR)...)
		}
		inner := p.under(f.between(clause.Pos(), clause.Colon), when...)
		if len(clause.Body) == 0 { // what it stands for comes after the switch
			for _, cause := range when {
				f.wrap(cause, "mutantIf", "when "+f.snippet(cause))
			}
		}
		f.block(clause.Body, inner)
	}
}

// bodies looks at cases that are chosen by a value, a type or what comes first: which that is refuses nothing.
func (f *finder) bodies(clauses []ast.Stmt, p place) {
	for _, c := range clauses {
		switch c := c.(type) {
		case *ast.CaseClause:
			f.block(c.Body, p.under(f.between(c.Pos(), c.Colon)))
		case *ast.CommClause:
			f.block(c.Body, p.under(f.between(c.Pos(), c.Colon)))
		}
	}
}

// verdicts looks at what a function returns that reports something.
func (f *finder) verdicts(s *ast.ReturnStmt, p place) {
	if !returns(p.fn, "bool") || len(s.Results) == 0 || p.fn.Results.NumFields() != len(s.Results) {
		return
	}
	last := s.Results[len(s.Results)-1]
	if isName(last) {
		return
	}
	for _, part := range parts(last, token.LAND) {
		f.wrap(part, "mutantUnless", "unless "+f.snippet(part))
	}
}
