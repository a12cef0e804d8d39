package pins

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/unibus/unibus/internal/newfile"
)

// What was written last is in SQLite's write-ahead log, and one flipped bit there takes it back without a word. So how
// often anything was changed is written to a file beside the pins as well, after each change. Pins with fewer changes
// are damaged, or an older copy; with more, they were written to by a process that was killed in between.
const (
	changesSuffix = ".changes"
	changesSize   = 8 + 4 // the number, and its checksum
)

// countChanges is how often the database was changed, as it says itself.
func countChanges(ctx context.Context, in querier) (n uint64, err error) {
	if err := in.QueryRowContext(ctx, `SELECT sum(changes) FROM counts`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the changes: %w", failure(err))
	}
	return n, nil
}

// changesFile is the file beside the pins. All processes of the identity write it, each what it knows.
type changesFile struct{ path string }

// rereads is how often a record is read that looks damaged: another process may be writing it.
const rereads = 16

// read is how often the pins were changed at least; 0 when nothing says.
func (c changesFile) read() (n uint64, err error) {
	for range rereads {
		if n, err = c.readOnce(); !errors.Is(err, ErrDamaged) {
			return n, err
		}
	}
	return n, err
}

// readOnce reads the record as it is now, which may be half written.
func (c changesFile) readOnce() (uint64, error) {
	f, err := os.Open(c.path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var record [changesSize]byte
	_, err = io.ReadFull(f, record[:])
	if err != nil || binary.BigEndian.Uint32(record[8:]) != crc32.ChecksumIEEE(record[:8]) {
		return 0, fmt.Errorf("%w: %s", ErrDamaged, c.path)
	}
	return binary.BigEndian.Uint64(record[:]), nil
}

// write says that the pins were changed so often by now, unless another process has written that it is more.
func (c changesFile) write(now uint64, how durability) error {
	before, err := c.read()
	if err != nil || before >= now {
		return err
	}
	record := binary.BigEndian.AppendUint64(nil, now)
	record = binary.BigEndian.AppendUint32(record, crc32.ChecksumIEEE(record))
	f, err := os.OpenFile(c.path, os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return notKept(newfile.Replace(c.path, record))
	}
	if err != nil {
		return notKept(err)
	}
	_, err = f.Write(record)
	if err == nil && how == durable {
		err = f.Sync()
	}
	return notKept(errors.Join(err, f.Close()))
}
