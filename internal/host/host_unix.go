//go:build linux || darwin

package host

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// DiskOf returns the state of the file system that holds a folder. Its error says that there is no such folder, or that it
// may not be looked at.
func DiskOf(dir string) (Disk, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Disk{}, fmt.Errorf("look at the disk of %s: %w", dir, err)
	}
	size := uint64(s.Bsize)
	used := s.Blocks - s.Bfree
	return Disk{Free: s.Bavail * size, Total: (used + s.Bavail) * size}, nil
}

// maxFiles is how many descriptors this process may have now (the soft limit).
func maxFiles() (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("look at the limit of open files: %w", err)
	}
	return r.Cur, nil
}

// noneLeft reports whether an error says that this process, or the system, has no descriptors left.
func noneLeft(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }
