package dev

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// folders are what CONTRIBUTING.md names in backticks below internal, test, bench, examples and cmd.
var folders = regexp.MustCompile("`((?:internal|test|bench|examples|cmd)/[a-z-]+)")

// TestMap: CONTRIBUTING.md names every package of internal, and no folder that is not there.
func TestMap(t *testing.T) {
	text, err := os.ReadFile(root + "CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, match := range folders.FindAllSubmatch(text, -1) {
		named = append(named, string(match[1]))
		if _, err := os.Stat(root + string(match[1])); err != nil {
			t.Errorf("CONTRIBUTING.md names %s: %v", match[1], err)
		}
	}
	for _, file := range goFiles(t) {
		dir := path.Dir(file)
		if strings.Count(dir, "/") == 1 && strings.HasPrefix(dir, "internal/") && !slices.Contains(named, dir) {
			t.Errorf("CONTRIBUTING.md does not say what %s is", dir)
			named = append(named, dir)
		}
	}
}

// TestMakeTargets: what CONTRIBUTING.md and the workflows have made is in the Makefile.
func TestMakeTargets(t *testing.T) {
	makefile, err := os.ReadFile(root + "Makefile")
	if err != nil {
		t.Fatal(err)
	}
	workflows, err := os.ReadDir(root + ".github/workflows")
	if err != nil {
		t.Fatal(err)
	}
	files := []string{"CONTRIBUTING.md", ".ci/run"}
	for _, w := range workflows {
		files = append(files, ".github/workflows/"+w.Name())
	}
	target := regexp.MustCompile(`(?m)(?:^|run: | {4})make ([a-z -]+)`)
	for _, file := range files {
		text, err := os.ReadFile(root + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range target.FindAllSubmatch(text, -1) {
			for name := range strings.FieldsSeq(string(match[1])) {
				if !regexp.MustCompile(`(?m)^[a-z -]*\b` + name + `\b[a-z -]*:`).Match(makefile) {
					t.Errorf("%s makes %s, which the Makefile does not", file, name)
				}
			}
		}
	}
}
