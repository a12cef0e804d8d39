//go:build !linux && !darwin

package host

// DiskOf is not known here.
func DiskOf(string) (Disk, error) { return Disk{}, ErrUnknown }

func maxFiles() (uint64, error) { return 0, ErrUnknown }

func noneLeft(error) bool { return false }
