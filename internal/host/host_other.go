//go:build !linux && !darwin

package host

// DiskOf returns ErrUnknown: no other systems than those of host_unix.go are asked.
func DiskOf(string) (Disk, error) { return Disk{}, ErrUnknown }

// maxFiles is how many descriptors a process may have.
func maxFiles() (uint64, error) { return 0, ErrUnknown }

// noneLeft reports whether an error says that there are no descriptors left.
func noneLeft(error) bool { return false }
