// Command soak kills unibus serve again and again, with SIGKILL, while someone publishes and someone
// reads, and starts it anew on what it left. It checks that every message arrives once and in order,
// also for who reads later, and that no change that was acknowledged is lost. It prints what it did.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/test/run"
)

var (
	binary  = flag.String("unibus", "bin/unibus", "the program under test")
	rounds  = flag.Int("rounds", 100, "how often the server is killed, on each store")
	stores  = flag.String("stores", "sqlite,jetstream", "the stores to try")
	longest = flag.Duration("longest", 400*time.Millisecond, "between a start and the next kill, at most")
)

const last = "the last message\n"

func main() {
	flag.Parse()
	run.Main(func(ctx context.Context) error {
		for store := range strings.SplitSeq(*stores, ",") {
			if err := try(ctx, store); err != nil {
				return fmt.Errorf("%s: %w", store, err)
			}
		}
		return nil
	})
}

// soak is one server, killed many times.
type soak struct {
	dir    string
	listen string
	args   []string
	server *exec.Cmd
	sent   atomic.Int64 // lines given to pub
}

// try founds a bus with a kind of store, and kills its server under load.
func try(ctx context.Context, store string) error {
	dir, err := os.MkdirTemp("", "unibus-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &soak{dir: dir, listen: freeport.Local()}
	if store != "sqlite" {
		s.args = []string{"--store", store}
	}
	if _, err := s.unibus(ctx, "init", "--name", "soak"); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	defer func() { _ = s.server.Process.Kill() }()
	if _, err := s.unibus(ctx, "room", "create", "room"); err != nil {
		return err
	}
	began := time.Now()
	if err := s.load(ctx); err != nil {
		return err
	}
	if err := s.judge(ctx); err != nil {
		return err
	}
	log.Printf("%s: killed %d times in %v; %d messages, each once and in order; %d rooms made in between, all there; doctor finds nothing",
		store, *rounds, time.Since(began).Round(time.Second), s.sent.Load(), *rounds)
	return nil
}

// load kills the server while messages go through it.
func (s *soak) load(ctx context.Context) error {
	loading, cancel := context.WithCancel(ctx) // the server goes on
	defer cancel()
	stop := make(chan struct{})
	published, read := make(chan error, 1), make(chan error, 1)
	go func() { published <- s.publish(loading, stop) }()
	reading := make(chan struct{})
	go func() { read <- s.read(loading, reading) }()
	select {
	case err := <-read:
		return err
	case err := <-published:
		return err
	case <-reading: // both are connected: who comes while there is no server is told so, and ends
	}
	for i := range *rounds {
		select {
		case err := <-read:
			return err
		case err := <-published:
			return err
		case <-time.After(rand.N(*longest)):
		}
		if err := s.server.Process.Kill(); err != nil {
			return err
		}
		_ = s.server.Wait() // it was killed
		if err := s.start(ctx); err != nil {
			return err
		}
		if _, err := s.unibus(ctx, "room", "create", fmt.Sprintf("made.%d", i)); err != nil {
			return err
		}
	}
	close(stop)
	if err := <-published; err != nil {
		return err
	}
	if err := <-read; err != nil {
		return fmt.Errorf("read while it came: %w", err)
	}
	return nil
}

// judge looks at what is there in the end.
func (s *soak) judge(ctx context.Context) error {
	all, err := s.unibus(ctx, "sub", "room", "--all", "--end")
	if err != nil {
		return err
	}
	if err := s.same(bufio.NewReader(bytes.NewReader(all))); err != nil {
		return fmt.Errorf("read from the start: %w", err)
	}
	rooms, err := s.unibus(ctx, "rooms", "ls")
	if err != nil {
		return err
	}
	if n := strings.Count(string(rooms), "made."); n != *rounds {
		return fmt.Errorf("%d of %d rooms are there", n, *rounds)
	}
	if out, err := s.unibus(ctx, "doctor", "--keys", filepath.Join(s.dir, "data", "service.nk"), "--data", filepath.Join(s.dir, "data")); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

func (s *soak) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, *binary, args...)
	cmd.Env = append(os.Environ(),
		"UNIBUS_IDENTITY="+filepath.Join(s.dir, "identity.nk"), "UNIBUS_STATE="+filepath.Join(s.dir, "state"),
		"UNIBUS_SERVER=nats://"+s.listen, "UNIBUS_TIMEOUT=20s", "UNIBUS_QUIET=true", "XDG_CONFIG_HOME="+s.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

// unibus runs one command, which has to succeed.
func (s *soak) unibus(ctx context.Context, args ...string) ([]byte, error) {
	cmd := s.command(ctx, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("unibus %s: %w: %s", strings.Join(args, " "), err, said.Bytes())
	}
	return out, err
}

// start starts the server, and returns when it is ready.
func (s *soak) start(ctx context.Context) error {
	s.server = s.command(ctx, append([]string{"serve", "-o", "json", "--listen", s.listen, "--data", filepath.Join(s.dir, "data")}, s.args...)...)
	s.server.Stderr = os.Stderr
	ready, err := run.Serve(s.server)
	if err != nil {
		return err
	}
	_, err = ready()
	return err
}

// publish pipes numbers into one pub until it is told to stop; all of them have to be acknowledged.
func (s *soak) publish(ctx context.Context, stop <-chan struct{}) error {
	cmd := s.command(ctx, "pub", "room")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for going := true; going && err == nil; {
		select {
		case <-tick.C:
			_, err = fmt.Fprintln(in, s.sent.Load())
			s.sent.Add(1)
		case <-stop:
			going = false
		}
	}
	if err == nil {
		_, err = io.WriteString(in, last)
	}
	in.Close()
	if err = errors.Join(err, cmd.Wait()); err != nil {
		err = fmt.Errorf("unibus pub: %w: %s", err, said.Bytes())
	}
	return err
}

// read follows the room from its start to its last message. It closes reading when the first is there.
func (s *soak) read(ctx context.Context, reading chan<- struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := s.command(ctx, "sub", "room", "--all")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	_, _ = lines.Peek(1) // same meets the error again
	close(reading)
	err = s.same(lines)
	cancel()
	_ = cmd.Wait() // it was told to end
	return err
}

// same checks that what is read is what was sent.
func (s *soak) same(lines *bufio.Reader) error {
	for n := int64(0); ; n++ {
		line, err := lines.ReadString('\n')
		switch {
		case err != nil:
			return fmt.Errorf("after %d messages: %w", n, err)
		case line == last && n == s.sent.Load():
			return nil
		case line != fmt.Sprintln(n):
			return fmt.Errorf("%q after %d messages of %d", line, n, s.sent.Load())
		}
	}
}
