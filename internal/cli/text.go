package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Texts as people read them: made safe for a terminal, ordered, cut to what tells them apart.

// visible makes text from others safe for a terminal: control characters, what reorders text, and
// bytes that are no UTF-8 are written as escapes.
func visible(s string) string {
	// Nearly all text is safe, and then costs nothing.
	safe := true
	for _, r := range s {
		if hidden(r) {
			safe = false
			break
		}
	}
	if safe {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\t':
			b.WriteString(`\t`)
		case hidden(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hidden(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// hidden reports whether a terminal would act on a character rather than show it.
func hidden(r rune) bool {
	return r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
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
