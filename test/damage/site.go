package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/unibus/unibus/test/run"
)

// patience is for what must happen at some time; it only matters when it does not.
const patience = 3 * time.Minute

// site is a folder with a server's data and with those who use it.
type site struct {
	dir    string
	listen string
	server *run.Node // while it runs
}

// data is the server's folder.
func (s *site) data() string { return filepath.Join(s.dir, "data") }

// peer is somebody here, who wants to be told everything.
func (s *site) peer(who string) run.Peer {
	home := filepath.Join(s.dir, who)
	return run.Peer{Binary: *binary, Identity: filepath.Join(home, "identity.nk"), State: filepath.Join(home, "state"), Home: home, Told: true}
}

// command is unibus run by somebody.
func (s *site) command(ctx context.Context, who string, args ...string) *exec.Cmd {
	return s.peer(who).Command(ctx, "nats://"+s.listen, args...)
}

// result is what a command came to.
type result struct {
	code int
	out  string
	said string // on stderr
}

// run runs a command to its end. It returns an error only if it could not be run.
func (s *site) run(ctx context.Context, who string, args ...string) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out, said bytes.Buffer
	cmd := s.command(ctx, who, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	code, err := run.Ended(cmd.Run())
	return result{code, out.String(), said.String()}, err
}

// must runs a command, which has to succeed.
func (s *site) must(ctx context.Context, who string, args ...string) (string, error) {
	r, err := s.run(ctx, who, args...)
	if err == nil && r.code != 0 {
		err = fmt.Errorf("unibus %s by %s ended with %d: %s", strings.Join(args, " "), who, r.code, strings.TrimSpace(r.said))
	}
	return strings.TrimSpace(r.out), err
}

// serverLog is where the server says what goes on.
func (s *site) serverLog() string { return filepath.Join(s.dir, "serve.log") }

// start starts the server and waits until it is ready.
func (s *site) start(owner string) error {
	n := &run.Node{
		Founder: s.peer(owner), Name: "the server", Listen: s.listen, Data: s.data(), Args: []string{"-o", "json"},
		Log: run.Appender(s.serverLog()), Tell: func(string, ...any) {},
	}
	if err := n.Start(); err != nil {
		return err
	}
	s.server = n
	err := n.IsReady(context.Background())
	if err != nil {
		s.stop(syscall.SIGKILL)
	}
	return err
}

// stop ends the server with a signal; it is killed if that does not end it in time.
func (s *site) stop(how os.Signal) {
	if s.server == nil {
		return
	}
	if how == syscall.SIGKILL {
		s.server.Kill()
	} else {
		_, _ = s.server.Stop() // one that takes too long is killed, which serves as well
	}
	s.server = nil
}

// copyTree makes a copy of a folder.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o600)
	})
}
