package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// tenures are those of a drawn log, each as "WHO:ROLE FROM by WHO" and perhaps "to UNTIL by WHO".
func tenures(t *testing.T, log string) string {
	t.Helper()
	var all Tenures
	var f Fold
	watch(t, log, func(_ *State, e *Entry) {
		if _, err := f.Add(e.Statement); err != nil {
			t.Fatal(err)
		}
		all.Add(&f, e)
	})
	var lines []string
	for _, one := range all.All() {
		line := fmt.Sprintf("%s:%s %d by %s", nameOf(one.Key), one.Role, one.From.Seq, nameOf(one.From.By))
		if e := one.Until; e != nil {
			line += fmt.Sprintf(" to %d by %s", e.Seq, nameOf(e.By))
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// TestTenures: who was in when, as what, and on whose word.
func TestTenures(t *testing.T) {
	for name, c := range map[string]struct{ log, want string }{
		"a room": {`
			alice create ops
			alice invite bob:member carol:reader
			alice role bob:admin
			alice role carol:reader        # nothing changes
			bob remove carol rekey
			alice invite carol:member
			carol leave
			alice rekey
		`, `
			alice:owner 1 by alice
			bob:member 2 by alice to 3 by alice
			carol:reader 2 by alice to 5 by bob
			bob:admin 3 by alice
			carol:member 6 by alice to 7 by carol
		`},
		"the bus": {`
			alice found alice
			alice add bob:user carol:admin
			alice user bob:admin
			carol revoke bob
			alice add bob:user
		`, `
			alice:admin 1 by alice
			bob:user 2 by alice to 3 by alice
			carol:admin 2 by alice
			bob:admin 3 by alice to 4 by carol
			bob:user 5 by alice
		`},
	} {
		want := strings.ReplaceAll(strings.TrimSpace(c.want), "\t", "")
		if got := tenures(t, c.log); got != want {
			t.Errorf("%s:\n%s\nnot\n%s", name, got, want)
		}
	}
}

// TestNames: what people were called then, by a place in the bus log and by a time.
func TestNames(t *testing.T) {
	var names Names
	for seq, name := range []string{"bob", "rob", "bob"} { // entries 1 to 3
		names.Add(&Entry{Seq: uint64(seq) + 1, Time: at(uint64(seq) + 1), Body: &Add{Users: []NewUser{{Key: key("bob"), Name: name}}}})
	}
	names.Add(&Entry{Seq: 4, Time: at(4), Body: &Add{Users: []NewUser{{Key: key("carol"), Name: "rob"}}}})
	for seq, want := range map[uint64]string{0: "bob", 1: "bob", 2: "bob", 3: "rob", 4: "bob", 9: "bob"} {
		if got := names.Before(key("bob"), seq); got != want {
			t.Errorf("before entry %d: %s, not %s", seq, got, want)
		}
	}
	for seq, want := range map[uint64]string{0: "bob", 1: "bob", 2: "rob", 3: "bob", 9: "bob"} {
		if got := names.At(key("bob"), at(seq)); got != want {
			t.Errorf("at the time of entry %d: %s, not %s", seq, got, want)
		}
	}
	if got := names.At(key("dave"), at(1)); got != key("dave").String() {
		t.Errorf("of whom nothing is said: %s", got)
	}
	for name, want := range map[string][]crypto.PublicKey{"bob": {key("bob")}, "rob": {key("bob"), key("carol")}, "dave": nil} {
		got := names.Called(name)
		slices.SortFunc(got, func(x, y crypto.PublicKey) int { return strings.Compare(nameOf(x), nameOf(y)) })
		if !slices.Equal(got, want) {
			t.Errorf("called %s: %v", name, got)
		}
	}
}
