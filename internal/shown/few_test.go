package shown

import "testing"

// TestFew: few of many are named, in order.
func TestFew(t *testing.T) {
	for want, list := range map[string][]string{"": nil, "a, b": {"b", "a"}, "a, b, c, d, e": {"e", "d", "c", "b", "a"}, "a, b, c, d, e and 2 more": {"g", "f", "e", "d", "c", "b", "a"}} {
		if got := Few(list); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
}
