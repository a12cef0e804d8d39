package tmux

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// patience is for what must happen soon; it only matters when it does not.
const patience = time.Minute

// open starts a terminal that ends with the test.
func open(t *testing.T, o Options) (context.Context, *Session) {
	t.Helper()
	if !Installed() {
		t.Skip("tmux is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	s, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return ctx, s
}

// check fails the test with the first error there is.
func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestTerminal(t *testing.T) {
	dir := t.TempDir()
	ctx, s := open(t, Options{Dir: dir, Env: []string{"GREETING=good day"}, Columns: 50, Rows: 10})

	// The shell is in the folder, has the variables, and a terminal of that size.
	check(t, s.Type("echo \"$GREETING\"; stty size; test -t 1 && pwd -P >here;"), s.Key("Enter"), s.Await(ctx, "good day\n10 50\n$"))
	if here, err := os.ReadFile(dir + "/here"); err != nil || !strings.HasSuffix(strings.TrimSpace(string(here)), dir) {
		t.Errorf("the shell is in %s (%v), not in %s", here, err, dir)
	}

	// Keys have names; what is typed is literal, also where it is the name of a key.
	check(t, s.Type("cat"), s.Key("Enter"), s.Type("Enter C-c"), s.Key("Enter"), s.Await(ctx, "Enter C-c\nEnter C-c"))
	check(t, s.Key("C-c"), s.Await(ctx, "^C\n$"))

	// It is resized while it runs.
	check(t, s.Resize(64, 12), s.Type("clear; stty size\n"), s.Await(ctx, "12 64\n$"))
}

func TestStyledAndHistory(t *testing.T) {
	ctx, s := open(t, Options{Dir: t.TempDir(), Rows: 5})
	check(t, s.Type(`printf 'one\ntwo\n\033[32mgreen\033[0m\nfour\nfive\nsix\n'`+"\n"), s.Await(ctx, "six\n$"))
	screen, err := s.Screen()
	check(t, err)
	if screen != "green\nfour\nfive\nsix\n$" {
		t.Errorf("the screen is not the last lines:\n%s", screen)
	}
	history, err := s.History()
	check(t, err)
	if !strings.Contains(history, "one\ntwo\ngreen\nfour") {
		t.Errorf("the history lacks what was scrolled out:\n%s", history)
	}
	check(t, s.Type(`clear; printf '\033[32mgreen\033[0m plain\n'`+"\n"), s.Await(ctx, "green plain\n$"))
	styled, err := s.Styled()
	check(t, err)
	if !strings.Contains(styled, "\x1b[32mgreen\x1b[39m plain") {
		t.Errorf("no colours in %q", styled)
	}
}

// TestNeverShown: what does not come ends with the context, and the error has the screen.
func TestNeverShown(t *testing.T) {
	ctx, s := open(t, Options{Dir: t.TempDir()})
	check(t, s.Type("echo something else\n"), s.Await(ctx, "\nsomething else\n$"))
	ended, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("enough"))
	err := s.Await(ended, "what was expected")
	if err == nil || !strings.Contains(err.Error(), `"what was expected": enough; it shows:`) || !strings.Contains(err.Error(), "\nsomething else\n$") {
		t.Errorf("%v", err)
	}
}

// TestClosed: a closed terminal answers no more, and its folder is gone.
func TestClosed(t *testing.T) {
	_, s := open(t, Options{Dir: t.TempDir()})
	check(t, s.Close())
	if _, err := s.Screen(); err == nil {
		t.Error("a closed terminal still answers")
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("its folder is still there: %v", err)
	}
}

// TestNotStarted: a terminal that cannot be is an error that says why, and leaves nothing behind.
func TestNotStarted(t *testing.T) {
	if !Installed() {
		t.Skip("tmux is not installed")
	}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	if _, err := Start(t.Context(), Options{Columns: -1}); err == nil || !strings.Contains(err.Error(), "width") {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("%v is left behind (%v)", left, err)
	}
}
