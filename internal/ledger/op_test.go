package ledger

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/unibus/unibus/internal/crypto"
)

// TestEveryOp: of every op there is a log drawn here in which it stands, what it does to a state is kept in snapshots, SPEC.md §4
// tells of it, and it is the op of its body.
func TestEveryOp(t *testing.T) {
	spec, err := os.ReadFile("../../SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	_, logs, _ := strings.Cut(string(spec), "\n## 4.")
	logs, _, _ = strings.Cut(logs, "\n## 5.")
	for text, ops := range map[string]map[string]func() Body{
		`alice found alice
		 alice add bob:user carol:admin
		 alice user bob:admin
		 alice set bob=robert carol@90
		 carol revoke bob
		 alice add bob:user`: busOps,
		`alice create r shared
		 alice invite bob:admin carol:member dave:reader
		 alice role dave:member
		 bob rekey
		 carol leave
		 bob remove dave rekey
		 alice policy joined anew rekey:noprev
		 alice invite eve:owner rekey
		 alice policy stored pad
		 eve archive`: roomOps,
	} {
		left := maps.Clone(ops)
		watch(t, text, func(s *State, e *Entry) {
			delete(left, e.Op)
			if e.Body.op() != e.Op || !strings.Contains(logs, "`"+e.Op+" {") {
				t.Errorf("the op %s is %s to its body, and SPEC.md tells of it: %v", e.Op, e.Body.op(), strings.Contains(logs, "`"+e.Op+" {"))
			}
			kept, err := s.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			back, err := LoadSnapshot(kept)
			if err != nil || !reflect.DeepEqual(back, s) {
				t.Errorf("after %s a snapshot has\n%+v %+v, not\n%+v %+v: %v", e.Op, back.Bus, back.Room, s.Bus, s.Room, err)
			}
		})
		if len(left) > 0 {
			t.Errorf("no log has %v", slices.Sorted(maps.Keys(left)))
		}
	}
}

// TestNarrows: an entry names those who have less by it, or have it elsewhere or until another time, and nobody else; of what came
// later it knows.
func TestNarrows(t *testing.T) {
	const users, members = "alice found alice\nalice add bob:user carol:user\n", "alice create r none stored\nalice invite bob:member carol:reader dave:admin\n"
	for text, want := range map[string]string{
		users:                               "",
		users + "alice user bob:admin":      "",
		users + "alice revoke bob":          "bob",
		users + "alice set bob=robert":      "",
		users + "alice set bob@90":          "bob",
		users + "alice set bob@never":       "",
		members:                             "",
		members + "alice remove bob":        "bob",
		members + "alice role bob:admin":    "",
		members + "alice role bob:reader":   "bob",
		members + "alice role carol:member": "",
		members + "bob leave":               "bob",
		members + "alice policy pad":        "",
		members + "alice policy live":       "alice bob dave",
		members + "alice archive":           "alice bob dave",
	} {
		var last *Entry
		s := watch(t, text, func(_ *State, e *Entry) { last = e })
		if got := namesOf(last.Narrows(s)); got != want {
			t.Errorf("%s: %q, not %q", text, got, want)
		}
	}
	var revoked *Entry
	again := watch(t, users+"alice revoke bob\nalice add bob:user", func(_ *State, e *Entry) {
		if e.Op == "revoke" {
			revoked = e
		}
	})
	if got := namesOf(revoked.Narrows(again)); got != "" {
		t.Errorf("who is in again: %q", got)
	}
}

// namesOf are keys by their names, in order.
func namesOf(keys []crypto.PublicKey) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = nameOf(k)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestRevokedFit: as many users as clients revoke with one entry are well under the largest statement.
func TestRevokedFit(t *testing.T) {
	body, err := crypto.Marshal(Revoke{Keys: make([]crypto.PublicKey, 20_000)})
	if err != nil || len(body) > crypto.MaxStatement*3/4 {
		t.Errorf("they take %d bytes of %d: %v", len(body), crypto.MaxStatement, err)
	}
}
