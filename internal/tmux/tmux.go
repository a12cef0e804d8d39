// Package tmux is a real terminal of a known size in which programs run: for tests of what people see, and for pictures of
// it. Each Session is a tmux server of its own, which reads nobody's configuration, with one shell in it.
//
// What is on the screen is asked for again until it is as expected, or a context ends: nothing here waits for a time.
package tmux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Prompt is what the shell of a session asks with.
const Prompt = "$ "

// Installed reports whether there is a tmux to run.
func Installed() bool {
	_, err := exec.LookPath("tmux")
	return err == nil
}

// Options say what terminal there is to be.
type Options struct {
	// Dir is the folder in which the shell starts; empty: the present one.
	Dir string
	// Env are variables, NAME=VALUE, beside PATH, TMPDIR and HOME, which is Dir unless it is among them. Nothing else is
	// taken from the environment, so that all machines show the same.
	Env []string
	// Columns and Rows are its size; 0: 80 and 24.
	Columns, Rows int
}

// Session is a terminal with a shell in it. Its methods may be called from one goroutine at a time.
type Session struct {
	dir    string // temporary, with the socket
	socket string
	env    []string
}

// Start opens a terminal and returns when its shell prompts; the context bounds that alone. The caller closes it.
func Start(ctx context.Context, o Options) (*Session, error) {
	dir, err := os.MkdirTemp("", "tmux")
	if err != nil {
		return nil, err
	}
	s := &Session{dir: dir, socket: filepath.Join(dir, "s"), env: environment(o)}
	if err := s.start(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// environment is that of the server, which its shell inherits.
func environment(o Options) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + o.Dir, "PS1=" + Prompt, "LC_ALL=C.UTF-8", "SHELL=/bin/sh"}
	if tmp := os.Getenv("TMPDIR"); tmp != "" {
		env = append(env, "TMPDIR="+tmp)
	}
	return append(env, o.Env...)
}

// start runs the server with its one session.
func (s *Session) start(ctx context.Context, o Options) error {
	size := func(n, otherwise int) string {
		if n == 0 {
			n = otherwise
		}
		return strconv.Itoa(n)
	}
	args := []string{
		"-u", "-f", os.DevNull,
		"start-server", ";",
		"set-option", "-g", "status", "off", ";", // all rows are the program's
		"set-option", "-g", "default-terminal", "screen-256color", ";", // which every terminfo has
		"set-option", "-g", "history-limit", "10000", ";",
		"set-option", "-s", "escape-time", "0", ";", // a typed Escape is one at once
		"new-session", "-d", "-x", size(o.Columns, 80), "-y", size(o.Rows, 24),
	}
	if o.Dir != "" {
		args = append(args, "-c", o.Dir)
	}
	if _, err := s.run(ctx, append(args, "sh")...); err != nil {
		return err
	}
	return s.Await(ctx, strings.TrimRight(Prompt, " "))
}

// run gives the server a command and returns what it prints.
func (s *Session) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "tmux", append([]string{"-S", s.socket}, args...)...)
	cmd.Env = s.env
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("tmux %s: %w: %s", args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return string(out), nil
}

// Type types a text as it is; a newline in it is the Enter key.
func (s *Session) Type(text string) error {
	// One argument that ends with a semicolon would end the command of tmux.
	if before, ok := strings.CutSuffix(text, ";"); ok {
		text = before + `\;`
	}
	_, err := s.run(context.Background(), "send-keys", "-l", "--", text)
	return err
}

// Key presses keys by the names that tmux has for them: Enter, C-c, Up, PageUp, F1, M-x.
func (s *Session) Key(names ...string) error {
	_, err := s.run(context.Background(), append([]string{"send-keys", "--"}, names...)...)
	return err
}

// Screen is what is on the screen, without colours; spaces at the ends of lines and empty lines at its end are left out.
func (s *Session) Screen() (string, error) { return s.capture("-p") }

// Styled is Screen with the escape sequences that colour it, and with the spaces at the ends of lines, which may have a
// background. What a line ends with goes on in the next.
func (s *Session) Styled() (string, error) { return s.capture("-p", "-e", "-N") }

// History is Screen with all that was scrolled out of it before.
func (s *Session) History() (string, error) { return s.capture("-p", "-S", "-") }

// capture asks for the screen.
func (s *Session) capture(args ...string) (string, error) {
	screen, err := s.run(context.Background(), append([]string{"capture-pane"}, args...)...)
	return strings.TrimRight(screen, " \n"), err
}

// Await waits until the screen contains a text. When the context ends before, the error says what is on the screen instead.
func (s *Session) Await(ctx context.Context, text string) error {
	return s.AwaitScreen(ctx, strconv.Quote(text), func(screen string) bool { return strings.Contains(screen, text) })
}

// AwaitScreen is Await for a screen that is as a function wants it; what names that in the error.
func (s *Session) AwaitScreen(ctx context.Context, what string, is func(screen string) bool) error {
	for {
		screen, err := s.Screen()
		if err != nil || is(screen) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the terminal never showed %s: %w; it shows:\n%s", what, context.Cause(ctx), screen)
		case <-time.After(10 * time.Millisecond): // until the next look
		}
	}
}

// Resize gives the terminal another size.
func (s *Session) Resize(columns, rows int) error {
	_, err := s.run(context.Background(), "resize-window", "-x", strconv.Itoa(columns), "-y", strconv.Itoa(rows))
	return err
}

// Close ends what runs in the terminal, and the terminal.
func (s *Session) Close() error {
	var err error
	if _, missing := os.Stat(s.socket); missing == nil {
		_, err = s.run(context.Background(), "kill-server")
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
