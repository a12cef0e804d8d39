package pins

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"github.com/unibus/unibus/internal/host"
	"github.com/unibus/unibus/internal/newfile"
)

// What was written last is in SQLite's write-ahead log, and one flipped bit there takes it back without a word. So how
// often anything was changed is written to a file beside the pins as well, after each change. Pins with fewer changes
// are damaged, or an older copy; with more, they were written to by a process that was killed in between. Changes that did not
// wait for the disk may be lost when the machine is, while their count is not: after that only those that did are insisted on.
const (
	changesSuffix = ".changes"
	changesSize   = 3*8 + 4 // all, those that waited, the boot, and a checksum
	oldSize       = 8 + 4   // what an earlier build wrote: all, and a checksum; of none is known that it waited
)

// changeCount is how often the pins were changed.
type changeCount struct {
	all    uint64 // by boot
	waited uint64 // up to the last change that waited for the disk
	boot   uint64 // what names that of the machine; 0 where nothing does
}

// least is how often they were changed at least, as seen in a boot.
func (n changeCount) least(boot uint64) uint64 {
	if boot != 0 && n.boot == boot {
		return n.all
	}
	return n.waited
}

// after is the count after a change, which is the one of that number, in a boot.
func (n changeCount) after(number uint64, how durability, boot uint64) changeCount {
	n.all, n.boot = max(n.least(boot), number), boot
	if how == durable {
		n.waited = max(n.waited, number)
	}
	return n
}

// record is the count as it is written.
func (n changeCount) record() []byte {
	record := binary.BigEndian.AppendUint64(nil, n.all)
	record = binary.BigEndian.AppendUint64(record, n.waited)
	record = binary.BigEndian.AppendUint64(record, n.boot)
	return binary.BigEndian.AppendUint32(record, crc32.ChecksumIEEE(record))
}

// readCount reads a record; false for what is none.
func readCount(record []byte) (n changeCount, ok bool) {
	if len(record) != changesSize && len(record) != oldSize {
		return n, false
	}
	body := record[:len(record)-4]
	if binary.BigEndian.Uint32(record[len(body):]) != crc32.ChecksumIEEE(body) {
		return n, false
	}
	n.all = binary.BigEndian.Uint64(body)
	if len(record) == changesSize {
		n.waited, n.boot = binary.BigEndian.Uint64(body[8:]), binary.BigEndian.Uint64(body[16:])
	}
	return n, true
}

// thisBoot names the boot of this machine.
func thisBoot() uint64 {
	name := host.Boot()
	if name == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(name))
	return binary.BigEndian.Uint64(sum[:])
}

// countChanges is how often the database was changed, as it says itself.
func countChanges(ctx context.Context, in querier) (n uint64, err error) {
	if err := in.QueryRowContext(ctx, `SELECT sum(changes) FROM counts`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the changes: %w", failure(err))
	}
	return n, nil
}

// changesFile is the file beside the pins. All processes of the identity write it, one after the other.
type changesFile struct {
	pins string // the path of the pins
	boot uint64 // this one
}

// path is where the file is.
func (c changesFile) path() string { return c.pins + changesSuffix }

// relock is how often a process looks whether it may write the file, which another has for some microseconds.
const relock = time.Millisecond

// rereads is how often a record is read that looks damaged: another process may be writing it.
const rereads = 16

// least is how often the pins were changed at least; 0 when nothing says.
func (c changesFile) least() (uint64, error) {
	n, err := c.read()
	return n.least(c.boot), err
}

// read reads the count; none when there is no file.
func (c changesFile) read() (n changeCount, err error) {
	for range rereads {
		f, err := os.Open(c.path())
		if errors.Is(err, os.ErrNotExist) {
			return changeCount{}, nil
		}
		if err != nil {
			return changeCount{}, err
		}
		record, err := io.ReadAll(io.LimitReader(f, changesSize+1))
		_ = f.Close() // it was only read
		if n, ok := readCount(record); ok && err == nil {
			return n, nil
		}
	}
	return changeCount{}, fmt.Errorf("%w: %s", ErrDamaged, c.path())
}

// write counts a change, the one of that number. One process at a time reads the count and writes the next: of two at once,
// one would take back what the other has counted.
func (c changesFile) write(number uint64, how durability) error {
	lock := lockOf(c.pins)
	ctx, cancel := context.WithTimeout(context.Background(), busy)
	defer cancel()
	if _, err := lock.TryLockContext(ctx, relock); errors.Is(err, context.DeadlineExceeded) {
		return heldTooLong()
	} else if err != nil {
		return notKept(err)
	}
	f, err := c.writeLocked(number, how)
	err = errors.Join(err, lock.Close())
	if f == nil {
		return notKept(err)
	}
	if err == nil && how == durable { // others need not wait for the disk
		err = f.Sync()
	}
	return notKept(errors.Join(err, f.Close()))
}

// writeLocked is write in the one process that may. It returns the file where that was written to in place, which is not
// synced yet.
func (c changesFile) writeLocked(number uint64, how durability) (*os.File, error) {
	before, err := c.read()
	if err != nil {
		return nil, err
	}
	now := before.after(number, how, c.boot)
	if now == before {
		return nil, nil
	}
	f, err := os.OpenFile(c.path(), os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil, newfile.Replace(c.path(), now.record())
	}
	if err != nil {
		return nil, err
	}
	_, err = f.Write(now.record())
	return f, err
}
