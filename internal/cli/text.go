package cli

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/unibus/unibus/internal/shown"
)

// Texts as people read them: made safe for a terminal, ordered, cut to what tells them apart.

// visible makes text from others safe for a terminal.
func visible(s string) string { return shown.Text(s) }

// visibleLines is visible for each line of a text: it keeps its newlines.
func visibleLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = visible(lines[i])
	}
	return strings.Join(lines, "\n")
}

// formatTime writes a time for people: RFC 3339 UTC, to the second.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// yesOrEmpty is how tables show what is true: what is not has an empty cell.
func yesOrEmpty(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

// idLength is how many characters an id has.
const idLength = 32

// minShort is how many characters of an id or a key are shown at least: as many as name a room or a user, and some more.
const minShort = 8

// distinctLength is how many characters of ids or keys tell them from each other. That many name a room or a user, too.
func distinctLength(ids []string) int {
	longest := minShort
	for _, id := range ids {
		longest = max(longest, len(id))
	}
	for n := minShort; n < longest; n++ {
		// An id that is there twice is one and the same, however long.
		whole := map[string]string{}
		distinct := true
		for _, id := range ids {
			short := id[:min(n, len(id))]
			if other, met := whole[short]; met && other != id {
				distinct = false
				break
			}
			whole[short] = id
		}
		if distinct {
			return n
		}
	}
	return longest
}

// shortened returns a function that cuts each of some ids or keys to what tells them apart, as git does with hashes, where
// a person looks at them; whole, or for a pipe, they stay as they are.
func (o *output) shortened(whole bool, ids []string) func(id string) string {
	if whole || !o.terminal {
		return func(id string) string { return id }
	}
	n := distinctLength(ids)
	return func(id string) string { return id[:min(n, len(id))] }
}

// defineFull adds --full to a command whose tables shorten some of what they show on a terminal.
func defineFull(c *cobra.Command, full *bool, what string) {
	c.Flags().BoolVar(full, "full", false, what+" whole on a terminal, too, as they always are for a pipe")
}

// number writes a number as tables show it.
func number(n uint64) string { return strconv.FormatUint(n, 10) }
