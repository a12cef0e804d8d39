// Package host tells what this machine has left: room on a disk, and files that a process may still open.
// It knows nothing of what needs them.
package host

import (
	"errors"
	"fmt"
	"os"
)

// FullBelow is how much room a disk has at most when it counts as full: files are still opened, renamed
// and synced with so little, but what is to be kept is no longer written. It has room again from twice as
// much, so that it does not change all the time.
const FullBelow = 1 << 20

// Nearly is the share of a disk or of the descriptors from which there is reason to say so.
const Nearly = 0.9

// ErrUnknown says that this system does not tell.
var ErrUnknown = errors.New("not known on this system")

// Disk is the file system of a folder, in bytes.
type Disk struct {
	Free  uint64 // that whoever is not root may use
	Total uint64 // of which this user may use
}

// Full reports whether nothing more can be kept there.
func (d Disk) Full() bool { return d.Free < FullBelow }

// HasRoom reports whether something can be kept there again after it was full.
func (d Disk) HasRoom() bool { return d.Free >= 2*FullBelow }

// Used is the share in use, 0 to 1.
func (d Disk) Used() float64 {
	if d.Total == 0 {
		return 0
	}
	return 1 - float64(d.Free)/float64(d.Total)
}

// String says how much is left.
func (d Disk) String() string {
	return fmt.Sprintf("%d MiB of %d MiB left", d.Free>>20, d.Total>>20)
}

// Descriptors are the files, connections included, that this process has open, and how many it may have.
type Descriptors struct{ Used, Limit uint64 }

// OpenFiles counts the descriptors of this process. When none is left, not even for counting, all are in
// use.
func OpenFiles() (Descriptors, error) {
	limit, err := maxFiles()
	if err != nil {
		return Descriptors{}, err
	}
	for _, dir := range []string{"/proc/self/fd", "/dev/fd"} {
		entries, err := os.ReadDir(dir)
		if noneLeft(err) {
			return Descriptors{limit, limit}, nil
		}
		if err == nil {
			return Descriptors{uint64(len(entries)) - 1, limit}, nil // less the one that reads
		}
	}
	return Descriptors{}, ErrUnknown
}

// Share is the share in use, 0 to 1.
func (d Descriptors) Share() float64 {
	if d.Limit == 0 {
		return 0
	}
	return float64(d.Used) / float64(d.Limit)
}
