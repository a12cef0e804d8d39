//go:build linux || darwin

package host

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDisk(t *testing.T) {
	d, err := DiskOf(t.TempDir())
	if err != nil || d.Total == 0 || d.Free > d.Total {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := DiskOf("/nonexistent"); err == nil {
		t.Error("a folder that is not there has a disk")
	}
	for _, c := range []struct {
		d             Disk
		full, hasRoom bool
	}{
		{Disk{0, 100 << 20}, true, false},
		{Disk{FullBelow - 1, 100 << 20}, true, false},
		{Disk{FullBelow, 100 << 20}, false, false},
		{Disk{2 * FullBelow, 100 << 20}, false, true},
	} {
		if c.d.Full() != c.full || c.d.HasRoom() != c.hasRoom {
			t.Errorf("%v: full %v, room %v", c.d, c.d.Full(), c.d.HasRoom())
		}
	}
	if got := (Disk{10, 100}).Used(); got != 0.9 {
		t.Errorf("used %v", got)
	}
}

func TestOpenFiles(t *testing.T) {
	before, err := OpenFiles()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	after, err := OpenFiles()
	if err != nil || after.Used != before.Used+1 || after.Limit != before.Limit {
		t.Errorf("%+v, then %+v, %v", before, after, err)
	}
}

// TestNoneLeft: counting needs a descriptor itself.
func TestNoneLeft(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := old
	few.Cur = 3 // what has this number or a higher one stays open; nothing more is opened
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	if d, err := OpenFiles(); err != nil || d.Share() < 1 {
		t.Errorf("%+v, %v", d, err)
	}
}
