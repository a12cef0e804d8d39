// Package host tells what this machine has left of two things that a server runs out of: room on a disk (Disk), and file
// descriptors of this process (Descriptors); and where others reach it (Address). On systems that do not tell it is ErrUnknown. What needs them, and what is
// done when there are none, is left to its callers.
package host

import (
	"errors"
	"fmt"
	"os"
)

// FullBelow is the number of free bytes below which a disk counts as full: with so few, files can still be opened, renamed
// and synced, but what is to be kept is not written any more. It has room again from twice as many on, so that it does not
// change all the time.
const FullBelow = 1 << 20

// Nearly is the share in use, of a disk or of descriptors, from which on an operator is warned.
const Nearly = 0.9

// ErrUnknown says that the operating system does not tell.
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

// OpenFiles counts the descriptors of this process. Counting takes one itself: when there is none left for it, all are in
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
