// Package shown has what others wrote shown to people, on a terminal or on a page, rather than acted on or hidden by it.
package shown

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text makes text from others safe to be shown: control characters, what reorders text, and
// bytes that are no UTF-8 are written as escapes.
func Text(s string) string {
	// Nearly all text is safe, and then costs nothing.
	safe := true
	for _, r := range s {
		if Hidden(r) {
			safe = false
			break
		}
	}
	if safe {
		return s
	}
	var b strings.Builder
	var before rune
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == joiner && pictures(before) && pictures(next(s[i+size:])):
			b.WriteString(s[i : i+size])
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\t':
			b.WriteString(`\t`)
		case Hidden(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case Hidden(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[i : i+size])
		}
		i, before = i+size, r
	}
	return b.String()
}

// joiner makes one picture of two, as of a family; anywhere else it would hide in a text.
const joiner = '\u200d'

// pictures reports whether a character is a picture, or says how one is to look.
func pictures(r rune) bool { return unicode.In(r, unicode.So, unicode.Sk) || r == '\ufe0f' }

// next is the first character of a text.
func next(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

// Hidden reports whether a terminal would act on a character rather than show it.
func Hidden(r rune) bool {
	return r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}
