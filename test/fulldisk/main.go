//go:build linux

// Command fulldisk shows what people see when the disk of a bus is full, and that everything works again
// once there is room, without a restart: for each store, on a small file system of its own. It mounts one,
// so it needs root, and Linux.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/unibus/unibus/internal/freeport"
	"github.com/unibus/unibus/test/run"
)

// patience is for what must happen soon; it only matters when it does not.
const patience = time.Minute

func main() {
	unibus := flag.String("unibus", "bin/unibus", "the program to look at")
	flag.Parse()
	file, err := filepath.Abs(*unibus)
	if err == nil {
		for _, store := range []string{"sqlite", "jetstream"} {
			if err = try(file, store); err != nil {
				err = fmt.Errorf("%s: %w", store, err)
				break
			}
			fmt.Println(store + ": ok")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fulldisk:", err)
		os.Exit(1)
	}
}

// bus is one on a small disk.
type bus struct {
	unibus, dir, disk, server string
	log                       bytes.Buffer // read only once serve has ended
}

func try(unibus, store string) error {
	dir, err := os.MkdirTemp("", "unibus-fulldisk-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bus{unibus: unibus, dir: dir, disk: filepath.Join(dir, "disk")}
	if err := os.Mkdir(b.disk, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", b.disk, "tmpfs", 0, "size=16m"); err != nil {
		return fmt.Errorf("mount a small file system (as root?): %w", err)
	}
	defer func() { _ = syscall.Unmount(b.disk, syscall.MNT_DETACH) }()
	return b.story(store)
}

func (b *bus) story(store string) error {
	nats, http := freeport.Local(), freeport.Local()
	b.server = "nats://" + nats
	args := []string{"serve", "--listen", nats, "--http", http, "--data", filepath.Join(b.disk, "data")}
	if store == "jetstream" {
		args = append(args, "--store", store)
	}
	serve := b.command(args...)
	serve.Stdout, serve.Stderr = &b.log, &b.log
	if err := errors.Join(b.command("init", "-q").Run(), serve.Start()); err != nil {
		return err
	}
	told := b.steps(http)
	stopped := errors.Join(serve.Process.Signal(syscall.SIGTERM), wait(serve))
	for _, line := range []string{"the disk is full", "the disk has room again", "JetStream was started again"} {
		if n := strings.Count(b.log.String(), line); told == nil && n != 1 {
			told = fmt.Errorf("serve says %d times %q", n, line)
		}
	}
	if told != nil {
		return fmt.Errorf("%w\n%s", told, &b.log)
	}
	return stopped
}

// steps fill the disk and make room again.
func (b *bus) steps(http string) error {
	fill := filepath.Join(b.disk, "fill")
	for _, step := range []func() error{
		func() error { return b.until(0, "room", "create", "before") },
		func() error { return b.expect(0, "", "pub", "before", "one") },
		func() error { return filled(fill) },
		func() error { return b.expect(5, "unavailable", "pub", "before", strings.Repeat("x", 60<<10)) },
		func() error { return b.expect(5, "unavailable", "room", "create", "during") },
		func() error { return healthy(http, 503, "disk of the server is full") },
		func() error { return os.Remove(fill) },
		func() error { return b.until(0, "pub", "before", "two") },
		func() error { return b.until(0, "room", "create", "after") },
		func() error { return b.expect(0, "one\ntwo\n", "sub", "before", "--all", "--end") },
		func() error { return healthy(http, 200, "ok") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// filled writes until there is no room.
func filled(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, size := range []int{64 << 10, 4 << 10} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return nil
}

func healthy(address string, code int, text string) error {
	answer, err := http.Get("http://" + address + "/healthz")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != code || !strings.Contains(string(body), text) {
		return fmt.Errorf("healthz: %d %s, %v", answer.StatusCode, body, err)
	}
	return nil
}

func (b *bus) command(args ...string) *exec.Cmd {
	c := exec.Command(b.unibus, args...)
	c.Env = append(os.Environ(), "HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir, "XDG_STATE_HOME="+b.dir, "XDG_DATA_HOME="+b.dir, "UNIBUS_SERVER="+b.server)
	return c
}

// expect runs a command, which has to end with a code, having said something.
func (b *bus) expect(code int, text string, args ...string) error {
	out, err := b.command(args...).CombinedOutput()
	got, err := run.Ended(err)
	if err != nil {
		return err
	}
	if got != code || !strings.Contains(string(out), text) {
		return fmt.Errorf("unibus %s ended with %d: %s", strings.Join(args[:2], " "), got, out)
	}
	return nil
}

// until runs a command again until it ends with a code.
func (b *bus) until(code int, args ...string) (err error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err = b.expect(code, "", args...); err == nil {
			return nil
		}
	}
	return err
}

// wait waits for serve, which is gone within 5 s of a signal.
func wait(c *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(5 * time.Second):
		return errors.Join(errors.New("serve does not end"), c.Process.Kill())
	}
}
