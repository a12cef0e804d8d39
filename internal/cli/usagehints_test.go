package cli

import (
	"strings"
	"testing"
)

// TestCommandLines: a command line with the answer to what it asks, and one without flags that are too much, can be pasted.
func TestCommandLines(t *testing.T) {
	for words, want := range map[string]string{
		"room|archive|ops.alerts":                  "unibus room archive ops.alerts --yes",
		"room|archive|-q|--|-x":                    "unibus room archive -q --yes -- -x",
		"user|revoke|me|--reason|it's me":          `unibus user revoke me --reason 'it'\''s me' --yes`,
		"forget|nats://h:1":                        "unibus forget nats://h:1 --yes",
		"forget|nats://h:1|--server=nats://u:p@h":  "the same with --yes",
		"room|set|r|--max-bytes=1 GiB|--retain=1h": "unibus room set r '--max-bytes=1 GiB' --retain=1h --yes",
		"bus|rm|": "unibus bus rm '' --yes",
	} {
		if got := hintYes(strings.Split(words, "|")); got != want {
			t.Errorf("%s: %q, not %q", words, got, want)
		}
	}
	b := newTestBus(t)
	sub, _, err := newRoot(newApp(b.temp(""), b.temp(""), b.temp(""))).Find([]string{"sub"})
	if err != nil {
		t.Fatal(err)
	}
	sub.InheritedFlags() // which a command has when it runs
	for words, want := range map[string]string{
		"sub r --all --last 5":                "unibus sub r --last 5",
		"--output json sub r --all -q":        "unibus --output json sub r -q",
		"sub --all=true r --wait --all":       "unibus sub r --wait --all", // the value of another flag
		"sub r -- --all":                      "leave out --all",           // it is from elsewhere
		"sub --server nats://u:p@h r --all x": "leave out --all",
	} {
		if got := hintWithout(sub, strings.Fields(words), []string{"all"}); got != want {
			t.Errorf("%s: %q, not %q", words, got, want)
		}
	}
	if got := hintSwapped(sub, []string{"kick", "-q", "bob"}, []string{"bob", "r"}); !strings.HasPrefix(got, "usage: ") {
		t.Errorf("what cannot be found in the command line: %q", got)
	}
}

// TestLikes: what is offered instead of a subject, a pattern or a name is one, or nothing but an example.
func TestLikes(t *testing.T) {
	for given, want := range map[string]string{
		"Ops Alerts": "ops.alerts", "ops/alerts": "ops.alerts", "$SYS.x": "sys.x", "a..b.": "a.b", "*": "ops.alerts", "": "ops.alerts", "grün": "gr.n",
		strings.Repeat("x", 201): "ops.alerts", "-evil": "evil", strings.Repeat("a", 32): "ops.alerts",
	} {
		if got := hintSubject(given); got != "unibus room create "+want {
			t.Errorf("subject %q: %s", given, got)
		}
	}
	for given, want := range map[string]string{"ops.>.x": "ops.>", "op*.x": "*.x", "ops..>": "ops.>", "ops>": ">", "a.*.b": "a.*.b"} {
		if got := likePattern(given); got != want {
			t.Errorf("pattern %q: %s", given, got)
		}
	}
	for given, want := range map[string]string{"two words": "--name two.words", "Zoë": hintName, "!": hintName, "": hintName, strings.Repeat("x", 65) + " ": hintName, "-x y": "--name '-x.y'"} {
		if got := hintNamed(given); got != want {
			t.Errorf("name %q: %s", given, got)
		}
	}
}
