package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/unibus/unibus/internal/termsvg"
	"github.com/unibus/unibus/internal/tmux"
)

// stage is a bus on this machine with two people on it, as they are before any picture.
type stage struct {
	ctx    context.Context
	dir    string // temporary, with the program and everybody's files
	host   string // the name of this machine
	server *exec.Cmd
	url    string
}

// newStage builds the program, starts a bus with it and sends what history has. Whoever has it closes it.
func newStage(ctx context.Context) (*stage, error) {
	dir, err := os.MkdirTemp("", "unibus-pictures-")
	if err != nil {
		return nil, err
	}
	s := &stage{ctx: ctx, dir: dir}
	if s.host, err = os.Hostname(); err == nil {
		err = s.set()
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// set brings everything to where the pictures begin.
func (s *stage) set() error {
	build := exec.CommandContext(s.ctx, "go", "build", "-o", filepath.Join(s.dir, "unibus"), "./cmd/unibus")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, said)
	}
	for _, who := range []string{"alice", "bob"} {
		if err := os.Mkdir(filepath.Join(s.dir, who), 0o700); err != nil {
			return err
		}
		if _, err := s.unibus(who, "init", "--name", who); err != nil {
			return err
		}
	}
	if err := s.serve(); err != nil {
		return err
	}
	key, err := s.unibus("bob", "whoami")
	if err != nil {
		return err
	}
	steps := [][]string{
		{"alice", "join", s.url}, {"alice", "user", "add", strings.TrimSpace(key), "--name", "bob"}, {"bob", "join", s.url},
		{"alice", "room", "create", "ops.alerts"}, {"alice", "room", "create", "ops.deploys", "--history", "shared"},
		{"alice", "invite", "ops.alerts", "bob"}, {"alice", "invite", "ops.deploys", "bob"},
	}
	for _, m := range history {
		steps = append(steps, []string{m.who, "pub", m.room, m.body})
	}
	for _, step := range steps {
		if _, err := s.unibus(step[0], step[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// serve starts the bus, as alice, with its data in a folder that no command looks into.
func (s *stage) serve() error {
	s.server = exec.CommandContext(s.ctx, filepath.Join(s.dir, "unibus"), "serve", "-o", "json", "--listen", "127.0.0.1:0", "--data", filepath.Join(s.dir, "data"))
	s.server.Env = s.environment("alice")
	out, err := s.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.server.Start(); err != nil {
		s.server = nil
		return err
	}
	var ready struct{ Server, Bus string }
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		return fmt.Errorf("serve did not get ready: %w", err)
	}
	s.url = ready.Server + "#" + ready.Bus
	return nil
}

// environment is that of somebody, whose files are below a folder of their own. Nothing but the program's folder is in it
// that is not the same on all machines.
func (s *stage) environment(who string) []string {
	home := filepath.Join(s.dir, who)
	return []string{
		"PATH=" + s.dir + string(os.PathListSeparator) + os.Getenv("PATH"), "HOME=" + home, "TZ=UTC",
		"XDG_CONFIG_HOME=" + filepath.Join(home, "config"), "XDG_STATE_HOME=" + filepath.Join(home, "state"), "XDG_DATA_HOME=" + filepath.Join(home, "data"),
	}
}

// unibus runs a command as somebody, and returns what it prints.
func (s *stage) unibus(who string, args ...string) (string, error) {
	cmd := exec.CommandContext(s.ctx, filepath.Join(s.dir, "unibus"), args...)
	cmd.Env = s.environment(who)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("unibus %s: %w\n%s", strings.Join(args, " "), err, said.String())
	}
	return string(out), err
}

// close ends the bus and removes everything.
func (s *stage) close() error {
	if s.server != nil {
		_ = s.server.Process.Kill() // it may have ended
		_ = s.server.Wait()         // by that
	}
	return os.RemoveAll(s.dir)
}

// rows are as many as any picture needs of what is no full screen; those that nothing stands in are cut off.
const rows = 60

// draw plays what a picture shows, and draws it.
func (s *stage) draw(p picture) (drawn []byte, err error) {
	session, err := tmux.Start(s.ctx, tmux.Options{Dir: filepath.Join(s.dir, p.who), Env: s.environment(p.who), Columns: p.columns, Rows: cmp.Or(p.rows, rows)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	t := &terminal{stage: s, session: session}
	p.play(t)
	if t.err != nil {
		return nil, t.err
	}
	screen, err := session.Styled()
	if err != nil {
		return nil, err
	}
	if err := s.shows(screen); err != nil {
		return nil, err
	}
	screen = strings.TrimSuffix(screen, "\n$") // the prompt of what comes next
	return termsvg.Window{Title: p.title, Columns: p.columns, Screen: termsvg.Read(screen)}.Draw()
}

// shows fails when a screen shows the machine that it is on: pictures are of the program.
func (s *stage) shows(screen string) error {
	if strings.Contains(screen, s.dir) {
		return fmt.Errorf("it shows %s", s.dir)
	}
	if regexp.MustCompile(`\b` + regexp.QuoteMeta(s.host) + `\b`).MatchString(screen) {
		return fmt.Errorf("it shows the name of this machine, %s", s.host)
	}
	return nil
}

// terminal is what plays in one. After the first error nothing more happens, and that is kept.
type terminal struct {
	stage   *stage
	session *tmux.Session
	err     error
}

// do does something unless there was an error before.
func (t *terminal) do(what func() error) {
	if t.err == nil {
		t.err = what()
	}
}

// types types a line and Enter.
func (t *terminal) types(line string) {
	t.do(func() error { return t.session.Type(line + "\n") })
}

// writes types a message into a chat, and sends it: there, the end of a line in what is typed is one in the message.
func (t *terminal) writes(message string) {
	t.do(func() error { return t.session.Type(message) })
	t.do(func() error { return t.session.Key("Enter") })
}

// waits waits until the screen shows a text.
func (t *terminal) waits(text string) {
	t.do(func() error { return t.session.Await(t.stage.ctx, text) })
}

// waitsForPrompt waits until what runs has ended.
func (t *terminal) waitsForPrompt() {
	t.do(func() error {
		return t.session.AwaitScreen(t.stage.ctx, "the prompt", func(screen string) bool { return strings.HasSuffix(screen, "\n$") })
	})
}

// others runs a command as somebody else meanwhile.
func (t *terminal) others(who string, args ...string) {
	t.do(func() error {
		_, err := t.stage.unibus(who, args...)
		return err
	})
}
