//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/unibus/unibus/test/run"
)

// clock is the program with a clock that can be set. The program has no such thing itself: it is built with another
// client.go, in which the clock of writers (PROTOCOL.md §6) reads an offset from a file.
type clock struct {
	binary string
	file   string // the offset; each process may have one of its own
}

const offsetVariable = "HONEST_CLOCK"

// shifted is the file that the program is built with besides.
const shifted = `package unibus

import (
	"os"
	"strings"
	"time"
)

// shiftedNow is the time, and the offset that a file names.
func shiftedNow() time.Time {
	text, _ := os.ReadFile(os.Getenv("` + offsetVariable + `"))
	offset, _ := time.ParseDuration(strings.TrimSpace(string(text)))
	return time.Now().Add(offset)
}
`

func newClock(ctx context.Context, dir string) (*clock, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	source := filepath.Join(string(bytes.TrimSpace(root)), "client.go")
	changed, err := withShiftedClock(source)
	if err != nil {
		return nil, err
	}
	file, err := run.Overlay(dir, map[string][]byte{
		source: changed,
		filepath.Join(filepath.Dir(source), "shifted.go"): []byte(shifted),
	})
	if err != nil {
		return nil, err
	}
	c := &clock{binary: filepath.Join(dir, "unibus-shifted"), file: filepath.Join(dir, "offset")}
	out, err := exec.CommandContext(ctx, "go", "build", "-overlay", file, "-o", c.binary, "./cmd/unibus").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return c, nil
}

// withShiftedClock is the client.go at source with the clock of shifted.
func withShiftedClock(source string) ([]byte, error) {
	client, err := os.ReadFile(source)
	if err != nil {
		return nil, err
	}
	changed := bytes.Replace(client, []byte("Now: time.Now,"), []byte("Now: shiftedNow,"), 1)
	if bytes.Equal(changed, client) {
		return nil, fmt.Errorf("%s: the clock is not where it was", source)
	}
	return changed, nil
}

// of is a peer whose clock is set by set, by a name that nobody else uses.
func (c *clock) of(p run.Peer, name string) (shifted run.Peer, set func(time.Duration) error, env string) {
	file := c.file + "-" + name
	p.Binary = c.binary
	return p, func(d time.Duration) error { return os.WriteFile(file, []byte(d.String()), 0o600) }, offsetVariable + "=" + file
}
