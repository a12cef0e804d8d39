package main

import (
	"bytes"
	"context"
	"errors"
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

const (
	patience  = 3 * time.Minute // for what must happen at some time; it only matters when it does not
	stopLimit = 5 * time.Second // from SIGTERM to the end of a process
)

// site is a folder with a server's data and with those who use it.
type site struct {
	dir    string
	listen string
	server *exec.Cmd // while it runs
	gone   chan struct{}
}

// data is the server's folder.
func (s *site) data() string { return filepath.Join(s.dir, "data") }

// command is unibus run by somebody.
func (s *site) command(ctx context.Context, who string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, *binary, args...)
	home := filepath.Join(s.dir, who)
	cmd.Env = append(os.Environ(), "UNIBUS_IDENTITY="+filepath.Join(home, "identity.nk"), "UNIBUS_STATE="+filepath.Join(home, "state"),
		"UNIBUS_SERVER=nats://"+s.listen, "XDG_CONFIG_HOME="+home)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	return cmd
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
	code, err := ended(cmd.Run())
	return result{code, out.String(), said.String()}, err
}

// ended is the exit code in the error of a command.
func ended(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
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
	file, err := os.OpenFile(s.serverLog(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	cmd := s.command(context.Background(), owner, "serve", "-o", "json", "--listen", s.listen, "--data", s.data())
	cmd.Stderr = file
	ready, err := run.Serve(cmd)
	if err != nil {
		return err
	}
	s.server, s.gone = cmd, make(chan struct{})
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	_, err = ready()
	go func() { // ends with the process
		_ = cmd.Wait() // how a server ends that was told to does not matter
		close(s.gone)
	}()
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
	_ = s.server.Process.Signal(how) // it may have ended
	kill := time.AfterFunc(stopLimit, func() { _ = s.server.Process.Kill() })
	defer kill.Stop()
	<-s.gone
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
