package bus

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/unibus/unibus/internal/store"
)

// TestKeysFile: keys are made once, and are the same for whoever reads their file; none are made in place of a file that
// cannot be used.
func TestKeysFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "service.nk")
	if _, err := LoadKeys(file); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no file: %v", err)
	}
	made, isNew, err := LoadOrMakeKeys(file)
	if err != nil || !isNew {
		t.Fatalf("%v, %v", isNew, err)
	}
	read, isNew, err := LoadOrMakeKeys(file)
	if err != nil || isNew {
		t.Fatalf("%v, %v", isNew, err)
	}
	one, err1 := made.Config()
	two, err2 := read.Config()
	if one != two || made.Route != read.Route || err1 != nil || err2 != nil {
		t.Errorf("other keys are read than were made: %v, %v", err1, err2)
	}
	if text, _ := os.ReadFile(file); strings.Contains(one, string(made.seed)) || !strings.Contains(string(text), string(made.seed)) {
		t.Error("the secret is in the configuration, or not in the file")
	}
	if _, isNew, err := LoadOrMakeKeys(filepath.Join(file, "service.nk")); err == nil || isNew {
		t.Error("keys are made below a file")
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		text string
		mode os.FileMode
		kind error
	}{
		"empty":          {"", 0o600, store.ErrInvalid},
		"comments alone": {"# one\n\n  # two\n", 0o600, store.ErrInvalid},
		"no seed":        {"SAAB\n", 0o600, store.ErrInvalid},
		"a user's seed":  {string(seed) + "\n", 0o600, store.ErrInvalid},
		"readable":       {string(made.seed), 0o644, nil},
	} {
		file := filepath.Join(t.TempDir(), "service.nk")
		if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if _, isNew, err := LoadOrMakeKeys(file); err == nil || isNew || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDuties: each duty has a user of its own, in the configuration and on the servers, and other keys have others.
func TestDuties(t *testing.T) {
	o := serverOptions(t)
	s, _ := startServer(t, o)
	conf, err := o.Keys.Config()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, user := range s.Links.Users() {
		if seen[user] || !strings.Contains(conf, user) {
			t.Errorf("%s stands for several duties, or for none", user)
		}
		seen[user] = true
	}
	if len(seen) != len(duties) {
		t.Errorf("%d users", len(seen))
	}
	other, err := NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := other.Config()
	if err != nil {
		t.Fatal(err)
	}
	for user := range seen {
		if strings.Contains(theirs, user) {
			t.Errorf("%s is in the configuration of other keys", user)
		}
	}
	if n := len((&Links{}).Users()); n != 0 {
		t.Errorf("%d users of no connection", n)
	}
}
