//go:build unix

package cli

import (
	"context"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// unread waits until nobody reads a pipe any more, and reports whether that is so: not when ctx ends before, nor of a file
// that is no pipe.
func unread(ctx context.Context, pipe *os.File) bool {
	info, err := pipe.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return false
	}
	ended, end, err := os.Pipe()
	if err != nil {
		return false
	}
	defer ended.Close()
	stop := context.AfterFunc(ctx, func() { end.Close() })
	defer func() {
		if stop() {
			end.Close()
		}
	}()
	poll := []unix.PollFd{{Fd: int32(pipe.Fd())}, {Fd: int32(ended.Fd())}} // no event is asked for: an end is told in any case
	for {
		_, err := unix.Poll(poll, -1)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		return err == nil && ctx.Err() == nil && poll[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
	}
}
