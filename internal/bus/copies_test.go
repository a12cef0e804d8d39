package bus

import "testing"

// TestCompare: copies are alike when they go from the same place to the same, and lack as much between; a server whose
// clock removes what is old may begin elsewhere.
func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		copies []Held
		said   string
	}{
		"one":           {copies: []Held{{"a", 1, 9, 9, false}}},
		"alike":         {copies: []Held{{"a", 1, 9, 9, false}, {"b", 1, 9, 9, false}}},
		"alike, holes":  {copies: []Held{{"a", 1, 9, 7, false}, {"b", 1, 9, 7, false}}},
		"empty":         {copies: []Held{{"a", 10, 9, 0, false}, {"b", 10, 9, 0, false}}},
		"aged":          {copies: []Held{{"a", 3, 9, 7, true}, {"b", 1, 9, 9, true}}},
		"a hole":        {copies: []Held{{"b", 1, 9, 8, false}, {"a", 1, 9, 9, false}}, said: "b lacks 1 of its messages"},
		"a hole, aged":  {copies: []Held{{"a", 3, 9, 7, true}, {"b", 1, 9, 7, true}}, said: "b lacks 2 of its messages"},
		"its beginning": {copies: []Held{{"a", 1, 9, 9, false}, {"b", 4, 9, 6, false}}, said: "it holds 1 to 9 on a, 4 to 9 on b"},
		"its end":       {copies: []Held{{"b", 1, 9, 9, true}, {"a", 1, 8, 8, true}}, said: "it holds 1 to 8 on a, 1 to 9 on b"},
		"two of three": {
			copies: []Held{{"a", 1, 9, 5, false}, {"b", 1, 9, 9, false}, {"c", 1, 9, 8, false}},
			said:   "a lacks 4 of its messages, c lacks 1 of its messages",
		},
	} {
		if said := compare(c.copies); said != c.said {
			t.Errorf("%s: %q", name, said)
		}
	}
}
