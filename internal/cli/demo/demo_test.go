package demo

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

// TestRun: all steps are told in their order, and what bob read is shown as whoever runs it wants it shown.
func TestRun(t *testing.T) {
	var told []string
	var shown bytes.Buffer
	facts, err := Run(t.Context(), Options{
		Dir: t.TempDir(), Lines: [][]byte{[]byte("the first line of several"), []byte("another line, as long as that")},
		Visible: strings.ToUpper,
		Step: func(name, detail string, _ time.Duration) {
			told = append(told, name)
			shown.WriteString(detail)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if facts.Steps != len(told) || facts.Lines != 2 || !facts.Passed || told[0] != "found a bus" {
		t.Errorf("%+v, %v", facts, told)
	}
	if text := shown.String(); !strings.Contains(text, "THE FIRST LINE") || strings.Contains(text, "the first line") {
		t.Errorf("shown: %s", text)
	}
}

// TestBook: there is something to send.
func TestBook(t *testing.T) {
	book, err := Book()
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	if text, err := io.ReadAll(book); err != nil || bytes.Count(text, []byte("\n")) < 1000 {
		t.Errorf("%d bytes (%v)", len(text), err)
	}
}
