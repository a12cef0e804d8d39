package bus

import (
	"testing"
	"time"
)

// TestCompare: copies are alike when they go from the same place to the same, and lack as much between; a server whose
// clock removes what is old may begin elsewhere, once it is old.
func TestCompare(t *testing.T) {
	now := time.Unix(1e9, 0)
	h := func(server string, first, last, messages uint64) Held {
		return Held{Server: server, First: first, Last: last, Messages: messages, Began: now.Add(-time.Hour)}
	}
	aged := func(age time.Duration, copies ...Held) []Held {
		for i := range copies {
			copies[i].Age = age
		}
		return copies
	}
	for name, c := range map[string]struct {
		copies []Held
		said   string
	}{
		"one":           {copies: []Held{h("a", 1, 9, 9)}},
		"alike":         {copies: []Held{h("a", 1, 9, 9), h("b", 1, 9, 9)}},
		"alike, holes":  {copies: []Held{h("a", 1, 9, 7), h("b", 1, 9, 7)}},
		"empty":         {copies: []Held{h("a", 10, 9, 0), h("b", 10, 9, 0)}},
		"old":           {copies: aged(time.Hour, h("a", 3, 9, 7), h("b", 1, 9, 9))},
		"young":         {copies: aged(2*time.Hour, h("a", 3, 9, 7), h("b", 1, 9, 9)), said: "it holds 3 to 9 on a, 1 to 9 on b"},
		"young, gone":   {copies: aged(2*time.Hour, h("a", 10, 9, 0), h("b", 1, 9, 9)), said: "it holds nothing on a, 1 to 9 on b"},
		"a hole":        {copies: []Held{h("b", 1, 9, 8), h("a", 1, 9, 9)}, said: "b lacks 1 of its messages"},
		"a hole, old":   {copies: aged(time.Hour, h("a", 3, 9, 7), h("b", 1, 9, 7)), said: "b lacks 2 of its messages"},
		"its beginning": {copies: []Held{h("a", 1, 9, 9), h("b", 4, 9, 6)}, said: "it holds 1 to 9 on a, 4 to 9 on b"},
		"its end":       {copies: aged(time.Hour, h("b", 1, 9, 9), h("a", 1, 8, 8)), said: "it holds 1 to 8 on a, 1 to 9 on b"},
		"two of three": {
			copies: []Held{h("a", 1, 9, 5), h("b", 1, 9, 9), h("c", 1, 9, 8)},
			said:   "a lacks 4 of its messages, c lacks 1 of its messages",
		},
	} {
		if said := compare(c.copies, now); said != c.said {
			t.Errorf("%s: %q", name, said)
		}
	}
}
