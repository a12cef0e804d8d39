package cli

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/unibus/unibus/internal/cli/shown"
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

// compareNatural compares texts as people order them: numbers in them by what they count.
func compareNatural(a, b string) int {
	for a != "" && b != "" {
		// Where both go on with a number these are compared as numbers: by length without zeros, then digit by digit.
		x, y := digits(a), digits(b)
		if x > 0 && y > 0 {
			m, n := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
			if d := cmp.Or(cmp.Compare(len(m), len(n)), cmp.Compare(m, n), cmp.Compare(x, y)); d != 0 {
				return d
			}
			a, b = a[x:], b[y:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits is how many digits a text begins with.
func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }

// idLength is how many characters an id has.
const idLength = 32

// distinctLength is how many characters of ids tell them from each other. That many name a room, too.
func distinctLength(ids []string) int {
	// Ten characters look like an id and tell a thousand rooms apart; two more at a time, so that they stay easy to compare.
	for n := 10; ; n += 2 {
		seen := map[string]bool{}
		for _, id := range ids {
			seen[id[:n]] = true
		}
		if n == idLength || len(seen) == len(ids) {
			return n
		}
	}
}

// number writes a number as tables show it.
func number(n uint64) string { return strconv.FormatUint(n, 10) }
