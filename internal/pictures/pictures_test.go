package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/tmux"
)

const root = "../.."

// paths are such as only one machine has.
var paths = regexp.MustCompile(`/(tmp|home|root|Users|var|private)/`)

// check looks at a drawing: it is XML, shows something, and nothing of the machine that it was made on.
func check(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
		return
	}
	words := 0
	for d := xml.NewDecoder(strings.NewReader(string(raw))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
		if text, ok := token.(xml.CharData); ok {
			words += len(strings.Fields(string(text)))
		}
	}
	if words < 10 {
		t.Errorf("%s shows %d words", file, words)
	}
	if found := paths.Find(raw); found != nil {
		t.Errorf("%s shows a path of some machine: %s", file, found)
	}
}

// TestKept: docs/pictures holds the pictures there are, and no others.
func TestKept(t *testing.T) {
	kept, err := filepath.Glob(filepath.Join(root, "docs", "pictures", "*"))
	if err != nil || len(kept) != len(pictures) {
		t.Errorf("%d files are kept of %d pictures (%v): run make pictures", len(kept), len(pictures), err)
	}
	for _, p := range pictures {
		check(t, filepath.Join(root, "docs", "pictures", p.name+".svg"))
	}
}

// TestDrawn: a picture can be made here and now.
func TestDrawn(t *testing.T) {
	if !tmux.Installed() {
		t.Skip("tmux is not installed: there is no terminal to draw")
	}
	dir := t.TempDir()
	t.Chdir(root)
	if err := run(dir, "rooms"); err != nil {
		t.Fatal(err)
	}
	check(t, filepath.Join(dir, "rooms.svg"))
	if made, err := os.ReadDir(dir); err != nil || len(made) != 1 {
		t.Errorf("%v is made (%v)", made, err)
	}
}

// TestShown: what shows the machine it is made on is not drawn.
func TestShown(t *testing.T) {
	s := &stage{dir: "/somewhere/unibus-pictures-1", host: "atlas"}
	for screen, wrong := range map[string]bool{
		"$ unibus\nof the bus": false, "atlases": false,
		"in /somewhere/unibus-pictures-1/data": true, "on atlas every stream": true,
	} {
		if err := s.shows(screen); (err != nil) != wrong {
			t.Errorf("%q: %v", screen, err)
		}
	}
}
