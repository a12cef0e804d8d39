package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strings"
)

// This file puts the mutants into the text of a file, each with a number and with the words that it is known by.

// marker collects the mutants of a package, and the edits of the file that is being read.
type marker struct {
	fset   *token.FileSet
	source *source
	seen   map[string]int // how often a text stood there already

	text  []byte // of the file
	fn    string
	edits []edit
}

// edit puts text into a file.
type edit struct {
	at   int
	text string
}

// edited is the file with all edits made.
func (m *marker) edited() []byte {
	slices.SortStableFunc(m.edits, func(a, b edit) int { return a.at - b.at })
	var out bytes.Buffer
	from := 0
	for _, e := range m.edits {
		out.Write(m.text[from:e.at])
		out.WriteString(e.text)
		from = e.at
	}
	out.Write(m.text[from:])
	return out.Bytes()
}

// before adds a mutant that panics at a place.
func (m *marker) before(pos token.Pos, text string) {
	m.edits = append(m.edits, edit{m.offset(pos), fmt.Sprintf(" mutantAt(%d); ", m.number(text))})
}

// wrap adds a mutant that panics because of the value of a condition.
func (m *marker) wrap(e ast.Expr, with, text string) {
	m.edits = append(m.edits, edit{m.offset(e.Pos()), fmt.Sprintf("%s(%d, ", with, m.number(text))}, edit{m.offset(e.End()), ")"})
}

// number gives a mutant its number.
func (m *marker) number(text string) int {
	text = m.fn + ": " + text
	m.seen[text]++
	if n := m.seen[text]; n > 1 {
		text += fmt.Sprintf(" (%d)", n)
	}
	m.source.mutants = append(m.source.mutants, text)
	return len(m.source.mutants)
}

// offset is where in its file something stands.
func (m *marker) offset(pos token.Pos) int { return m.fset.Position(pos).Offset }

// maxSnippet is how much of the code a mutant's text repeats.
const maxSnippet = 110

// snippet is the code of something in one line, cut if it is long.
func (m *marker) snippet(n ast.Node) string { return m.between(n.Pos(), n.End()) }

// between is the same of all that stands between two places.
func (m *marker) between(from, to token.Pos) string {
	text := strings.Join(strings.Fields(string(m.text[m.offset(from):m.offset(to)])), " ")
	if len(text) > maxSnippet {
		text = strings.ToValidUTF8(text[:maxSnippet], "") + "…"
	}
	return text
}
