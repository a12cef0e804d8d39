package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// This file has a reader run while the damage is done, and counts what it gets of what is written afterwards.

// follower is a reader that runs while the damage is done.
type follower struct {
	cmd  *exec.Cmd
	out  *bufio.Reader
	said strings.Builder // what it writes besides messages; to be read once it has ended
}

// startFollower starts a follower, and returns when it has read the last message there is. It runs until it ends by
// itself, or ctx does.
func startFollower(ctx context.Context, s *site) (*follower, error) {
	f := &follower{cmd: s.command(ctx, "reader", "sub", subject, "--last", "1")}
	f.cmd.Stderr = &f.said
	out, err := f.cmd.StdoutPipe()
	if err == nil {
		err = f.cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	f.out = bufio.NewReader(out)
	if _, err := f.out.ReadString('\n'); err != nil {
		_ = f.cmd.Cancel() // it may have ended
		return nil, errors.Join(fmt.Errorf("the reader that follows: %w", err), f.cmd.Wait())
	}
	return f, nil
}

// missing reads on until the follower has had so many of the messages that are written after the damage, or has ended,
// and returns how many it has not had.
func (f *follower) missing(n int) int {
	for text, err := f.out.ReadString('\n'); err == nil; text, err = f.out.ReadString('\n') {
		if strings.HasSuffix(text, " after\n") {
			if n--; n == 0 {
				break
			}
		}
	}
	return n
}
