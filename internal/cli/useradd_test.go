package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/unibus/unibus"
)

// TestUserListErrors: of a list each line that cannot be is told at once, up to so many.
func TestUserListErrors(t *testing.T) {
	var keys []string
	for range 2 {
		id, err := unibus.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, id.Key().String())
	}
	text := fmt.Sprintf("%s ann\nnokey\n\n%s ann # again\n%s\n%s bob carl\n", keys[0], keys[1], keys[0], keys[1])
	_, err := parseUserList(strings.NewReader(text))
	for _, want := range []string{"line 2: ", "line 4: ann stands in line 1 already", "line 5: " + keys[0] + " stands in line 1 already", "line 6: not valid: more than KEY and NAME"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: not %q", err, want)
		}
	}
	_, err = parseUserList(strings.NewReader(strings.Repeat("x\n", maxWrong+3)))
	if err == nil || strings.Count(err.Error(), "line ") != maxWrong || !strings.HasSuffix(err.Error(), "; and 3 lines more") {
		t.Errorf("of many: %v", err)
	}
}
