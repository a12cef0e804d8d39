package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestCurrent holds completions/ and man/ against the command tree.
func TestCurrent(t *testing.T) {
	dir := t.TempDir()
	if err := generate("completions", "man", dir); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"completions", "man"} {
		fresh, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadDir(filepath.Join("..", "..", folder))
		if err != nil || len(kept) != len(fresh) {
			t.Fatalf("%s has %d files instead of %d (%v): run make completions", folder, len(kept), len(fresh), err)
		}
		for _, f := range fresh {
			a, err := os.ReadFile(filepath.Join(dir, folder, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join("..", "..", folder, f.Name()))
			if err != nil || !bytes.Equal(undated(a), undated(b)) {
				t.Errorf("%s/%s is not current (%v): run make completions", folder, f.Name(), err)
			}
			if folder == "man" && !dated.Match(b) {
				t.Errorf("%s has no date", f.Name())
			}
		}
	}
}

// TestDates: a page whose text did not change keeps its date, and one that did gets a new one.
func TestDates(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000") // November 2023
	if err := generate("completions", "man", dir); err != nil {
		t.Fatal(err)
	}
	pub, sub := filepath.Join(dir, "man", "unibus-pub.1"), filepath.Join(dir, "man", "unibus-sub.1")
	if err := os.WriteFile(sub, []byte("what it said before"), 0o644); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(dir, "man", "unibus-gone.1")
	if err := os.WriteFile(stray, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1800000000") // January 2027
	if err := generate("completions", "man", dir); err != nil {
		t.Fatal(err)
	}
	for page, date := range map[string]string{pub: `"Nov 2023"`, sub: `"Jan 2027"`} {
		if b, err := os.ReadFile(page); err != nil || !bytes.Contains(b, []byte(date)) {
			t.Errorf("%s is not of %s: %v", filepath.Base(page), date, err)
		}
	}
	if _, err := os.Stat(stray); !os.IsNotExist(err) {
		t.Errorf("the page of a command that is gone: %v", err)
	}
}
