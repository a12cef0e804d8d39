package cli

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestFits: no line is longer than the terminal is wide, and no word is broken.
func TestFits(t *testing.T) {
	var b bytes.Buffer
	o := &output{Writer: bufio.NewWriter(&b), plain: true, width: 80}
	words := strings.Repeat("some words here ", 12)
	o.table([]string{"NAME", "ROLE", "STATE", "KEY"}, [][]string{{"bob", "user", "until 2026-11-28T00:00:00Z", "U" + strings.Repeat("A", 55)}})
	o.table([]string{"SEQ", "WHAT"}, [][]string{{"1", words}})
	b.WriteString(o.wrapped(words, 20))
	o.Flush()
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "wor") && word != "words" {
				t.Errorf("a broken word: %s", line)
			}
		}
	}
	if !strings.Contains(b.String(), "UAAAA") || !strings.Contains(b.String(), "…") {
		t.Errorf("no key:\n%s", b.String())
	}
}

// TestStatus: a line that says how far something is stays below what is printed meanwhile, fits, and is gone at the end.
func TestStatus(t *testing.T) {
	var b bytes.Buffer
	o := &output{Writer: bufio.NewWriter(&b)}
	o.setStatus("half")
	o.print("a notice\n")
	o.setStatus("nearly")
	o.setStatus("")
	o.print("done\n")
	o.width = 8
	o.setStatus("much longer than that")
	const erase = "\r\x1b[K"
	if want := "half" + erase + "a notice\nhalf" + erase + "nearly" + erase + "done\nmuch lo"; b.String() != want {
		t.Errorf("%q instead of %q", b.String(), want)
	}
}
