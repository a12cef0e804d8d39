package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFind: what counts as a refusal, and what it is called.
func TestFind(t *testing.T) {
	for name, c := range map[string]struct{ code, want string }{
		"an error made there":         {`func f() error { return errors.New("no") }`, `f: return errors.New("no")`},
		"one that is wrapped":         {`func f() error { return fmt.Errorf("%w: no", Err) }`, `f: return fmt.Errorf("%w: no", Err)`},
		"a sentinel":                  {`func f() error { if a() { return ErrNo }; return nil }`, `f: if a(): return ErrNo`},
		"another package's":           {`func f() error { if a() { return store.ErrNo }; return nil }`, `f: return store.ErrNo`},
		"one of a function for them":  {"func no(s string) error { return fmt.Errorf(s) }\nfunc not(s string) error { return &n{s} }\nfunc f() error { return no(`x`) }\nfunc g() error { return not(`x`) }", "f: return no(`x`)\ng: return not(`x`)"},
		"one passed on":               {`func f() error { err := a(); if err != nil { return err }; return nil }`, `f: err := a(): return err`},
		"one of a condition":          {`func f() error { if err := a(); err != nil { return err }; return nil }`, `f: if err := a(); err != nil: return err`},
		"one that is kept":            {`func f() { v.Refused = ErrNo }`, `f: v.Refused = ErrNo`},
		"none":                        {`func f() error { a(); return nil }`, ``},
		"each cause":                  {`func f() error { if a() || b() && c { return ErrNo }; return nil }`, "f: when a()\nf: when b() && c"},
		"each cause of a case":        {`func f() error { switch { case a(), b() || c: return ErrNo }; return nil }`, "f: when a()\nf: when b()\nf: when c"},
		"a case that does nothing":    {`func f() error { switch { case a: default: return nil }; return ErrNo }`, "f: when a\nf: default: return nil\nf: at the end: return ErrNo"},
		"a condition":                 {`func (t *T) f() bool { return a && (b || c) }`, "T.f: unless a\nT.f: unless (b || c)"},
		"of a type with parameters":   {`func (t *T[K, V]) f() bool { return a == b }`, "T.f: unless a == b"},
		"false":                       {`func f() bool { if a { return false }; return true }`, `f: if a: return false`},
		"a sentence":                  {`func f() string { if a { return "not so" }; return "" }`, `f: return "not so"`},
		"a name":                      {`func f() string { if a { return "ok" }; return "" }`, ``},
		"a kind":                      {`func f() (Kind, string) { return Gap, x() }`, `f: return Gap, x()`},
		"an early return":             {`func f() { if a { return }; b() }`, `f: if a: return`},
		"a return at the end":         {`func f() { b(); return }`, ``},
		"the next of a loop":          {`func f() { for range a { if b { continue }; c() } }`, `f: if b: continue`},
		"the end of a loop":           {`func f() { for range a { if b { break } } }`, `f: if b: break`},
		"the end of a case in a loop": {`func f() { for range a { switch b { case 1: break } } }`, ``},
		"the last thing left out":     {`func f() { a(); if b && !c { d() } }`, "f: unless b\nf: unless !c"},
		"and of a loop":               {`func f() error { for range a { if b { c() } }; return nil }`, "f: unless b"},
		"another thing left out":      {`func f() { if b { c() }; d() }`, ""},
		"what is done with an error":  {`func f() { if err := a(); err != nil { b() } }`, ""},
		"one thing or another":        {`func f() { if b { c() } else { d() } }`, ""},
		"what is told":                {"func (t T) tell(why string) {}\nfunc f() { t.tell(x) }", `f: t.tell(x)`},
		"to a function that is given": {`func f(drop func(why string)) { drop(x) }`, `f: drop(x)`},
		"a notice":                    {`func f() { n(Notice{}) }`, `f: n(Notice{})`},
		"a bound":                     {"const most = 7\nfunc f() { if len(a) >= most { b() } }", `f: if len(a) >= most`},
		"a bound of a loop":           {"const most = 7\nfunc f() { for len(a) > most && b() { } }", `f: for len(a) > most && b()`},
		"no bound":                    {"const name = `x`\nfunc f() { if a == name { b() }; c() }", ``},
		"a function in a function":    {`func f() { g(func() bool { return a && b }) }`, "f: unless a\nf: unless b"},
		"two that come together":      {"func tell(why string) {}\nfunc f() { if a { tell(x); return } }", `f: tell(x)`},
		"two alike":                   {`func f() error { if a { return errors.New("x") }; if b { return errors.New("x") }; return nil }`, "f: return errors.New(\"x\")\nf: return errors.New(\"x\") (2)"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, filepath.Join(dir, "x.go"), "package x\n"+c.code)
			put(t, filepath.Join(dir, "x_test.go"), "package x\nfunc g() bool { return a && b }")
			s, err := find(dir, func(string) bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(s.mutants, "\n"); got != c.want {
				t.Errorf("%s\n gives %s\n  want %s", c.code, got, c.want)
			}
			text := string(slices.Collect(maps.Values(s.files))[0])
			for n := range s.mutants {
				if strings.Count(text, fmt.Sprintf("(%d", n+1)) != 1 {
					t.Errorf("mutant %d is not there once: %s", n+1, text)
				}
			}
		})
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCheck tries everything on a package of four rules: one that a test breaks, one that none does, one whose panic
// nobody sees, and one that is excused.
func TestCheck(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles a package")
	}
	tinyModule(t)
	put(t, listed, "tiny f: when n == 9\n")
	if err := check(t.Context()); err == nil {
		t.Error("without a file of excuses it does not fail")
	}
	tryExcuses(t, "", "test/mutants/list.txt is not what the code says: go run ./test/mutants -write",
		"survives, no test reaches it: tiny f: when n == 2", "survives, no test fails: tiny f: unless n != 3",
		"survives, no test reaches it: tiny f: unless n != 4")
	if err := writeList(); err != nil {
		t.Fatal(err)
	}
	tryExcuses(t, "# what\n\ntiny f: when n == 1 # no\ntiny f: when n == 2 # a\ntiny f: unless n != 3 # b\ntiny f: unless n != 4 # c\ntiny f: gone # d\n",
		"excused for nothing, a test fails: tiny f: when n == 1", "excused, and not there any more: tiny f: gone")
	tryExcuses(t, "tiny f: when n == 2\n", "test/mutants/excused.txt: no reason: tiny f: when n == 2")
	tryExcuses(t, "tiny f: when n == 2 # a\ntiny f: unless n != 3 # b\ntiny f: unless n != 4 # c\n")
}

