package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/unibus/unibus/test/run"
)

// Lines name their series and their place in it, so that readers can be judged one line after the other:
// within a series they count from 0.

// line is the nth of a series, filled up to a length.
func line(series string, n, length int) string {
	s := fmt.Sprintf("%s %d ", series, n)
	return s + strings.Repeat("x", max(0, length-len(s)-1)) + "\n"
}

// seen is how many lines of each series have been read.
type seen map[string]int

// take reads lines until there are no more. A line that is not the next of its series is an error.
func (s seen) take(r io.Reader) error {
	lines := bufio.NewReaderSize(r, 256<<10)
	for {
		text, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		series, rest, _ := bytes.Cut(text, []byte(" "))
		n := 0
		for _, digit := range rest {
			if digit < '0' || digit > '9' {
				break
			}
			n = 10*n + int(digit-'0')
		}
		if want := s[string(series)]; n != want {
			return fmt.Errorf("line %d of %s where %d comes next", n, series, want)
		}
		s[string(series)]++
	}
}

// has checks that all lines that were acknowledged have been read.
func (s seen) has(acknowledged seen) error {
	for series, n := range acknowledged {
		if s[series] < n {
			return fmt.Errorf("%d of the %d acknowledged lines of %s", s[series], n, series)
		}
	}
	return nil
}

// total is the number of lines.
func (s seen) total() (n int) {
	for _, lines := range s {
		n += lines
	}
	return n
}

// reading is what a run of sub came to.
type reading struct {
	seen seen
	code int    // with which it ended
	said string // on stderr
	bad  error  // a line that should not have come
}

// String describes a reading for a report.
func (r reading) String() string {
	return fmt.Sprintf("%d lines, exit %d, %v: %s", r.seen.total(), r.code, r.bad, strings.TrimSpace(r.said))
}

// sub reads by way of a node. It returns an error only if it could not be run.
func (c *cluster) sub(ctx context.Context, n *run.Node, args ...string) (reading, error) {
	cmd := c.Founder.Command(ctx, n.URL(), append([]string{"sub"}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(&said, c.Log("readers"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return reading{}, err
	}
	if err := cmd.Start(); err != nil {
		return reading{}, err
	}
	r := reading{seen: seen{}}
	r.bad = r.seen.take(out)
	if r.bad != nil {
		_, _ = io.Copy(io.Discard, out) // so that it ends by itself
	}
	err = cmd.Wait()
	r.code, r.said = cmd.ProcessState.ExitCode(), said.String()
	var exit *exec.ExitError
	if errors.As(err, &exit) || errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return r, err
}

// pub starts unibus pub with a pipe. end waits for it; its error says what is wrong.
func (c *cluster) pub(ctx context.Context, servers string, args ...string) (in io.WriteCloser, end func() error, err error) {
	cmd := c.Founder.Command(ctx, servers, append([]string{"pub"}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(&said, c.Log("writers"))
	if in, err = cmd.StdinPipe(); err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return in, func() error {
		in.Close()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("pub: %w: %s", err, strings.TrimSpace(said.String()))
		}
		return nil
	}, nil
}

// series publishes the lines of a series from a pipe.
func (c *cluster) series(ctx context.Context, servers, room, name string, lines, length int) error {
	in, end, err := c.pub(ctx, servers, room)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(in)
	for i := range lines {
		if _, err = w.WriteString(line(name, i, length)); err != nil {
			break
		}
	}
	return errors.Join(end1(w.Flush, end)...)
}

// end1 flushes before it ends; what pub says of itself tells more than a broken pipe.
func end1(flush, end func() error) []error {
	flushed := flush()
	if err := end(); err != nil {
		return []error{err}
	}
	return []error{flushed}
}
