package dev

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// comment is a # that begins a word, as far as a line by itself shows: what a shell takes for a comment, but zsh at its
// prompt for an argument.
var comment = regexp.MustCompile(`(?:^|[\s;&|()])#`)

// quoted are the parts of a line in which a # is none, and escaped characters.
var quoted = regexp.MustCompile(`\\.|'[^']*'|"(?:\\.|[^"\\])*"`)

// commented are the numbers of the lines of a page that have a comment, in blocks that are there to be pasted into a shell.
func commented(page string) (lines []int) {
	inside := false
	number := 0
	for line := range strings.Lines(page) {
		number++
		switch fence := strings.TrimSpace(line); {
		case inside && fence == "```":
			inside = false
		case strings.HasPrefix(fence, "```sh") || strings.HasPrefix(fence, "```bash"):
			inside = true
		case inside && comment.MatchString(quoted.ReplaceAllString(line, "_")):
			lines = append(lines, number)
		}
	}
	return lines
}

// TestPastedBlocks: no block of the documentation that is there to be pasted has a comment in it.
func TestPastedBlocks(t *testing.T) {
	pages, err := filepath.Glob(root + "docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(len(pages), err)
	}
	for _, page := range append(pages, root+"README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commented(string(text)) {
			t.Errorf("%s:%d: a comment, which zsh takes for arguments: say it in the text", strings.TrimPrefix(page, root), line)
		}
	}
}

// TestCommented: what is a comment in a block, and what is none.
func TestCommented(t *testing.T) {
	for line, want := range map[string]bool{
		"ls # all": true, "# all": true, "ls;# all": true, `echo "a" # b`: true, "\tls\t#": true, `echo \" # "`: true,
		"ls": false, "join nats://h:1#ID": false, "echo '# a'": false, `echo "it # is"`: false, `echo \# a`: false, "echo $#": false,
	} {
		for fence, pasted := range map[string]bool{"```sh": true, "```": false, "```yaml": false} {
			if got := len(commented("text # a\n"+fence+"\n"+line+"\n```\nmore # b\n")) > 0; got != (want && pasted) {
				t.Errorf("%q in %s has a comment: %v", line, fence, got)
			}
		}
	}
}
