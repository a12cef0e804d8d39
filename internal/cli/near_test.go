package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestNearNames: what is spelled nearly like a name, the nearest first, else what begins with it, and never much.
func TestNearNames(t *testing.T) {
	for name, want := range map[string]string{
		"ops.alert": "ops.alerts", "opsalerts": "ops.alerts", "OPS.ALERTS": "ops.alerts", "bbo": "bob", "bib": "bob", "alcie": "alice", "op": "ops.alerts ops.deploys",
		"user3": "user30 user31 user32", "": "", "zzz": "", "b": "bob",
	} {
		known := []string{"ops.deploys", "ops.alerts", "bob", "alice", "user33", "user32", "user31", "user30"}
		if got := strings.Join(nearNames(name, known), " "); got != want {
			t.Errorf("%q: %q instead of %q", name, got, want)
		}
	}
}

// TestDistance: letters that are changed, added, left out or swapped count one each.
func TestDistance(t *testing.T) {
	for pair, want := range map[string]int{"/": 0, "a/": 1, "/ab": 2, "abc/abc": 0, "abc/abd": 1, "abc/acb": 1, "abcd/badc": 2, "kitten/sitting": 3, "ca/abc": 3} {
		a, b, _ := strings.Cut(pair, "/")
		if got := distance(a, b); got != want {
			t.Errorf("%s: %d instead of %d", pair, got, want)
		}
	}
}

// TestCompletesFiles: shells offer files for a flag or an argument that is one, and for nothing else.
func TestCompletesFiles(t *testing.T) {
	b := newTestBus(t)
	files := map[string]bool{}
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if _, offers := c.GetFlagCompletionFunc(f.Name); !offers && f.NoOptDefVal == "" {
				files[f.Name] = true
			}
		})
		if c.Runnable() && !c.HasSubCommands() && c.ValidArgsFunction == nil && c.ValidArgs == nil {
			files[c.Name()] = true
		}
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	root := newRoot(newApp(b.temp(""), b.temp(""), b.temp("")))
	prepareCompletion(root)
	look(root)
	want := map[string]bool{
		"identity": true, "keys": true, "tls-ca": true, "file": true, "input": true, "export": true,
		"nats-config": true, "tls-cert": true, "tls-key": true, "cluster-tls-cert": true, "cluster-tls-key": true, "cluster-tls-ca": true,
		"backup": true, "restore": true,
	}
	for name := range want {
		if !files[name] {
			t.Errorf("%s does not offer files", name)
		}
	}
	for name := range files {
		if !want[name] {
			t.Errorf("%s offers files", name)
		}
	}
	for line, want := range map[string]string{"sub r --last ": ":4", "serve --data ": ":16", "user add --name ": ":4", "room create ": ":4", "pub r --file ": ":0"} {
		args := append([]string{"__complete"}, strings.Fields(line)...)
		if got := strings.Fields(b.must(exitDone, "nobody", append(args, "")...)); !slices.Contains(got, want) {
			t.Errorf("%s: %q, not %s", line, got, want)
		}
	}
}