// tinyModule makes the package of four rules, in a folder of its own, the one to be checked.
func tinyModule(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	put(t, "go.mod", "module tiny\n\ngo 1.26\n")
	put(t, "tiny/tiny.go", `package tiny

func f(n int) bool {
	if n == 1 || n == 2 {
		return false
	}
	return n != 3 && n != 4
}
`)
	put(t, "tiny/tiny_test.go", `package tiny

import "testing"

func TestF(t *testing.T) {
	if f(1) || !f(0) {
		t.Error()
	}
	defer func() { _ = recover() }()
	f(3)
}

func TestSlow(t *testing.T) { panic("skipped") }
`)
	old := subjects
	t.Cleanup(func() { subjects = old })
	subjects = []subject{{dir: "tiny", skip: "TestSlow"}}
}

// tryExcuses checks the tiny module with a file of excuses, and wants it to fail with these lines; none: to pass.
func tryExcuses(t *testing.T, excuses string, want ...string) {
	t.Helper()
	put(t, excusedFile, excuses)
	err := check(t.Context())
	if len(want) == 0 {
		if err != nil {
			t.Errorf("it fails: %v", err)
		}
		return
	}
	if err == nil {
		t.Fatal("it does not fail")
	}
	lines := strings.Split(err.Error(), "\n")
	slices.Sort(lines)
	if slices.Sort(want); !slices.Equal(lines, want) {
		t.Errorf("it says\n%s\nwant\n%s", err, strings.Join(want, "\n"))
	}
}
