package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

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
	f := &finder{fset: fset, tells: map[string]bool{}, makes: map[string]bool{}, bounds: map[string]bool{}, seen: map[string]int{}, source: s}
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

// finder walks over the functions of a package.
type finder struct {
	fset   *token.FileSet
	tells  map[string]bool // functions with a parameter why
	makes  map[string]bool // functions that do nothing but make an error
	bounds map[string]bool // constants that are numbers
	seen   map[string]int  // how often a text stood there already
	source *source

	text  []byte // of the file
	fn    string
	edits []edit
}

// edit puts text into a file.
type edit struct {
	at   int
	text string
}

// learn takes note of what the package declares.
func (f *finder) learn(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if hasWhy(n.Type) {
				f.tells[n.Name.Name] = true
			}
			if makesError(n) {
				f.makes[n.Name.Name] = true
			}
		case *ast.Field:
			if t, ok := n.Type.(*ast.FuncType); ok && hasWhy(t) {
				for _, name := range n.Names {
					f.tells[name.Name] = true
				}
			}
		case *ast.GenDecl:
			if n.Tok == token.CONST {
				f.constants(n)
			}
		}
		return true
	})
}

func (f *finder) constants(decl *ast.GenDecl) {
	for _, spec := range decl.Specs {
		v := spec.(*ast.ValueSpec)
		for i, name := range v.Names {
			if i >= len(v.Values) {
				continue
			}
			if lit, ok := v.Values[i].(*ast.BasicLit); !ok || lit.Kind != token.STRING {
				f.bounds[name.Name] = true
			}
		}
	}
}

func hasWhy(t *ast.FuncType) bool {
	return slices.ContainsFunc(t.Params.List, func(p *ast.Field) bool {
		return isIdent(p.Type, "string") && slices.ContainsFunc(p.Names, func(n *ast.Ident) bool { return n.Name == "why" })
	})
}

// makesError reports whether a function is short for fmt.Errorf.
func makesError(fn *ast.FuncDecl) bool {
	if fn.Body == nil || len(fn.Body.List) != 1 || !returns(fn.Type, "error") || fn.Type.Results.NumFields() != 1 {
		return false
	}
	if p := fn.Type.Params.List; len(p) == 0 || !isIdent(p[0].Type, "string") {
		return false
	}
	ret, ok := fn.Body.List[0].(*ast.ReturnStmt)
	return ok && len(ret.Results) == 1 && calls(ret.Results[0], "Errorf")
}

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

// edited is the file with all edits made.
func (f *finder) edited() []byte {
	slices.SortStableFunc(f.edits, func(a, b edit) int { return a.at - b.at })
	var out bytes.Buffer
	from := 0
	for _, e := range f.edits {
		out.Write(f.text[from:e.at])
		out.WriteString(e.text)
		from = e.at
	}
	out.Write(f.text[from:])
	return out.Bytes()
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

// isError reports whether an expression may be an error.
func (f *finder) isError(e ast.Expr) bool { return f.isMade(e) || isIdent(e, "err") }

// isMade reports whether an expression is an error made there.
func (f *finder) isMade(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return strings.HasPrefix(e.Name, "Err")
	case *ast.SelectorExpr:
		return strings.HasPrefix(e.Sel.Name, "Err")
	case *ast.UnaryExpr:
		lit, ok := e.X.(*ast.CompositeLit)
		return ok && e.Op == token.AND && isIdent(lit.Type, "Invalid")
	case *ast.CallExpr:
		return calls(e, "Errorf") || calls(e, "New") && strings.HasPrefix(f.snippet(e), "errors.") || f.makes[called(e)]
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

// bounded reports whether a condition compares something with a constant number of the package.
func (f *finder) bounded(cond ast.Expr) bool {
	found := false
	ast.Inspect(cond, func(n ast.Node) bool {
		if b, ok := n.(*ast.BinaryExpr); ok {
			switch b.Op {
			case token.EQL, token.LSS, token.LEQ, token.GTR, token.GEQ:
				found = found || f.isBound(b.X) || f.isBound(b.Y)
			}
		}
		return true
	})
	return found
}

func (f *finder) isBound(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && f.bounds[id.Name]
}

// before adds a mutant that panics at a place.
func (f *finder) before(pos token.Pos, text string) {
	f.edits = append(f.edits, edit{f.offset(pos), fmt.Sprintf(" mutantAt(%d); ", f.number(text))})
}

// wrap adds a mutant that panics because of the value of a condition.
func (f *finder) wrap(e ast.Expr, with, text string) {
	f.edits = append(f.edits, edit{f.offset(e.Pos()), fmt.Sprintf("%s(%d, ", with, f.number(text))}, edit{f.offset(e.End()), ")"})
}

// number gives a mutant its number.
func (f *finder) number(text string) int {
	text = f.fn + ": " + text
	f.seen[text]++
	if n := f.seen[text]; n > 1 {
		text += fmt.Sprintf(" (%d)", n)
	}
	f.source.mutants = append(f.source.mutants, text)
	return len(f.source.mutants)
}

func (f *finder) offset(pos token.Pos) int { return f.fset.Position(pos).Offset }

// maxSnippet is how much of the code a mutant's text repeats.
const maxSnippet = 110

func (f *finder) snippet(n ast.Node) string { return f.between(n.Pos(), n.End()) }

func (f *finder) between(from, to token.Pos) string {
	text := strings.Join(strings.Fields(string(f.text[f.offset(from):f.offset(to)])), " ")
	if len(text) > maxSnippet {
		text = strings.ToValidUTF8(text[:maxSnippet], "") + "…"
	}
	return text
}

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

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func isName(e ast.Expr) bool {
	_, ok := e.(*ast.Ident)
	return ok
}

// isSentence reports whether an expression is a text for people.
func isSentence(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && lit.Kind == token.STRING && strings.Contains(lit.Value, " ")
}

func isNotice(e ast.Expr) bool {
	lit, ok := e.(*ast.CompositeLit)
	return ok && isIdent(lit.Type, "Notice")
}

func called(call *ast.CallExpr) string {
	switch fn := call.Fun.(type) {
	case *ast.Ident:
		return fn.Name
	case *ast.SelectorExpr:
		return fn.Sel.Name
	}
	return ""
}

func calls(e ast.Expr, name string) bool {
	call, ok := e.(*ast.CallExpr)
	return ok && called(call) == name
}
