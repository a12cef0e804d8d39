package shown

import "testing"

// TestJoiner: pictures that are joined stay one, and a joiner hides nowhere else.
func TestJoiner(t *testing.T) {
	for text, want := range map[string]string{
		"👩\u200d👩\u200d👧":  "👩\u200d👩\u200d👧",
		"❤\ufe0f\u200d🔥":   "❤\ufe0f\u200d🔥",
		"👩🏽\u200d🚀":        "👩🏽\u200d🚀",
		"bob\u200d":        `bob\u200d`,
		"\u200dbob":        `\u200dbob`,
		"👩\u200dx":         `👩\u200dx`,
		"x\u200d👩":         `x\u200d👩`,
		"👩\u200d\u200d👩":   `👩\u200d\u200d👩`,
		"👩\u200d\x1b[31m👩": `👩\u200d\x1b[31m👩`,
	} {
		if got := Text(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
