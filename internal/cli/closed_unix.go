//go:build unix

package cli

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// closedPoll is how often it is looked whether waiting for an end of reading goes on.
const closedPoll = 500 * time.Millisecond

// unread waits until nobody reads a pipe any more, and reports whether that is so: not when ctx ends before, nor of a file
// that is no pipe.
func unread(ctx context.Context, pipe *os.File) bool {
	info, err := pipe.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return false
	}
	poll := []unix.PollFd{{Fd: int32(pipe.Fd())}} // no event is asked for: an end is told in any case
	for ctx.Err() == nil {
		n, err := unix.Poll(poll, int(closedPoll.Milliseconds()))
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return false
		case n > 0:
			return poll[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
		}
	}
	return false
}
